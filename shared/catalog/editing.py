"""Entries added to and taken from a catalog's text; whatever else the file says stays as it was written."""

import json
import re
import tomllib
from collections.abc import Mapping
from typing import Any, Final

from shared.catalog.entries import Kind

_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")
_HEADER: Final = re.compile(r"\s*\[")


def added(text: str, kind: Kind, name: str, values: Mapping[str, Any]) -> str:
    """Return the text with an entry more at its end; `ValueError` where there is one of that name."""
    if name in tomllib.loads(text).get(kind.table, {}):
        raise ValueError(f"there is a {kind.noun} {name!r} already")
    lines = [f"[{kind.table}.{_key(name)}]", *(f"{key} = {_value(value)}" for key, value in values.items())]
    before = text.rstrip("\n")
    return f"{before}\n\n" * bool(before) + "\n".join(lines) + "\n"


def removed(text: str, kind: Kind, name: str) -> str:
    """Return the text without an entry that has a table of its own; `ValueError` where that cannot be done safely."""
    data = tomllib.loads(text)
    if name not in data.get(kind.table, {}):
        raise ValueError(f"there is no {kind.noun} {name!r}")
    spellings = {f"[{kind.table}.{key}]" for key in (_key(name), f'"{name}"', f"'{name}'")}
    kept, inside = [], False
    for line in text.splitlines():
        if _HEADER.match(line):
            inside = line.partition("#")[0].strip() in spellings
        if not inside:
            kept.append(line)
    result = "\n".join(kept).rstrip("\n") + "\n"
    del data[kind.table][name]
    if {key: table for key, table in tomllib.loads(result).items() if table} != {k: t for k, t in data.items() if t}:
        raise ValueError(f"the {kind.noun} {name!r} is not in a table of its own: edit the file by hand")
    return result


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else json.dumps(name, ensure_ascii=False)


def _value(value: Any) -> str:
    # JSON's texts, numbers and lists of texts are TOML's too.
    return json.dumps(value, ensure_ascii=False)
