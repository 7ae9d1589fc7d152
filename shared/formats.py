"""Records and their formats: how versions of Darkroom that differ work side by side.

A job's record names the oldest format whose readers do right by that job; 1 goes without saying. Whoever adds a field

- that may be ignored by those who do not know it, just adds it: readers leave out what they do not know, and keep it
  where they write a record anew;
- that changes what is drawn, or a value that does, enters it in `SINCE` and raises `FORMAT`. Records of the jobs that
  use it are of that format, all others stay as they were. A job of a format above 1 waits in a lane of its own, which
  only those processes serve that read it.

Fields are never renamed, and none that was required becomes optional.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from shared.spec import JobSpec

#: The latest format that this version reads and writes.
FORMAT: Final = 1
#: A field of JobSpec ("tomesd"), or one of its values ("scheduler=Euler") -> the format whose readers know it, where
#: that is not the first.
SINCE: Mapping[str, int] = MappingProxyType({})


def format_of(spec: JobSpec) -> int:
    """Return the oldest format whose readers know all that a spec makes use of."""
    if not SINCE:
        return 1
    used = {mark for name, value in spec.to_dict().items() for mark in (name, f"{name}={value}")}
    return max((since for mark, since in SINCE.items() if mark in used), default=1)


def marked(model: str, record_format: int) -> str:
    """Return what the lane of a model's jobs of a format is called, behind its pool."""
    return model if record_format == 1 else f"{model}#{record_format}"


def unmarked(name: str) -> str:
    """Return the model in `marked`'s form."""
    model, mark, record_format = name.rpartition("#")
    return model if mark and record_format.isdecimal() else name


def known(kind: type, record: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of a record's fields that a dataclass has, and not what a later version has added."""
    names = {each.name for each in fields(kind)}
    return {name: value for name, value in record.items() if name in names}
