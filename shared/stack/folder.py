"""The data directory: one stack at a time, its secrets, and what runs in it.

stack.lock        held while a stack runs (and while its janitor still cleans up)
stack.json        what runs: addresses and process ids; gone after an orderly stop
credentials.json  secrets that outlive a stack
valkey/           the embedded Valkey's data
logs/             one file per program
"""

import fcntl
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Self

from shared.errors import DarkroomError

_OWNER_ONLY: Final = 0o600


class AlreadyRunning(DarkroomError):
    """A stack runs already with this data directory."""

    code = "already_running"


@dataclass(frozen=True, kw_only=True, slots=True)
class Running:
    """A running stack."""

    pid: int
    api_url: str
    flower_url: str
    redis_url: str = field(repr=False)
    ready: bool = False
    #: program -> process id
    processes: Mapping[str, int] = field(default_factory=dict)

    def evolve(self, **changes: Any) -> Self:
        """Return a copy with the given fields changed."""
        return replace(self, **changes)


class Folder:
    """A data directory."""

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self.logs = self.path / "logs"
        self.valkey = self.path / "valkey"
        self._lock = self.path / "stack.lock"
        self._running = self.path / "stack.json"
        self._credentials = self.path / "credentials.json"

    @contextmanager
    def locked(self) -> Iterator[int]:
        """Hold the directory, making it where it is missing; yield the lock's descriptor.

        `AlreadyRunning` where a stack runs in it. One that was killed is waited for while its janitor cleans up.
        """
        self.logs.mkdir(parents=True, exist_ok=True)
        with self._lock.open("a", encoding="utf-8") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                running = self._read_running()
                if running is None or _is_alive(running.pid):
                    raise AlreadyRunning(self._refusal(running)) from None
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield lock.fileno()

    def running(self) -> Running | None:
        """Return what runs in this directory, None where nothing does."""
        if not self._lock.exists():
            return None
        with self._lock.open(encoding="utf-8") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return self._read_running()
        return None

    def announce(self, running: Running) -> None:
        """Tell other commands what runs."""
        _write_private(self._running, asdict(running))

    def withdraw(self) -> None:
        """Nothing runs any more."""
        self._running.unlink(missing_ok=True)

    def credentials(self) -> dict[str, Any]:
        """Return the secrets kept here."""
        found = _read(self._credentials)
        return found if isinstance(found, dict) else {}

    def keep(self, **credentials: Any) -> None:
        """Add to the secrets kept here."""
        _write_private(self._credentials, {**self.credentials(), **credentials})

    def secret(self, name: str) -> str:
        """Return the secret of that name, made at first use."""
        if name not in self.credentials():
            self.keep(**{name: secrets.token_urlsafe(24)})
        return str(self.credentials()[name])

    def wipe(self) -> None:
        """Remove everything but the lock. Only for whoever holds it."""
        for entry in self.path.iterdir():
            if entry.is_dir():
                shutil.rmtree(entry)
            elif entry != self._lock:
                entry.unlink()
        self.logs.mkdir()

    def _read_running(self) -> Running | None:
        found = _read(self._running)
        return Running(**found) if isinstance(found, dict) else None

    def _refusal(self, running: Running | None) -> str:
        who = f" (process {running.pid}, API at {running.api_url})" if running else ""
        return (
            f"Darkroom runs already with the data directory {self.path}{who}. "
            "Stop it first, or give this one another: --data-dir DIR"
        )


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None


def _write_private(path: Path, data: Mapping[str, Any]) -> None:
    """Replace the file in one step, readable by its owner alone from the start."""
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _OWNER_ONLY)
    with open(descriptor, "w", encoding="utf-8") as file:  # noqa: PTH123 - by descriptor
        json.dump(data, file, indent=2)
        file.write("\n")
    temporary.replace(path)
