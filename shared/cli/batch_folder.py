"""The folder of a `darkroom batch run`: its images, its results, and which batch they are of.

batch.json    the file that was submitted, by its digest, and the batch it became; what a second run goes on from
0042.png      the image of line 42; 0042-0.png, 0042-1.png where a line has several
results.csv   every line with what became of it, once the batch is over
"""

import csv
import hashlib
import json
import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import click

from shared.dialects.native_manifest import file_names, write_table


@dataclass(frozen=True, kw_only=True, slots=True)
class Submitted:
    """What a folder belongs to. `batch` is None until the service has answered."""

    digest: str
    #: Sent as Idempotency-Key, so that what was accepted and not noted here is not submitted twice.
    key: str
    options: Mapping[str, Any] = field(default_factory=dict)
    batch: int | None = None

    def evolve(self, **changes: Any) -> Self:
        """Return a copy with the given fields changed."""
        return replace(self, **changes)


class BatchFolder:
    """Where a batch's images go. Files are there whole or not at all."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.results = path / "results.csv"
        self._note = path / "batch.json"

    def claim(self, file: Path, options: Mapping[str, Any]) -> Submitted:
        """Return what the folder belongs to, which is a new batch of this file where there was none.

        `ClickException` where it belongs to the batch of another file.
        """
        digest = digest_of(file)
        try:
            kept = Submitted(**json.loads(self._note.read_text()))
        except FileNotFoundError:
            self.path.mkdir(parents=True, exist_ok=True)
            kept = Submitted(digest=digest, key=secrets.token_hex(16), options=dict(options))
            self.note(kept)
        except (ValueError, TypeError) as error:
            raise click.ClickException(f"{self._note} is not what a run writes there: {error}") from error
        if kept.digest != digest:
            raise click.ClickException(
                f"{self.path} holds another batch ({kept.batch}): {file} is not, or not any more, what was submitted. "
                "Name another folder."
            )
        return kept

    def note(self, submitted: Submitted) -> None:
        """Keep what the folder belongs to."""
        self.write(self._note, (json.dumps(asdict(submitted), indent=2) + "\n").encode())

    def forget(self) -> None:
        """Belong to nothing: the batch was refused."""
        self._note.unlink()

    def files(self, result: Mapping[str, Any], *, total: int) -> list[Path]:
        """Return where the images of a line of the manifest go, in their order. `total` is how many lines there are."""
        return [self.path / name for name in file_names(result, total=total)]

    def write(self, path: Path, data: bytes) -> None:
        """Write a file, whole or not at all."""
        with _translated(path):
            part = _beside(path)
            part.write_bytes(data)
            part.replace(path)

    def write_results(self, results: Iterable[Mapping[str, Any]], *, total: int) -> None:
        """Write the table of results, whole or not at all."""
        part = _beside(self.results)
        with _translated(self.results), part.open("w", newline="") as out:
            out.writelines(write_table(results, total=total))
        part.replace(self.results)

    def read_results(self) -> Iterator[dict[str, str]]:
        """Yield the table's rows."""
        with self.results.open(newline="") as rows:
            yield from csv.DictReader(rows)


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise click.ClickException(f"could not write {path}: {error.strerror}") from error


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.part")


def digest_of(file: Path) -> str:
    """Return a file's SHA-256."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
