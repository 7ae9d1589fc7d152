"""What happens to pictures after the pipeline: encoded, stored, and the job finished, in threads of its own.

The pipeline goes on with the next batch meanwhile. A job's lease is kept until its `finish` is answered.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import structlog

from shared.errors import (
    BacklogUnavailable,
    DarkroomError,
    InvalidField,
    JobNotFound,
    StorageUnavailable,
    StoringFailed,
)
from shared.job import Artifact, Preview, Result, Status
from worker import parameters
from worker.encode import Caption, Encoded, encode, encode_preview

if TYPE_CHECKING:
    from PIL.Image import Image

    from shared.backlog import Backlog
    from shared.storage import Storage
    from worker.flower_events import JobEvents
    from worker.heartbeat import Heartbeat, Held

#: Threads: encoding and storing one job overlap with another's.
THREADS: Final = 4
#: Deliveries that may wait; more hold the pipeline up, for pictures are kept in memory.
WAITING_AT_MOST: Final = 16
#: Seconds that storage may be away before a job fails with `storing_failed`.
STORE_PATIENCE_S: Final = 60.0
FIRST_PAUSE_S: Final = 0.25
LONGEST_PAUSE_S: Final = 4.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Finished:
    """A job whose pictures are drawn."""

    job: Held
    images: Sequence[Image]
    #: Indexes of those that stand in for pictures which the safety checker flagged.
    flagged: Collection[int] = ()
    parameters: Mapping[str, Any]
    timings: Mapping[str, float]
    engine: Mapping[str, Any]


class GivenUp(Exception):
    """The worker shuts down, or the job was taken away; its lease says what becomes of it."""


class Delivery:
    """Hands jobs over to storage and backlog. `stopping` cuts the patience short."""

    def __init__(
        self,
        node: str,
        *,
        backlog: Backlog,
        storage: Storage,
        heartbeat: Heartbeat,
        events: JobEvents,
        stopping: threading.Event,
    ) -> None:
        self._node = node
        self._backlog = backlog
        self._storage = storage
        self._heartbeat = heartbeat
        self._events = events
        self._stopping = stopping
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="delivery")
        self._pending: set[Future[None]] = set()

    def hand_over(self, finished: Finished) -> None:
        """Deliver a job's pictures; waits where too many deliveries wait already."""
        while len(self._pending) >= WAITING_AT_MOST:
            self.wait(LONGEST_PAUSE_S)
        self._start(self._deliver, finished)

    def preview(self, job: Held, index: int, step: int, image: Image) -> None:
        """Store a picture on the way, and list it. One that cannot be stored now is not missed."""
        self._start(self._preview, job, index, step, image)

    def fail(self, job: Held, error: DarkroomError) -> None:
        """End a job without pictures."""
        self._start(self._end, job, Status.FAILED, Result(error=told(error)))

    def abandon(self, job: Held) -> None:
        """Forget a job that was taken away, and tell the dashboard what became of it."""
        self._heartbeat.release(job)
        try:
            status = self._backlog.read(job.lease.uid, account=job.lease.account).status
        except (BacklogUnavailable, JobNotFound):
            return
        self._events.ended(job.lease, status)

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

    def _start(self, function: Callable[..., None], *args: Any) -> None:
        self._pending.add(self._pool.submit(self._guarded, function, *args))

    def _guarded(self, function: Callable[..., None], *args: Any) -> None:
        try:
            function(*args)
        except GivenUp:
            log.warning("delivery.given_up")
        except Exception:  # nobody reads the future; without this the cause would be lost
            log.exception("delivery.failed")

    def _deliver(self, finished: Finished) -> None:
        job = finished.job
        with structlog.contextvars.bound_contextvars(uid=job.lease.uid):
            try:
                result = self._store(finished)
            except GivenUp:
                self._heartbeat.release(job)
                raise
            except StorageUnavailable:
                log.exception("delivery.storing_failed")
                error = StoringFailed()
            except (OSError, ValueError):
                log.exception("delivery.encoding_failed")
                error = StoringFailed("the images could not be encoded")
            else:
                self._end(job, Status.SUCCEEDED, result)
                return
            self._end(job, Status.FAILED, Result(error=told(error), engine=finished.engine))

    def _preview(self, job: Held, index: int, step: int, image: Image) -> None:
        lease = job.lease
        file = encode_preview(image)
        key = f"results/{lease.handle}/{lease.fence}/preview-{index}-{step}.{file.extension}"
        try:
            self._storage.put(key, file.data, content_type=file.content_type)
            listed = Preview(
                index=index, step=step, key=key, width=image.width, height=image.height, content_type=file.content_type
            )
            self._backlog.preview(self._node, lease, listed)
        except (StorageUnavailable, BacklogUnavailable) as error:
            log.warning("delivery.preview_dropped", uid=lease.uid, step=step, error=error.message)

    def _store(self, finished: Finished) -> Result:
        lease, spec = finished.job.lease, finished.job.lease.submission.spec
        seeds = spec.image_seeds()
        started = time.perf_counter()
        files = [
            encode(image, spec, caption(finished, seed)) for image, seed in zip(finished.images, seeds, strict=True)
        ]
        encoded = time.perf_counter()
        # One patience for all of a job's pictures, not one for each.
        deadline = time.monotonic() + STORE_PATIENCE_S
        artifacts = tuple(
            Artifact(
                key=self._put(
                    f"results/{lease.handle}/{lease.fence}/{index}.{file.extension}",
                    file,
                    finished.job,
                    deadline=deadline,
                ),
                seed=seed,
                width=image.width,
                height=image.height,
                content_type=file.content_type,
                bytes=len(file.data),
                flagged=index in finished.flagged,
            )
            for index, (image, seed, file) in enumerate(zip(finished.images, seeds, files, strict=True))
        )
        stored = time.perf_counter()
        timings = {**finished.timings, "encode": encoded - started, "store": stored - encoded}
        return Result(
            artifacts=artifacts,
            parameters=finished.parameters,
            timings={stage: round(seconds, 4) for stage, seconds in timings.items()},
            engine=finished.engine,
        )

    def _put(self, key: str, file: Encoded, job: Held, *, deadline: float) -> str:
        pause = FIRST_PAUSE_S
        while True:
            try:
                self._storage.put(key, file.data, content_type=file.content_type)
            except StorageUnavailable as error:
                if time.monotonic() > deadline:
                    raise
                log.warning("delivery.store_again", in_s=pause, error=str(error))
                self._pause(pause, job)
                pause = min(2 * pause, LONGEST_PAUSE_S)
            else:
                return key

    def _end(self, job: Held, status: Status, result: Result) -> None:
        try:
            won = self._finish(job, status, result)
        finally:
            self._heartbeat.release(job)
        if not won:
            log.info("job.taken_away", uid=job.lease.uid, fence=job.lease.fence)
            self.abandon(job)
            return
        log.info("job.ended", uid=job.lease.uid, status=str(status), **result.timings)
        error = str((result.error or {}).get("message", ""))
        self._events.ended(job.lease, status, runtime_s=sum(result.timings.values()), error=error)

    def _finish(self, job: Held, status: Status, result: Result) -> bool:
        pause = FIRST_PAUSE_S
        while True:
            try:
                return self._backlog.finish(self._node, job.lease, status, result)
            except BacklogUnavailable:
                log.warning("delivery.finish_again", uid=job.lease.uid, in_s=pause)
                self._pause(pause, job)
                pause = min(2 * pause, LONGEST_PAUSE_S)

    def _pause(self, seconds: float, job: Held) -> None:
        if self._stopping.wait(seconds) or job.lost.is_set():
            raise GivenUp


def caption(finished: Finished, seed: int) -> Caption:
    """Return what the file of the job's image with that seed tells."""
    image = parameters.of_image(finished.parameters, seed=seed)
    return Caption(
        text=parameters.as_text(image, model_hash=str(finished.engine["model_hash"])), json=parameters.as_json(image)
    )


def told(error: DarkroomError) -> dict[str, Any]:
    """Return an error as a record shows it: no path, no traceback, and the field at fault where there is one."""
    message = f"{error.field}: {error.message}" if isinstance(error, InvalidField) else error.message
    return {"code": error.code, "message": message, "retryable": error.retryable}
