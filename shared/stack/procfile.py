"""The Procfile as programs. It is the one description of Darkroom's processes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from honcho.environ import parse_procfile

from shared.errors import DarkroomError

#: The folder that holds the Procfile: the one above this package.
ROOT: Final = Path(__file__).resolve().parents[2]


class ProcfileMissing(DarkroomError):
    """There is no Procfile; run Darkroom from a checkout of its repository."""

    code = "procfile_missing"


@dataclass(frozen=True, slots=True)
class Program:
    """A name and the command it stands for. `last` programs stop after the others."""

    name: str
    argv: tuple[str, ...]
    last: bool = False


def read_procfile(path: Path = ROOT / "Procfile") -> tuple[Program, ...]:
    """Return the programs of a Procfile, in its order; `ProcfileMissing` where there is none.

    Commands are the shell's, so that they may name variables; the shell is replaced by the command.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ProcfileMissing from None
    processes: dict[str, str] = parse_procfile(text).processes
    return tuple(Program(name, ("/bin/sh", "-c", f"exec {command}")) for name, command in processes.items())
