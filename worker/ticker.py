"""Keeps the clock of the queue: sweeps it, feeds batches to it, and rings for webhooks that are due."""

import time
from collections.abc import Callable
from typing import Final, Self

import structlog

from shared.backlog import Backlog, Batches
from shared.celery_app import Bell
from shared.errors import BacklogUnavailable
from shared.outbox import Outbox
from shared.redis_client import connect
from shared.settings import Settings
from worker.courier import ENTRY_LEASE_S
from worker.rounds import Rounds

#: How often the queue is swept, and the longest wait between tries while Redis is away.
TICK_S: Final = 0.7
LONGEST_PAUSE_S: Final = 5.0
#: An entry that is still due after so long was not heard; it is rung for again. Less than the shortest retry.
RING_AGAIN_S: Final = 4.0
#: Nor are more rung for than couriers can hear soon: a message that is read late has expired, and where tickers ring
#: faster than couriers read all are.
RUNG_AT_ONCE: Final = 256

log = structlog.get_logger(__name__)


class Ticker(Rounds):
    """A thread that sweeps the backlog, feeds batches and rings for webhooks that are due, while the process lives.

    Any number of processes may each have one: a sweep is atomic, and an entry that is rung for twice is leased once.
    """

    def __init__(
        self, backlog: Backlog, batches: Batches, outbox: Outbox, bell: Bell, *, period_s: float = TICK_S
    ) -> None:
        super().__init__("ticker", first_s=min(period_s, LONGEST_PAUSE_S))
        self._backlog = backlog
        self._batches = batches
        self._outbox = outbox
        self._bell = bell
        self._period_s = period_s
        self._rung: dict[str, float] = {}
        self._failures = 0

    @classmethod
    def from_settings(cls, settings: Settings, bell: Bell, *, on_lost: Callable[[int], None] | None = None) -> Self:
        """Return a ticker with a connection of its own. `on_lost` is the backlog's."""
        redis = connect(settings)
        backlog = Backlog(redis, bell, limit=settings.backlog_limit, lease_s=settings.lease_s, on_lost=on_lost)
        batches = Batches(redis, bell, backlog, limit=settings.backlog_limit)
        return cls(backlog, batches, Outbox(redis, lease_s=ENTRY_LEASE_S), bell)

    def tick(self) -> None:
        """Sweep once, feed batches, and ring for what is due."""
        self._backlog.sweep()
        self._batches.feed()
        now = time.monotonic()
        self._rung = {entry: at for entry, at in self._rung.items() if now - at < RING_AGAIN_S}
        room = max(0, RUNG_AT_ONCE - self._outbox.unheard())
        fresh = [entry for entry in self._outbox.due(RUNG_AT_ONCE) if entry not in self._rung][:room]
        self._rung |= dict.fromkeys(fresh, now)
        self._bell.deliver(fresh)

    def _turn(self) -> float:
        try:
            self.tick()
        except BacklogUnavailable as error:
            self._failures += 1
            log.warning("ticker.backlog_unavailable", failures=self._failures, error=str(error.__cause__ or error))
        except Exception:  # a thread that ends takes the queue's clock with it
            self._failures += 1
            log.exception("ticker.failed", failures=self._failures)
        else:
            self._failures = 0
        return min(self._period_s * 2.0 ** min(self._failures, 8), LONGEST_PAUSE_S)
