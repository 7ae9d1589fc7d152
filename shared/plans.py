"""Plans: what an account may do. They are data: `plans.toml`, and the operator's own file (PLANS_FILE)."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Self

from shared.errors import ConfigurationError, Forbidden, InvalidField
from shared.job import PRIORITIES, Submission
from shared.setting_kinds import read_rate
from shared.settings import Settings
from shared.tables import checked, read_toml

SHIPPED: Final = Path(__file__).parent / "plans.toml"
VARIABLE: Final = "PLANS_FILE"


class PlanLimit(InvalidField):
    """The account's plan does not allow that much."""

    code = "plan_limit"


class UnknownPlan(Forbidden):
    """The account's plan is not known here; ask the operator."""

    code = "unknown_plan"


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What an account may do; `plans.toml` describes each. None: no bound but the general one."""

    name: str
    max_waiting: int
    max_running: int
    weight: int = 1
    priority: str = "normal"
    max_priority: str = "high"
    start_deadline_s: int | None = None
    run_deadline_s: int | None = None
    max_pixels: int | None = None
    max_steps: int | None = None
    max_images: int | None = None
    #: As the limiter reads it: 10/second;600/minute. Empty: none.
    rate_limit: str = ""
    safety_off: bool = True

    def fit(self, submission: Submission) -> Submission:
        """Return the submission with the plan's priority and deadlines where it names none.

        `PlanLimit` naming the field where the plan allows less, `Forbidden` for the safety checker turned off.
        """
        spec = submission.spec
        if spec.safety == "off" and not self.safety_off:
            raise Forbidden("The account's plan does not let the safety checker be turned off.")
        self._bound("num_inference_steps", spec.num_inference_steps, self.max_steps)
        self._bound("num_images", spec.num_images, self.max_images)
        self._bound("width", spec.width * spec.height, self.max_pixels, what="width times height ")
        return replace(
            submission,
            priority=self._priority(submission.priority),
            start_deadline_s=self._deadline("start_deadline_s", submission.start_deadline_s),
            run_deadline_s=self._deadline("run_deadline_s", submission.run_deadline_s),
        )

    def _priority(self, asked: str | None) -> str:
        if asked is not None and PRIORITIES.index(asked) < PRIORITIES.index(self.max_priority):
            raise PlanLimit("priority", f"must be at most {self.max_priority} with the plan {self.name!r}")
        return asked or self.priority

    def _deadline(self, field: str, asked: float | None) -> float | None:
        most = getattr(self, field)
        self._bound(field, asked or 0, most)
        return asked or most

    def _bound(self, field: str, value: float, most: int | None, *, what: str = "") -> None:
        if most is not None and value > most:
            raise PlanLimit(field, f"{what}must be at most {most} with the plan {self.name!r}")


class Plans(Mapping[str, Plan]):
    """Every plan, by its name."""

    def __init__(self, plans: Mapping[str, Plan]) -> None:
        self._plans = dict(plans)

    @classmethod
    def load(cls, settings: Settings) -> Self:
        """Read the shipped plans and the operator's; `ConfigurationError` where that cannot be."""
        tables = read_toml(SHIPPED, variable=VARIABLE)["plans"]
        if settings.plans_file is not None:
            tables = _merged(tables, settings.plans_file)
        try:
            plans = {name: _plan(name, values) for name, values in tables.items()}
        except ValueError as error:
            raise ConfigurationError(VARIABLE, f"{settings.plans_file or SHIPPED}: {error}") from error
        for name, limit in settings.rate_limits:
            if name in plans:
                plans[name] = replace(plans[name], rate_limit=limit)
        return cls(plans)

    def __getitem__(self, name: str) -> Plan:
        return self._plans[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._plans)

    def __len__(self) -> int:
        return len(self._plans)

    def of(self, name: str) -> Plan:
        """Return an account's plan; `UnknownPlan` where the operator's file has it no more."""
        try:
            return self._plans[name]
        except KeyError:
            raise UnknownPlan from None


def _merged(shipped: Mapping[str, Any], path: Path) -> dict[str, Any]:
    own = read_toml(path, variable=VARIABLE)
    plans = own.get("plans", {})
    if set(own) - {"plans"} or not isinstance(plans, dict):
        raise ConfigurationError(VARIABLE, f"{path}: it takes tables [plans.NAME] and nothing else")
    told = {name: values if isinstance(values, dict) else {"": values} for name, values in plans.items()}
    return {**shipped, **{name: {**shipped.get(name, {}), **values} for name, values in told.items()}}


def _plan(name: str, values: Any) -> Plan:
    place = f"plans.{name}"
    found = checked(Plan, values, place=place)
    for key in ("max_waiting", "max_running"):
        if key not in found:
            raise ValueError(f"[{place}] needs {key}")
    for key, number in found.items():
        if isinstance(number, int) and not isinstance(number, bool) and number < 1:
            raise ValueError(f"[{place}] {key} must be at least 1")
    for key in ("priority", "max_priority"):
        if found.get(key, "normal") not in PRIORITIES:
            raise ValueError(f"[{place}] {key} must be one of {', '.join(PRIORITIES)}, not {found[key]!r}")
    plan = Plan(name=name, **{**found, "rate_limit": read_rate(found.get("rate_limit", "off"))})
    if PRIORITIES.index(plan.priority) < PRIORITIES.index(plan.max_priority):
        raise ValueError(f"[{place}] priority must not be above max_priority")
    return plan
