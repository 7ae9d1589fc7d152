"""What happens to pictures after the pipeline: encoded, stored, and the job finished, in threads of its own.

The pipeline goes on with the next batch meanwhile. A job's lease is kept until its `finish` is answered.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import structlog

from shared.errors import BacklogUnavailable, DarkroomError, StorageUnavailable, StoringFailed
from shared.job import Job, Preview, Result, Status
from shared.logs import about
from worker import measures, traces
from worker.encode import Encoded, encode_preview
from worker.erased import read_or_delete
from worker.finished import Finished, encoded, told
from worker.insist import insist
from worker.later import Later
from worker.stages import staged
from worker.stopping import GivenUp

if TYPE_CHECKING:
    from PIL.Image import Image

    from shared.backlog import Backlog, Lease
    from shared.storage import Storage
    from worker.flower_events import JobEvents
    from worker.heartbeat import Heartbeat, Held
    from worker.spool import Kept, Spool

#: Threads: encoding and storing one job overlap with another's.
THREADS: Final = 4
#: Deliveries that may wait; more hold the pipeline up, for pictures are kept in memory.
WAITING_AT_MOST: Final = 16
FIRST_PAUSE_S: Final = 0.25
LONGEST_PAUSE_S: Final = 4.0

log = structlog.get_logger(__name__)


class Delivery:
    """Hands jobs over to storage and backlog. `stopping` cuts the patience short.

    What storage does not take now waits in the spool, where one is given, beside what an earlier process left there.
    """

    def __init__(
        self,
        node: str,
        *,
        backlog: Backlog,
        storage: Storage,
        heartbeat: Heartbeat,
        events: JobEvents,
        stopping: threading.Event,
        spool: Spool | None = None,
        spool_bytes: int = 0,
        left: Iterable[tuple[Held, Kept]] = (),
    ) -> None:
        self._node = node
        self._backlog = backlog
        self._storage = storage
        self._heartbeat = heartbeat
        self._events = events
        self._stopping = stopping
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="delivery")
        self._pending: set[Future[None]] = set()
        self._later = (
            None if spool is None else Later(spool, limit_bytes=spool_bytes, storage=storage, delivery=self, left=left)
        )

    @property
    def full(self) -> bool:
        """Whether so much waits for storage that no more should be drawn."""
        return self._later is not None and self._later.full

    def close(self) -> None:
        """Leave to the next process what still waits for storage."""
        if self._later is not None:
            self._later.stop()

    def hand_over(self, finished: Finished) -> None:
        """Deliver a job's pictures; waits where too many deliveries wait already."""
        while len(self._pending) >= WAITING_AT_MOST:
            self.wait(LONGEST_PAUSE_S)
        self._start(finished.job, self._deliver, finished)

    def preview(self, job: Held, index: int, step: int, image: Image) -> None:
        """Store a picture on the way, and list it. One that cannot be stored now is not missed."""
        self._start(job, self._preview, job, index, step, image)

    def fail(self, job: Held, error: DarkroomError) -> None:
        """End a job without pictures."""
        self._start(job, self.end, job, Status.FAILED, Result(error=told(error)))

    def end(self, job: Held, status: Status, result: Result) -> None:
        """Tell the backlog how a job ended, however long Redis is away; `GivenUp` where job or process goes."""
        try:
            won = self._finish(job, status, result)
        finally:
            self._heartbeat.release(job)
        if not won:
            log.info("job.taken_away", fence=job.lease.fence)
            self.abandon(job)
            return
        measures.ended(job, status, result)
        traces.ended(job, status, result)
        log.info("job.ended", status=str(status), code=(result.error or {}).get("code"), **result.timings)
        seconds = sum(result.timings.values())
        self._events.ended(job.lease.uid, status, runtime_s=seconds, error=_message(result))

    def abandon(self, job: Held) -> None:
        """Forget a job that was taken away, and tell the dashboard what became of it."""
        self._heartbeat.release(job)
        now = self._now(job.lease)
        if now is None:
            return
        traces.ended(job, now.status, now.result)
        self._events.ended(now.uid, now.status, error=_message(now.result))

    def _now(self, lease: Lease) -> Job | None:
        return read_or_delete(lease, "results", backlog=self._backlog, storage=self._storage)

    def wait(self, timeout_s: float) -> bool:
        """Wait until a delivery is done, at most so long; False where there is none to wait for."""
        if not self._pending:
            return False
        done, _ = wait(self._pending, timeout_s, return_when="FIRST_COMPLETED")
        self._pending -= done
        return True

    def drain(self, timeout_s: float) -> bool:
        """Wait until all deliveries are done; False if that takes longer."""
        deadline = time.monotonic() + timeout_s
        while self._pending and time.monotonic() < deadline:
            self.wait(max(0.0, deadline - time.monotonic()))
        return not self._pending

    def _start(self, job: Held, function: Callable[..., None], *args: Any) -> None:
        self._pending.add(self._pool.submit(self._guarded, job, function, *args))

    def _guarded(self, job: Held, function: Callable[..., None], *args: Any) -> None:
        with about(job.lease):
            try:
                function(*args)
            except GivenUp:
                log.warning("delivery.given_up")
            except Exception:  # nobody reads the future; without this the cause would be lost
                log.exception("delivery.failed")

    def _deliver(self, finished: Finished) -> None:
        job = finished.job
        try:
            with staged("encode", job):
                result, files = encoded(finished)
            kept = self._store_or_keep(job, result, files)
        except GivenUp:
            self._heartbeat.release(job)
            if job.lost.is_set():
                self.abandon(job)
            raise
        except StorageUnavailable:
            log.exception("delivery.storing_failed")
            error = StoringFailed()
        except (OSError, ValueError):
            log.exception("delivery.encoding_failed")
            error = StoringFailed("the images could not be encoded")
        else:
            if kept is not None:
                self.end(job, Status.SUCCEEDED, kept)
            return
        self.end(job, Status.FAILED, Result(error=told(error), engine=finished.engine))

    def _preview(self, job: Held, index: int, step: int, image: Image) -> None:
        lease = job.lease
        file = encode_preview(image)
        key = f"results/{lease.handle}/{lease.fence}/preview-{index}-{step}.{file.extension}"
        try:
            self._storage.put(key, file.data, content_type=file.content_type)
            listed = Preview(
                index=index, step=step, key=key, width=image.width, height=image.height, content_type=file.content_type
            )
            if not self._backlog.preview(self._node, lease, listed):
                self._now(lease)
        except (StorageUnavailable, BacklogUnavailable) as error:
            log.warning("delivery.preview_dropped", step=step, error=error.message)

    def _store_or_keep(self, job: Held, result: Result, files: Sequence[Encoded]) -> Result | None:
        """Store a job's files; None where they wait on disk."""
        if self._later is None:
            return self._store(job, result, files)
        try:
            if not self._later.storage_away:
                return self._store(job, result, files, insists=False)
        except StorageUnavailable as error:
            log.warning("delivery.stored_later", error=error.message)
        try:
            self._later.keep(job, result, [file.data for file in files])
        except OSError:  # no room on disk either: it waits here, and soon the pipeline waits for it
            log.exception("delivery.not_kept")
            return self._store(job, result, files)
        return None

    def _store(self, job: Held, result: Result, files: Sequence[Encoded], *, insists: bool = True) -> Result:
        started = time.perf_counter()
        missing = list(zip(result.artifacts, files, strict=True))

        def put() -> None:
            while missing:
                artifact, file = missing[0]
                self._storage.put(artifact.key, file.data, content_type=file.content_type)
                del missing[0]

        with staged("store", job):
            if insists:
                insist(put, self._storage, pause=partial(self._pause, job=job))
            else:
                put()
        return replace(result, timings={**result.timings, "store": round(time.perf_counter() - started, 4)})

    def _finish(self, job: Held, status: Status, result: Result) -> bool:
        pause = FIRST_PAUSE_S
        while True:
            try:
                return self._backlog.finish(self._node, job.lease, status, result)
            except BacklogUnavailable:
                log.warning("delivery.finish_again", in_s=pause)
                self._pause(pause, job)
                pause = min(2 * pause, LONGEST_PAUSE_S)

    def _pause(self, seconds: float, job: Held) -> None:
        if self._stopping.wait(seconds) or job.lost.is_set():
            raise GivenUp


def _message(result: Result) -> str:
    return str((result.error or {}).get("message", ""))
