"""The heartbeat: one thread that keeps this process's leases, tells progress, and hears of cancels."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

import structlog

from shared.errors import BacklogUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from shared.backlog import Backlog, Lease
    from worker.stages import Stage

#: Seconds between renewals, and the shortest time between two words of progress.
RENEW_S: Final = 2.0
PROGRESS_S: Final = 0.5

log = structlog.get_logger(__name__)


@dataclass(eq=False, slots=True)
class Held:
    """A job this process holds. One thread counts its steps, the heartbeat marks it lost."""

    lease: Lease
    step: int = 0
    steps: int = 0
    #: When it was claimed, by `time.monotonic`.
    since: float = field(default_factory=time.monotonic)
    lost: threading.Event = field(default_factory=threading.Event)
    #: The pool whose worker this is, and what the job went through so far: for its trace.
    pool: str = ""
    stages: list[Stage] = field(default_factory=list)


class Watchdog(Protocol):
    """Something the heartbeat looks after at every beat."""

    def check(self) -> None:
        """End the process if it must not go on."""


class Heartbeat:
    """Renews leases from a thread of its own. `hold` and `release` may be called from any thread."""

    def __init__(
        self,
        backlog: Backlog,
        node: str,
        *,
        introduce: Callable[[], None],
        watchdogs: Iterable[Watchdog] = (),
        pulse: Callable[[], None] = lambda: None,
    ) -> None:
        self._backlog = backlog
        self._node = node
        self._introduce = introduce
        self._watchdogs = tuple(watchdogs)
        #: Called after every beat that reached Redis.
        self._pulse = pulse
        self._lock = threading.Lock()
        self._held: dict[Lease, Held] = {}
        self._told: dict[Lease, tuple[int, int]] = {}
        self._renewed_at = 0.0
        self.introduced = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Start beating."""
        self._thread.start()

    def stop(self) -> None:
        """Stop, and wait for a beat under way."""
        self._stopping.set()
        self._thread.join()

    def hold(self, jobs: Iterable[Held]) -> None:
        """Keep these jobs' leases from now on."""
        with self._lock:
            self._held.update((job.lease, job) for job in jobs)

    def release(self, job: Held) -> None:
        """Let go of a job that has ended or was handed back."""
        with self._lock:
            self._held.pop(job.lease, None)

    def beat(self) -> None:
        """Renew all leases if it is time or if there is progress to tell, and mark what was lost."""
        progress, jobs = self._progress()
        due = time.monotonic() - self._renewed_at >= RENEW_S
        if not (due or progress != self._told):
            return
        lost = self._backlog.renew(self._node, progress)
        self._renewed_at = time.monotonic()
        self._told = progress
        for job in jobs:
            if job.lease.uid in lost.uids and not job.lost.is_set():
                log.info("heartbeat.lost", uid=job.lease.uid, account=job.lease.account, fence=job.lease.fence)
                job.lost.set()

    def _progress(self) -> tuple[dict[Lease, tuple[int, int]], list[Held]]:
        with self._lock:
            jobs = [job for job in self._held.values() if not job.lost.is_set()]
        return {job.lease: (job.step, job.steps) for job in jobs}, jobs

    def _run(self) -> None:
        unreachable = False
        while not self._stopping.wait(PROGRESS_S if self.introduced.is_set() else 0):
            for watchdog in self._watchdogs:
                watchdog.check()
            try:
                if not self.introduced.is_set():
                    self._introduce()
                    self.introduced.set()
                self.beat()
                self._pulse()
            except BacklogUnavailable as error:
                if not unreachable:
                    log.warning("heartbeat.unheard", error=str(error.__cause__ or error))
                unreachable = True
                self._stopping.wait(PROGRESS_S)
            except Exception:  # a thread that ends takes every lease with it
                log.exception("heartbeat.failed")
                self._stopping.wait(PROGRESS_S)
            else:
                unreachable = False
