"""A job: what was asked, how it stands, and what came out. Frozen records, changed by copy."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from enum import StrEnum
from typing import Any, Final, Self

from shared.formats import format_of, known
from shared.spec import JobSpec, canonical_json


class Status(StrEnum):
    """Where a job stands."""

    QUEUED = "queued"  #: waits for a worker
    RUNNING = "running"  #: a worker holds its lease
    SUCCEEDED = "succeeded"  #: its images are stored
    FAILED = "failed"  #: it ended without images; `error` says why
    CANCELLED = "cancelled"  #: its owner or an operator ended it
    EXPIRED = "expired"  #: a deadline passed first

    @property
    def is_terminal(self) -> bool:
        """Whether the job has ended."""
        return self in TERMINAL


TERMINAL: Final = frozenset({Status.SUCCEEDED, Status.FAILED, Status.CANCELLED, Status.EXPIRED})
#: The states a caller is told of by webhook unless it asks otherwise.
DEFAULT_WEBHOOK_EVENTS: Final = tuple(str(s) for s in Status if s in TERMINAL)
#: What a caller may be told while a job is on its way: best effort, and not once the job has ended.
PASSING_WEBHOOK_EVENTS: Final = ("queued", "started", "progress")
#: The classes of jobs: higher ones go first.
PRIORITIES: Final = ("high", "normal", "low")
#: What records leave out: by then a job has its priority.
USUAL_PRIORITY: Final = "normal"
WEBHOOK_EVENTS: Final = (*PASSING_WEBHOOK_EVENTS, *DEFAULT_WEBHOOK_EVENTS)


@dataclass(frozen=True, kw_only=True, slots=True)
class Submission:
    """A job as it was accepted: the spec and what belongs to its caller. Immutable in Redis."""

    spec: JobSpec
    dialect: str = "native"
    track_id: str | int | None = None
    webhook_url: str | None = None
    webhook_events: tuple[str, ...] = DEFAULT_WEBHOOK_EVENTS
    #: One of `PRIORITIES`; None: the plan's.
    priority: str | None = None
    #: Seconds until the job must have started, and for which it may run; else it expires.
    start_deadline_s: float | None = None
    run_deadline_s: float | None = None
    #: What the dialect needs to answer this caller in its own way: names and plain values.
    options: tuple[tuple[str, str | int | float | bool], ...] = ()
    #: Fields of the request that the dialect does not know.
    ignored: tuple[str, ...] = ()
    #: Where it belongs in its trace, as W3C's `traceparent`; None where nothing is traced.
    trace: str | None = None
    #: The oldest format whose readers can draw the job.
    format: int = 1
    #: What a later version has written and this one does not know: part of the record, name and JSON of each.
    unknown: tuple[tuple[str, str, str], ...] = ()

    def __post_init__(self) -> None:
        """Raise the format to what the spec makes use of."""
        object.__setattr__(self, "format", max(self.format, format_of(self.spec)))

    def option(self, name: str) -> str | int | float | bool | None:
        """Return one of the dialect's options, None where it is not there."""
        return dict(self.options).get(name)

    @property
    def any_pool(self) -> bool:
        """Whether workers of any pool may take the job, not the account's own alone."""
        return bool(self.option("any_pool"))

    @property
    def max_prompt_tokens(self) -> int | None:
        """How many content tokens the prompt may have, as the model's own tokenizer counts them; None: any number."""
        found = self.option("max_prompt_tokens")
        return None if found is None else int(found)

    @property
    def flagged_fails(self) -> bool:
        """Whether the job fails, and costs nothing, where the safety checker flags one of its pictures."""
        return bool(self.option("flagged_fails"))

    @property
    def kept_s(self) -> int | None:
        """Seconds after its end that the job is kept, with its files; None: as long as all are."""
        found = self.option("kept_s")
        return None if found is None else int(found)

    def to_json(self) -> str:
        """Return compact JSON with only what differs from the defaults."""
        data: dict[str, Any] = {"spec": self.spec.to_dict()}
        for name in _SUBMISSION_DEFAULTS:
            value = getattr(self, name)
            if value != _SUBMISSION_DEFAULTS[name]:
                data[name] = value
        for part, name, value in self.unknown:
            (data[part] if part else data)[name] = json.loads(value)
        return canonical_json(data)

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read `to_json`'s form, and what later versions make of it."""
        record = json.loads(text)
        data = known(cls, record)
        unknown = [*_unknown("", record, data), *_unknown("spec", data["spec"], known(JobSpec, data["spec"]))]
        for name in ("webhook_events", "ignored"):
            if name in data:
                data[name] = tuple(data[name])
        if "options" in data:
            data["options"] = tuple((name, value) for name, value in data["options"])
        spec = JobSpec.from_dict(data["spec"])
        return cls(**{"priority": USUAL_PRIORITY, **data, "spec": spec, "unknown": tuple(unknown)})


def _unknown(part: str, record: Mapping[str, Any], read: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    yield from ((part, name, canonical_json(value)) for name, value in record.items() if name not in read)


#: What a record leaves out of itself; the spec is a part of its own, and so is what is not known.
_SUBMISSION_DEFAULTS: Final = {
    each.name: USUAL_PRIORITY if each.name == "priority" else each.default
    for each in fields(Submission)
    if each.name not in {"spec", "unknown"}
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Artifact:
    """One stored image."""

    key: str
    seed: int
    width: int
    height: int
    content_type: str
    bytes: int
    #: Whether the safety checker flagged it; what is stored is what `JobSpec.safety` makes of such a picture.
    flagged: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Preview:
    """A stored picture of how far one image of a running job was after so many evaluations of the network."""

    index: int
    step: int
    key: str
    width: int
    height: int
    content_type: str

    def to_json(self) -> str:
        """Return compact JSON."""
        return canonical_json(asdict(self))

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read `to_json`'s form."""
        return cls(**known(cls, json.loads(text)))


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """What a worker hands over when a job ends. Times are seconds."""

    artifacts: tuple[Artifact, ...] = ()
    #: The parameters that had an effect, with their values as used.
    parameters: Mapping[str, Any] = field(default_factory=dict)
    #: Stage -> seconds: load, generate, encode, store.
    timings: Mapping[str, float] = field(default_factory=dict)
    #: What computed it: torch, device, dtype, model hash.
    engine: Mapping[str, Any] = field(default_factory=dict)
    error: Mapping[str, Any] | None = None

    def to_json(self) -> str:
        """Return compact JSON."""
        return canonical_json(asdict(self))

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read `to_json`'s form."""
        data = known(cls, json.loads(text))
        return cls(**{**data, "artifacts": tuple(Artifact(**known(Artifact, a)) for a in data["artifacts"])})


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """A job's record as read. Times are epoch milliseconds, None where they have not come."""

    uid: int
    handle: str
    account: str
    status: Status
    submission: Submission
    attempts: int = 0
    created_ms: int = 0
    started_ms: int | None = None
    finished_ms: int | None = None
    step: int = 0
    steps: int = 0
    #: Jobs that run before this one, while queued; an estimate where several accounts wait.
    position: int | None = None
    #: What a queued job waits for: images, paused, no_worker, no_worker_for_model, no_worker_for_format, account_limit,
    #: other_jobs or a_free_worker.
    waits_for: str | None = None
    #: Seconds until it is expected to end; None where nothing can be said.
    eta_s: int | None = None
    fence: int = 0
    worker: str | None = None
    result: Result = Result()
    previews: tuple[Preview, ...] = ()

    def evolve(self, **changes: Any) -> Self:
        """Return a copy with the given fields changed."""
        return replace(self, **changes)
