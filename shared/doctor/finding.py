"""What the doctor finds."""

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"  #: as it should be
    WARNING = "warning"  #: works, but not as well as it might
    ERROR = "error"  #: does not work, or will lose something


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `do` says what to do about it, in one line; empty where all is well."""

    area: str
    level: Level
    says: str
    do: str = ""


def good(area: str, says: str) -> Finding:
    """Return that something is as it should be."""
    return Finding(area, Level.OK, says)


def warning(area: str, says: str, do: str) -> Finding:
    """Return that something might be better."""
    return Finding(area, Level.WARNING, says, do)


def error(area: str, says: str, do: str) -> Finding:
    """Return that something does not work."""
    return Finding(area, Level.ERROR, says, do)
