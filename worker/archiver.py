"""Writes the images of batches that have ended into zips, for their owners to fetch as one.

A part at a time, so that neither memory nor the disk holds more than one: images go into a temporary file one by one,
and from there to the storage. Should the process die, another goes on behind the last part.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any, Final
from zipfile import ZIP_STORED, ZipFile, ZipInfo

import structlog

from shared.backlog import Backlog, Batches
from shared.backlog.archives import Archives
from shared.batch import ArchivePart
from shared.dialects import Links
from shared.dialects.native_manifest import file_names, render_result, write_table
from shared.errors import BacklogUnavailable, BatchNotFound, StorageUnavailable
from shared.job import Status
from shared.redis_client import connect, signing_secret
from shared.storage import open_storage
from worker.rounds import Rounds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from shared.backlog.archives import Work
    from shared.batch import Batch, BatchRow
    from shared.celery_app import Bell
    from shared.settings import Settings

#: Between two looks for what is due, and after a failure.
PERIOD_S: Final = 2.0
RETRY_S: Final = 30.0
#: A part is closed with the line that brings it to this size.
PART_BYTES: Final = 256 * 1024 * 1024
#: Longer than the storage may take for an image and its retries; renewed this often.
LEASE_S: Final = 300.0
HOLD_S: Final = 20.0
AT_ONCE: Final = 16
TABLE: Final = "results.csv"
#: Zip knows no earlier time. Equal images make equal archives, whoever writes them.
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)
_READABLE: Final = 0o644 << 16

log = structlog.get_logger(__name__)


class _Lost(Exception):
    """The lease is another's by now, or the process is to end."""


class Archiver(Rounds):
    """A thread of the courier. Any number of couriers may run one. What one leaves when it stops another takes up."""

    def __init__(self, archives: Archives, batches: Batches, links: Links, *, part_bytes: int = PART_BYTES) -> None:
        super().__init__("archiver", first_s=PERIOD_S)
        self._archives = archives
        self._batches = batches
        self._links = links
        self._part_bytes = part_bytes

    @classmethod
    def from_settings(cls, settings: Settings, bell: Bell) -> Archiver:
        """Return one with a connection of its own."""
        redis = connect(settings)
        backlog = Backlog(redis, bell, limit=settings.backlog_limit, lease_s=settings.lease_s)
        storage = open_storage(settings, secret=signing_secret(settings, redis))
        batches = Batches(redis, bell, backlog, limit=settings.backlog_limit)
        return cls(Archives(redis, lease_s=LEASE_S), batches, Links.from_settings(settings, storage))

    def round(self) -> int:
        """Write a part for each batch that is due, so that a large one keeps no other waiting; return how many."""
        numbers = self._archives.due(AT_ONCE)
        for number in numbers:
            work = self._archives.claim(number)
            if work is not None:
                self._write(work)
        return len(numbers)

    def _write(self, work: Work) -> None:
        try:
            batch = self._batches.read(work.batch, account=work.account)
            self._write_next(batch, work)
        except BatchNotFound:
            return  # past its retention; the next claim finds so
        except _Lost:
            log.info("archive.left", batch=work.batch)
            self._archives.put_off(work, delay_s=0)
        except (StorageUnavailable, OSError) as error:
            log.warning("archive.postponed", batch=work.batch, error=str(error))
            self._archives.put_off(work, delay_s=RETRY_S)

    def _write_next(self, batch: Batch, work: Work) -> None:
        number, after = work.parts + 1, work.last.last if work.last else 0
        part = self._stored(batch, work, f"{folder_of(batch)}/{work.outcome}/{number:04}.zip", after=after)
        is_last = part.last >= batch.total
        if is_last:
            for earlier in range(1, work.outcome):  # from before it was retried
                self._links.storage.delete_prefix(f"{folder_of(batch)}/{earlier}")
        if not self._archives.add(work, part, is_last=is_last):
            raise _Lost
        log.info("archive.part_written", batch=batch.id, part=number, last=is_last)
        if not is_last:
            self._archives.put_off(work, delay_s=0)

    def _stored(self, batch: Batch, work: Work, key: str, *, after: int) -> ArchivePart:
        with tempfile.TemporaryFile() as out:
            pack = _Pack(out, batch, self._links, keep_on=self._keeper(work))
            pack.fill(self._batches.all_rows(batch, after=after), most_bytes=self._part_bytes)
            size = out.seek(0, 2)
            out.seek(0)
            self._links.storage.put_file(key, out, content_type="application/zip")
        return ArchivePart(key=key, first=after + 1, last=pack.last, images=pack.images, size=size)

    def _keeper(self, work: Work) -> Callable[[], None]:
        """Return what is called between images: it renews the lease now and then, and raises `_Lost`."""
        held = time.monotonic()

        def keep_on() -> None:
            nonlocal held
            if self._stopping.is_set():
                raise _Lost
            if time.monotonic() - held > HOLD_S:
                if not self._archives.hold(work):
                    raise _Lost
                held = time.monotonic()

        return keep_on

    def _turn(self) -> float:
        try:
            return 0.0 if self.round() else PERIOD_S
        except BacklogUnavailable as error:
            log.warning("archive.backlog_unavailable", error=error.message)
        except Exception:  # a thread that ends would leave every later batch without its archive
            log.exception("archive.failed")
        return PERIOD_S


@dataclass(kw_only=False, slots=True)
class _Pack:
    """A zip that is being filled: images as they come, then the table that tells of them."""

    out: IO[bytes]
    batch: Batch
    links: Links
    keep_on: Callable[[], None] = field(kw_only=True)
    last: int = 0
    images: int = 0

    def fill(self, rows: Iterator[BatchRow], *, most_bytes: int) -> None:
        """Write lines until there are no more, or the zip has this size."""
        with ZipFile(self.out, "w", ZIP_STORED) as archive, tempfile.TemporaryFile() as table:
            told = write_table(self._pack(archive, rows, most_bytes), total=self.batch.total)
            table.writelines(text.encode() for text in told)
            table.seek(0)
            with archive.open(_named(TABLE), "w") as entry:
                shutil.copyfileobj(table, entry)

    def _pack(self, archive: ZipFile, rows: Iterator[BatchRow], most_bytes: int) -> Iterator[Mapping[str, Any]]:
        for row in rows:
            self.keep_on()
            result = render_result(row, self.links)
            self._pack_images(archive, row, result)
            self.last = row.line
            yield result
            if self.out.tell() >= most_bytes:
                return

    def _pack_images(self, archive: ZipFile, row: BatchRow, result: Mapping[str, Any]) -> None:
        if row.job is None or row.status is not Status.SUCCEEDED:
            return
        for artifact, name in zip(row.job.result.artifacts, file_names(result, total=self.batch.total), strict=True):
            try:
                data = self.links.storage.get(artifact.key).data
            except KeyError:
                log.warning("archive.image_gone", batch=self.batch.id, line=row.line)
                continue
            archive.writestr(_named(name), data)
            self.images += 1


def folder_of(batch: Batch) -> str:
    """Return where a batch's archives are stored."""
    return f"archives/{batch.handle}"


def _named(name: str) -> ZipInfo:
    info = ZipInfo(name, date_time=_EPOCH)
    info.external_attr = _READABLE
    return info
