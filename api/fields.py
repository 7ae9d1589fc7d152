"""Marshmallow fields that take JSON literally, and the messages of what they refuse.

A number is a JSON number (20.0 counts as 20), a boolean is `true` or `false`, a string is a string. Bounds come
from `shared.spec.BOUNDS`, so the OpenAPI document shows what the queue enforces.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from marshmallow import ValidationError, fields, validate

from shared.errors import InvalidField, MissingField, PromptTooLong, TaskNotAvailable, UnknownField
from shared.inputs import Inline, Remote, parse_source
from shared.spec import BOUNDS

REQUIRED: Final = "is required"
UNKNOWN: Final = "there is no such field"
NOT_AVAILABLE: Final = "is not available in this version"
TOO_LONG: Final = f"must have at most {BOUNDS['prompt'].maximum:,} characters"
_KINDS: Final[dict[str, type[InvalidField]]] = {
    REQUIRED: MissingField,
    UNKNOWN: UnknownField,
    NOT_AVAILABLE: TaskNotAvailable,
    TOO_LONG: PromptTooLong,
}


def faults(messages: Mapping[str, Any]) -> list[InvalidField]:
    """Return what marshmallow found wrong (field -> messages) as our own errors, in the schema's order."""
    return [
        _KINDS.get(message, InvalidField)(name, message) for name, found in messages.items() for message in _flat(found)
    ]


def _flat(messages: Any) -> Iterable[str]:
    if isinstance(messages, dict):
        messages = messages.values()
    elif isinstance(messages, str):
        return [messages]
    return [text for part in messages for text in _flat(part)]


def number(value: Any, *, whole: bool) -> int | float:
    """Return a JSON number, as an int where `whole`; `ValidationError` for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not _is_finite(value):
        raise ValidationError("must be a whole number" if whole else "must be a number")
    if not whole:
        return value
    if value != int(value):
        raise ValidationError("must be a whole number")
    return int(value)


def _is_finite(value: float) -> bool:
    return isinstance(value, int) or math.isfinite(value)


class WholeNumber(fields.Integer):
    """A JSON number without a fraction."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> int:  # noqa: ARG002 - theirs
        return int(number(value, whole=True))


class Number(fields.Float):
    """A JSON number."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> float:  # noqa: ARG002
        return number(value, whole=False)


class QueryNumber(fields.Integer):
    """A whole number in a query string."""

    default_error_messages = {"invalid": "must be a whole number", "too_large": "is too large"}  # noqa: RUF012


class Text(fields.String):
    """A JSON string of valid Unicode."""

    default_error_messages = {"invalid": "must be a string", "null": "must not be null"}  # noqa: RUF012

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        text: str = super()._deserialize(value, attr, data, **kwargs)
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise ValidationError("must be valid Unicode text")
        return text


class Flag(fields.Boolean):
    """`true` or `false`."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> bool:  # noqa: ARG002
        if not isinstance(value, bool):
            raise ValidationError("must be true or false")
        return value


class Seed(fields.Field[int | tuple[int | None, ...] | None]):
    """One seed, or a list with one seed or null per image."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:  # noqa: ARG002
        if isinstance(value, list):
            return tuple(None if seed is None else self._one(seed) for seed in value)
        return self._one(value)

    @staticmethod
    def _one(value: Any) -> int:
        seed = int(number(value, whole=True))
        between("seed")(seed)
        return seed


class TrackId(fields.Field[str | int]):
    """A caller's own reference: a string or an integer, given back as the type it came with."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str | int:
        if isinstance(value, str):
            return Text(validate=validate.Length(max=255, error="must have at most 255 characters")).deserialize(
                value, attr, data, **kwargs
            )
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValidationError("must be a string or an integer")
        if not -(2**63) <= value < 2**63:
            raise ValidationError("must be a 64-bit integer")
        return value


class ImageSource(fields.Field[Inline | Remote]):
    """An image: an address, a `data:` URI or base64; in a form also a file."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Inline | Remote:  # noqa: ARG002
        if isinstance(value, Inline):
            return value
        try:
            return parse_source(value, field=str(attr))
        except InvalidField as error:
            raise ValidationError(error.message) from error


class Known(validate.OneOf):
    """One of the given words."""

    def __init__(self, choices: Iterable[str]) -> None:
        words = tuple(choices)
        super().__init__(words, error=f"must be one of {', '.join(words)}")


def between(name: str) -> validate.Range:
    """Return the validator of a number's bounds."""
    bounds = BOUNDS[name]
    return validate.Range(
        min=_tidy(bounds.minimum),
        max=_tidy(bounds.maximum),
        error=f"must lie between {bounds.minimum:,} and {bounds.maximum:,}",
    )


def multiple_of(name: str) -> Callable[[int], None]:
    """Return the validator of a number's step."""
    step = BOUNDS[name].multiple_of

    def check(value: int) -> None:
        if value % step:
            raise ValidationError(f"must be a multiple of {step}")

    return check


def _tidy(value: float) -> float:
    return int(value) if value == int(value) else value
