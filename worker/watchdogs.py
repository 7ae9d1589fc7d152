"""What ends a process that must not go on. Each is looked after by the heartbeat.

A process that ends is a lease that runs out: its jobs come back elsewhere, and its supervisor starts another.
"""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING, Final

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable

#: What a process ends with; any but 0 tells Celery to start another.
EXIT_CODE: Final = 70
#: An idle worker wakes itself so often: a lost wake-up costs no more than this.
PULSE_S: Final = 30.0
#: An idle worker that answers none of its own wake-ups for so long hears no others either.
DEAF_S: Final = 120.0
#: After a gap like this between two beats the wait begins anew: Redis was away.
OUTAGE_S: Final = 10.0

log = structlog.get_logger(__name__)


def end_process() -> None:
    """End this process on the spot, its threads and leases with it."""
    os._exit(EXIT_CODE)


class ParentWatchdog:
    """Ends a child whose parent was killed: nobody would ever stop it, and its successor needs the GPU.

    On Linux Celery has the kernel do so; elsewhere nobody would.
    """

    def __init__(self) -> None:
        self._parent = os.getppid()

    def check(self) -> None:
        """End the process if its parent is gone."""
        if os.getppid() != self._parent:
            try:
                log.error("watchdog.orphaned", parent=self._parent)
            finally:  # who read the log may have died with the parent
                end_process()


class StallWatchdog:
    """Ends a process whose pipeline takes no step for `stall_s` seconds: a hung GPU answers with no exception."""

    def __init__(self, stall_s: float, *, end: Callable[[], None] = end_process) -> None:
        self._stall_s = stall_s
        self._end = end
        self._stepped_at: float | None = None

    def step(self) -> None:
        """Note a step; the watch is on until `rest`."""
        self._stepped_at = time.monotonic()

    def rest(self) -> None:
        """Note that the pipeline does not run."""
        self._stepped_at = None

    def check(self) -> None:
        """End the process if a step is overdue."""
        stepped_at = self._stepped_at
        if stepped_at is not None and time.monotonic() - stepped_at > self._stall_s:
            log.error("watchdog.stalled", stall_s=self._stall_s)
            self._end()


class Pulse:
    """Wakes its own idle worker, or courier, now and then, and ends one that hears nothing any more.

    Celery's consumer has more than once been seen to go quiet for good after its broker came back, with the process
    alive and nothing in its log.
    """

    def __init__(self, wake: Callable[[], None], *, end: Callable[[], object] | None = None) -> None:
        self._wake = wake
        self._end = end or (lambda: os.kill(os.getppid(), signal.SIGTERM))
        self._busy = False
        self._heard_at = self._beaten_at = self._woken_at = time.monotonic()

    def begin(self) -> None:
        """Note that a wake-up was heard."""
        self._busy = True

    def rest(self) -> None:
        """Note that the worker waits for wake-ups again."""
        self._heard_at = time.monotonic()
        self._busy = False

    def beat(self) -> None:
        """Wake the worker, or end it, if it is time. Call it only while Redis answers."""
        now = time.monotonic()
        if self._busy or now - self._beaten_at > OUTAGE_S:
            self._heard_at = self._woken_at = now
        self._beaten_at = now
        if now - self._heard_at > DEAF_S:
            log.error("watchdog.deaf", silent_s=round(now - self._heard_at))
            self._heard_at = now
            self._end()
        elif now - self._woken_at > PULSE_S:
            self._woken_at = now
            self._wake()
