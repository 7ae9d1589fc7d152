"""Results that storage does not take now, on the worker's own disk: one folder per job, whole or not there.

    spool/{node}/{uid}-{fence}/job.json 0 1 ...

`job.json` holds the lease and the result; the files are the result's artifacts, in their order. What a killed process
leaves half-written begins with a dot and is swept away by the next.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import structlog

from shared.backlog import Lease
from shared.formats import known
from shared.job import Result, Submission

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_ABOUT: Final = "job.json"

log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Kept:
    """A job whose result lies on disk."""

    lease: Lease
    #: Evaluations of the network that it took; all are done.
    steps: int
    result: Result
    folder: Path
    size_bytes: int

    def file(self, index: int) -> bytes:
        """Read one artifact's file."""
        return (self.folder / str(index)).read_bytes()


class Spool:
    """A worker's folder of such jobs."""

    def __init__(self, data_dir: Path, *, node: str) -> None:
        self._folder = data_dir / "spool" / quote(node, safe="@")

    def keep(self, lease: Lease, *, steps: int, result: Result, files: Sequence[bytes]) -> Kept:
        """Write a job down, so that it outlasts a power cut; `OSError`, and nothing left behind, where that fails."""
        name = f"{lease.uid}-{lease.fence}"
        part, folder = self._folder / f".{name}.part", self._folder / name
        about = {**asdict(lease), "submission": lease.submission.to_json()}
        text = json.dumps({"lease": about, "steps": steps, "result": result.to_json()}).encode()
        try:
            part.mkdir(parents=True, mode=0o700)
            for index, data in enumerate(files):
                _write(part / str(index), data)
            _write(part / _ABOUT, text)
            _sync(part)
            part.rename(folder)
            _sync(self._folder)
        except BaseException:  # whatever ends it, half a result is not left behind
            shutil.rmtree(part, ignore_errors=True)
            raise
        return Kept(lease=lease, steps=steps, result=result, folder=folder, size_bytes=sum(map(len, files)))

    def found(self) -> Iterator[Kept]:
        """Yield the jobs that are there, the oldest first."""
        for folder in self._folders():
            try:
                yield _read(folder)
            except (OSError, ValueError, TypeError, KeyError) as error:  # its job is drawn once more
                log.warning("spool.unreadable", folder=folder.name, error=repr(error))
                shutil.rmtree(folder, ignore_errors=True)

    def tidy(self) -> None:
        """Sweep away what a killed process left half-written; for the one process that writes here, as it starts."""
        for folder in self._folders(half_written=True):
            shutil.rmtree(folder, ignore_errors=True)

    def _folders(self, *, half_written: bool = False) -> list[Path]:
        found = sorted(self._folder.iterdir()) if self._folder.is_dir() else []
        return [folder for folder in found if folder.name.startswith(".") is half_written]

    def drop(self, kept: Kept) -> None:
        """Forget a job."""
        shutil.rmtree(kept.folder, ignore_errors=True)


def _read(folder: Path) -> Kept:
    about: dict[str, Any] = json.loads((folder / _ABOUT).read_text())
    held = known(Lease, about["lease"])
    lease = Lease(**{**held, "submission": Submission.from_json(held["submission"])})
    result = Result.from_json(about["result"])
    size = sum((folder / str(index)).stat().st_size for index in range(len(result.artifacts)))
    return Kept(lease=lease, steps=int(about["steps"]), result=result, folder=folder, size_bytes=size)


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
