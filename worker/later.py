"""Uploads what storage did not take at once, from disk and in a thread of its own, and ends those jobs then.

Their leases run on meanwhile. The thread may be killed at any moment: what it has not ended is found on disk by the
next process of the same name.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import structlog

from shared.errors import StorageUnavailable, StoringFailed
from shared.job import Result, Status
from shared.logs import about
from worker.finished import told
from worker.stages import note
from worker.stopping import GivenUp

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from shared.storage import Storage
    from worker.delivery import Delivery
    from worker.heartbeat import Held
    from worker.spool import Kept, Spool

#: Jobs that may wait: every heartbeat renews all of their leases in one call.
JOBS_AT_MOST: Final = 400
FIRST_PAUSE_S: Final = 0.25
LONGEST_PAUSE_S: Final = 4.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Waiting:
    """A job that waits for storage: its lease, held, and its result on disk."""

    job: Held
    kept: Kept


class Later:
    """The jobs that wait; `delivery` ends them. One thread uploads, all else is for any thread."""

    def __init__(
        self,
        spool: Spool,
        *,
        limit_bytes: int,
        storage: Storage,
        delivery: Delivery,
        left: Iterable[tuple[Held, Kept]] = (),
    ) -> None:
        self._spool = spool
        self._limit_bytes = limit_bytes
        self._storage = storage
        self._delivery = delivery
        self._waiting = deque(Waiting(job=job, kept=kept) for job, kept in left)
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        #: Whether storage is known to be away: then nobody else need wait for it to say so.
        self.storage_away = False
        self._thread = threading.Thread(target=self._run, name="later", daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """Stop after the upload under way; the rest stays on disk."""
        self._stopping.set()
        with self._changed:
            self._changed.notify()
        self._thread.join(timeout_s)

    @property
    def waiting(self) -> int:
        """How many jobs wait."""
        return len(self._waiting)

    @property
    def full(self) -> bool:
        """Whether the bound is reached: no more work should be taken on."""
        with self._changed:
            size = sum(one.kept.size_bytes for one in self._waiting)
            return len(self._waiting) >= JOBS_AT_MOST or size >= self._limit_bytes

    def keep(self, job: Held, result: Result, files: Sequence[bytes]) -> None:
        """Write down a job that storage did not take; `OSError` where the disk has no room for it either."""
        self.storage_away = True
        kept = self._spool.keep(job.lease, steps=job.steps, result=result, files=files)
        with self._changed:
            self._waiting.append(Waiting(job=job, kept=kept))
            self._changed.notify()

    def _run(self) -> None:
        pause = FIRST_PAUSE_S
        while (one := self._next()) is not None:
            if self._settle(one):
                pause = FIRST_PAUSE_S
                continue
            for other in list(self._waiting):
                if other.job.lost.is_set():
                    self._settle(other)
            self._stopping.wait(pause)
            pause = min(2 * pause, LONGEST_PAUSE_S)

    def _next(self) -> Waiting | None:
        """Wait for the job whose turn it is; None once it is time to stop."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._stopping.is_set())
            if self._stopping.is_set():
                return None
            # Each in turn: what may be the trouble with one is not every other's.
            self._waiting.rotate(-1)
            return self._waiting[-1]

    def _settle(self, one: Waiting) -> bool:
        """Upload a job's files and end it; False where it must wait on."""
        with about(one.kept.lease):
            try:
                if one.job.lost.is_set():
                    log.info("later.taken_away")
                    self._delivery.abandon(one.job)
                else:
                    begun = time.time_ns()
                    outcome = self._outcome(one.kept)
                    note("store", [one.job], begun)  # what did not come about is none
                    self._delivery.end(one.job, *outcome)
            except (StorageUnavailable, GivenUp) as error:
                log.warning("later.waits_on", waiting=self.waiting, error=str(error))
                return False
            except Exception:  # a thread that ends would keep all others waiting
                log.exception("later.failed")
                return False
        self._spool.drop(one.kept)
        with self._changed:
            self._waiting.remove(one)
        return True

    def _outcome(self, kept: Kept) -> tuple[Status, Result]:
        """Store a job's files. A job whose files cannot be read any more has failed."""
        started = time.perf_counter()
        try:
            for index, artifact in enumerate(kept.result.artifacts):
                self._storage.put(artifact.key, kept.file(index), content_type=artifact.content_type)
        except StorageUnavailable:
            self.storage_away = True
            raise
        except OSError:
            log.exception("later.unreadable")
            return Status.FAILED, Result(error=told(StoringFailed()), engine=kept.result.engine)
        self.storage_away = False
        seconds = round(time.perf_counter() - started, 4)
        return Status.SUCCEEDED, replace(kept.result, timings={**kept.result.timings, "store": seconds})
