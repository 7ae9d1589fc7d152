"""Reads a provider's fields one by one; names whatever is wrong, and whatever nobody asked for.

Null means omitted everywhere. A lenient reader takes numeric strings ("512", " 0.7 ") for numbers, as form fields and
many providers' clients send them; a strict one takes JSON's own types alone.
"""

import math
import re
from collections.abc import Collection, Mapping
from typing import Any, Final, TypeVar

from shared.errors import InvalidField, MissingField, PromptTooLong

T = TypeVar("T")

_NUMBER: Final = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?")
_LONGEST_NUMBER: Final = 40
#: Of fields that nobody asked for, so many are told, and so much of their names.
_MOST_IGNORED: Final = 100
_LONGEST_NAME: Final = 100
_YES: Final = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}


def filled(form: Mapping[str, str]) -> dict[str, str]:
    """Return a form's fields without those that hold nothing, which in a form are left out."""
    return {name: value for name, value in form.items() if value.strip()}


class Reader:
    """Takes fields out of a request. `ignored` names those that nobody took."""

    def __init__(self, values: Mapping[str, Any], *, lenient: bool) -> None:
        self._values = {name: value for name, value in values.items() if value is not None}
        self._names = tuple(values)
        self._lenient = lenient
        self._taken: set[str] = set()

    @property
    def ignored(self) -> tuple[str, ...]:
        """The fields that no read asked for, in the request's order; of very many, the first."""
        unasked = [name for name in self._names if name not in self._taken]
        return tuple(_legible(name) for name in unasked[:_MOST_IGNORED])

    def has(self, name: str) -> bool:
        """Whether a field is there and not null; counts as taken."""
        self._taken.add(name)
        return name in self._values

    def raw(self, name: str) -> Any:
        """Return a field as it came, None where it is missing."""
        self._taken.add(name)
        return self._values.get(name)

    def known(self, *names: str) -> None:
        """Take fields that have no effect, so that they do not count as ignored."""
        self._taken.update(names)

    def text(self, name: str, *, most: int, least: int = 0, default: T) -> str | T:
        """Return a string of `least` to `most` characters."""
        value = self.raw(name)
        if value is None:
            return default
        if not isinstance(value, str):
            raise InvalidField(name, "must be a string")
        if len(value) > most:
            kind = PromptTooLong if name in _PROMPTS else InvalidField
            raise kind(name, f"must have at most {most:,} characters, not {len(value):,}")
        if len(value.strip()) < least:
            raise MissingField(name, "must not be empty")
        if any("\ud800" <= character <= "\udfff" for character in value):  # halves of characters; cannot be stored
            raise InvalidField(name, "must be valid Unicode text")
        return value

    def required_text(self, name: str, *, most: int) -> str:
        """Return a string that must be there and must not be empty."""
        found = self.text(name, most=most, least=1, default=None)
        if found is None:
            raise MissingField(name, "is required")
        return found

    def integer(self, name: str, *, minimum: int, maximum: int, default: T, multiple_of: int = 1) -> int | T:
        """Return a whole number; 20.0 is one."""
        value = self._number(name, "must be a whole number")
        if value is None:
            return default
        if value != int(value):
            raise InvalidField(name, f"must be a whole number, not {value:g}")
        _check_range(name, value, minimum, maximum)
        if int(value) % multiple_of:
            raise InvalidField(name, f"must be a multiple of {multiple_of}, not {int(value)}")
        return int(value)

    def number(self, name: str, *, minimum: float, maximum: float, default: T, above: bool = False) -> float | T:
        """Return a number; with `above`, the minimum itself is too little."""
        value = self._number(name, "must be a number")
        if value is None:
            return default
        _check_range(name, value, minimum, maximum)
        if above and value <= minimum:
            raise InvalidField(name, f"must be greater than {minimum:g}")
        return float(value)

    def choice(self, name: str, allowed: Collection[str], *, default: T) -> str | T:
        """Return one of the given words, spelled exactly so."""
        value = self.raw(name)
        if value is None:
            return default
        if not isinstance(value, str) or value not in allowed:
            raise InvalidField(name, f"must be one of {', '.join(allowed)}")
        return value

    def flag(self, name: str, *, default: bool) -> bool:
        """Return a boolean; a lenient reader takes "yes" and "no" too."""
        value = self.raw(name)
        if value is None:
            return default
        if isinstance(value, bool):
            return value
        word = str(value).strip().lower()
        if not self._lenient or word not in _YES:
            raise InvalidField(name, "must be yes or no" if self._lenient else "must be true or false")
        return _YES[word]

    def _number(self, name: str, message: str) -> float | None:
        value = self.raw(name)
        if value is None or (self._lenient and value == ""):
            return None
        if self._lenient and isinstance(value, str):
            text = value.strip()
            if len(text) > _LONGEST_NUMBER or not _NUMBER.fullmatch(text):
                raise InvalidField(name, message)
            value = float(text) if set(text) & set(".eE") else int(text)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise InvalidField(name, message)
        if isinstance(value, float) and not math.isfinite(value):  # an int may be too large to be a float
            raise InvalidField(name, message)
        return value


def _check_range(name: str, value: float, minimum: float, maximum: float) -> None:
    if not minimum <= value <= maximum:
        raise InvalidField(name, f"must lie between {_shown(minimum)} and {_shown(maximum)}, not {_shown(value)}")


def _shown(number: float) -> str:
    text = str(number) if isinstance(number, int) else f"{number:g}"
    return text if len(text) <= _LONGEST_NUMBER else f"{text[:_LONGEST_NUMBER]}…"


def _legible(name: str) -> str:
    # Names are the caller's: JSON's may hold halves of characters, which cannot be stored.
    return name[:_LONGEST_NAME].encode(errors="replace").decode()


_PROMPTS: Final = frozenset({"prompt", "negative_prompt", "word"})
