"""What jobs cost, in millicredits: 1 credit is 1,000 of them. Whole numbers only.

The rules are the providers' own, and data: `prices.toml`, and the operator's file (PRICES_FILE). A price is reserved
when a job is submitted and settled when it succeeds, for the images that were delivered; all else is refunded. That
happens in the backlog's scripts.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Self, TypeVar

from shared.errors import ConfigurationError
from shared.job import Submission
from shared.settings import Settings
from shared.spec import JobSpec
from shared.tables import checked, read_toml

SHIPPED: Final = Path(__file__).parent / "prices.toml"
VARIABLE: Final = "PRICES_FILE"
MILLICREDITS: Final = 1000
_DIVISORS: Final = frozenset({"pixels", "steps", "credits_per_dollar"})

Rule = TypeVar("Rule")


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageRule:
    """So much per image, in proportion to its pixels and steps; then hundredths for what is special about it."""

    millicredits: int
    pixels: int
    steps: int
    premium_percent: int
    premium_schedulers: tuple[str, ...]
    asset_percent: int
    inpaint_percent: int
    outpaint_percent: int

    def price(self, spec: JobSpec, *, premium: bool) -> int:
        """Return what a job costs; `premium`: whether premium samplers cost more."""
        area = spec.width * spec.height * spec.num_inference_steps
        one = -(-self.millicredits * area // (self.pixels * self.steps))
        for percent in self._percents(spec, premium=premium):
            one = -(-one * percent // 100)
        return one * spec.num_images

    def _percents(self, spec: JobSpec, *, premium: bool) -> list[int]:
        found = []
        if premium and spec.scheduler in self.premium_schedulers:
            found.append(self.premium_percent)
        if spec.loras or spec.vae or spec.textual_inversions or spec.controlnets:
            found.append(self.asset_percent)
        if spec.mask_image is not None:
            found.append(self.outpaint_percent if spec.outpainting else self.inpaint_percent)
        return found


@dataclass(frozen=True, kw_only=True, slots=True)
class SuccessRule:
    """So much for a success, by size and steps, between a least and a most."""

    unit: int
    units: int
    pixels: int
    steps: int
    least: int
    most: int

    def price(self, spec: JobSpec) -> int:
        """Return what a job costs."""
        begun = -(-self.units * spec.width * spec.height * spec.num_inference_steps // (self.pixels * self.steps))
        return min(self.most, max(self.least, self.unit * begun))


@dataclass(frozen=True, kw_only=True, slots=True)
class TuneRule:
    """So much for training, in proportion to its steps."""

    millicredits: int
    steps: int

    def price(self, steps: int) -> int:
        """Return what training with so many steps costs."""
        return -(-self.millicredits * steps // self.steps)


@dataclass(frozen=True, kw_only=True, slots=True)
class Terms:
    """How jobs of one dialect are priced."""

    rule: str = "image"
    premium: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class _Model:
    """What an operator says of one model under [image]."""

    millicredits: int
    pixels: int = 0
    steps: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Prices:
    """Every price."""

    image: ImageRule
    success: SuccessRule
    tune: TuneRule
    credits_per_dollar: int
    #: Models with an image rule of their own.
    models: Mapping[str, ImageRule] = field(default_factory=dict)
    dialects: Mapping[str, Terms] = field(default_factory=dict)

    def of(self, submission: Submission) -> int:
        """Return what a job costs whose model is the catalog's own name."""
        spec, terms = submission.spec, self.dialects.get(submission.dialect, Terms())
        if terms.rule == "success":
            return self.success.price(spec)
        return self.models.get(spec.model, self.image).price(spec, premium=terms.premium)

    @classmethod
    def load(cls, settings: Settings) -> Self:
        """Read the shipped prices and the operator's; `ConfigurationError` where that cannot be."""
        tables = read_toml(SHIPPED, variable=VARIABLE)
        if settings.prices_file is not None:
            tables = _merged(tables, read_toml(settings.prices_file, variable=VARIABLE))
        try:
            return cls(**_parts(tables))
        except ValueError as error:
            raise ConfigurationError(VARIABLE, f"{settings.prices_file or SHIPPED}: {error}") from error


def _merged(shipped: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    both = shipped.keys() & own.keys()
    nested = {
        key: _merged(shipped[key], own[key])
        for key in both
        if isinstance(shipped[key], dict) and isinstance(own[key], dict)
    }
    return {**shipped, **own, **nested}


def _parts(tables: Mapping[str, Any]) -> dict[str, Any]:
    values = _positive(checked(Prices, tables, place="prices"), "prices")
    image = _rule(ImageRule, values["image"], "image")
    return {
        **values,
        "image": image,
        "success": _rule(SuccessRule, values["success"], "success"),
        "tune": _rule(TuneRule, values["tune"], "tune"),
        "models": {name: _model_rule(image, name, told) for name, told in values.get("models", {}).items()},
        "dialects": {name: _terms(name, told) for name, told in values.get("dialects", {}).items()},
    }


def _rule(kind: type[Rule], values: Any, place: str) -> Rule:
    return kind(**_positive(checked(kind, values, place=place), place))


def _model_rule(image: ImageRule, name: str, told: Any) -> ImageRule:
    values = checked(_Model, told, place=f"models.{name}")
    if "millicredits" not in values:
        raise ValueError(f"[models.{name}] needs millicredits")
    return replace(image, **_positive(values, f"models.{name}"))


def _terms(name: str, told: Any) -> Terms:
    terms = Terms(**checked(Terms, told, place=f"dialects.{name}"))
    if terms.rule not in {"image", "success"}:
        raise ValueError(f"[dialects.{name}] rule must be image or success, not {terms.rule!r}")
    return terms


def _positive(values: dict[str, Any], place: str) -> dict[str, Any]:
    for key in sorted(values.keys() & _DIVISORS):
        if values[key] < 1:
            raise ValueError(f"[{place}] {key} must be at least 1")
    return values
