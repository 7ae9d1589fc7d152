"""TOML tables -> frozen dataclasses, strictly: a key that is not known, or a value of another kind, is told."""

import tomllib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, get_origin, get_type_hints

from shared.errors import ConfigurationError


def read_toml(path: Path, *, variable: str) -> dict[str, Any]:
    """Return what a file says; `ConfigurationError` naming the setting where it cannot be read."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(variable, f"{path}: {error}") from error


def checked(kind: type, values: Any, *, place: str) -> dict[str, Any]:
    """Return a table's values as the fields of a dataclass take them; `ValueError` where one does not fit."""
    if not isinstance(values, Mapping):
        raise ValueError(f"[{place}] must be a table")  # noqa: TRY004 - told with the file's name, as the others
    hints = get_type_hints(kind)
    known = {each.name for each in fields(kind)} - {"name"}
    unknown = sorted(set(values) - known)
    if unknown:
        raise ValueError(f"[{place}] does not take {', '.join(unknown)}; it takes {', '.join(sorted(known))}")
    return {key: _fitting(value, hints[key], f"[{place}] {key}") for key, value in values.items()}


def _fitting(value: Any, hint: Any, place: str) -> Any:
    if hint is bool and not isinstance(value, bool):
        raise ValueError(f"{place} must be true or false, not {value!r}")
    if hint in {int, int | None} and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
        raise ValueError(f"{place} must be a whole number from 0, not {value!r}")
    if get_origin(hint) is Mapping and not isinstance(value, Mapping):
        raise ValueError(f"{place} must be a table, not {value!r}")
    if hint is str and not isinstance(value, str):
        raise ValueError(f"{place} must be a text, not {value!r}")
    if hint == tuple[str, ...]:
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise ValueError(f"{place} must be a list of texts, not {value!r}")
        return tuple(value)
    return value
