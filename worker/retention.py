"""Lets jobs and batches go that are past their retention: files first, then records. And images that no job owns.

Should the process die in between, the record is still there and the next round begins anew.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import structlog

from shared import kept
from shared.backlog import Backlog, Batches
from shared.errors import BacklogUnavailable, StorageUnavailable
from shared.redis_client import connect, signing_secret
from shared.storage import open_storage
from worker.archiver import folder_of
from worker.rounds import Rounds

if TYPE_CHECKING:
    from shared.celery_app import Bell
    from shared.settings import Settings
    from shared.storage import Storage

#: Between two rounds, and jobs or batches of one round.
PERIOD_S: Final = 10.0
AT_ONCE: Final = 200
#: Between two looks for images that no job owns.
KEPT_PERIOD_S: Final = 3600.0

log = structlog.get_logger(__name__)


class Retention(Rounds):
    """A thread of the courier. Any number of couriers may run one."""

    def __init__(
        self, backlog: Backlog, batches: Batches, storage: Storage, *, retention_s: int, tombstone_s: int
    ) -> None:
        super().__init__("retention", first_s=PERIOD_S)
        self._backlog = backlog
        self._batches = batches
        self._storage = storage
        self._retention_ms = retention_s * 1000
        self._tombstone_s = tombstone_s
        self._kept_due = time.monotonic()

    @classmethod
    def from_settings(cls, settings: Settings, bell: Bell) -> Retention:
        """Return one with a connection of its own."""
        redis = connect(settings)
        backlog = Backlog(redis, bell, limit=settings.backlog_limit, lease_s=settings.lease_s)
        return cls(
            backlog,
            Batches(redis, bell, backlog, limit=settings.backlog_limit),
            open_storage(settings, secret=signing_secret(settings, redis)),
            retention_s=settings.retention_s,
            tombstone_s=settings.tombstone_s,
        )

    def round(self) -> int:
        """Let go of some outdated jobs; return how many."""
        jobs = self._backlog.outdated(before_ms=self._before_ms(), limit=AT_ONCE)
        for job in jobs:
            if self._stopping.is_set():
                break
            for folder in ("results", "inputs"):
                self._storage.delete_prefix(f"{folder}/{job.handle}")
            self._backlog.bury(job, tombstone_s=self._tombstone_s)
        return len(jobs)

    def round_of_batches(self) -> int:
        """Let go of some outdated batches; return how many. Their jobs go each at its own time."""
        batches = self._batches.outdated(before_ms=self._before_ms(), limit=AT_ONCE)
        for batch in batches:
            for handle in self._batches.left_behind(batch):
                if self._stopping.is_set():
                    return len(batches)
                self._storage.delete_prefix(f"inputs/{handle}")
            self._storage.delete_prefix(folder_of(batch))
            self._batches.forget(batch)
        return len(batches)

    def _before_ms(self) -> int:
        return self._backlog.now_ms() - self._retention_ms

    def let_go_of_kept(self, *, now_s: float) -> int:
        """Delete images that callers left here and whose links have ended; return how many."""
        return sum(self._storage.delete_prefix(folder) for folder in kept.outdated(now_s=now_s))

    def _turn(self) -> float:
        pause_s = PERIOD_S
        try:
            if AT_ONCE in {self.round(), self.round_of_batches()}:
                pause_s = 0.0
            if time.monotonic() >= self._kept_due:
                self.let_go_of_kept(now_s=time.time())
                self._kept_due = time.monotonic() + KEPT_PERIOD_S
        except (BacklogUnavailable, StorageUnavailable) as error:
            log.warning("retention.postponed", error=error.message)
        except Exception:  # a thread that ends would let the store fill up unnoticed
            log.exception("retention.failed")
        return pause_s
