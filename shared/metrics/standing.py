"""How the whole queue stands, read out of Redis at each scrape: any process of the API gives the same answer."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Final

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from redis import Redis

from shared.backlog.encoding import BANDS
from shared.backlog.operations import Operations
from shared.backlog.records import Gate, Lane
from shared.backlog.scripts import OUTAGES
from shared.celery_app import SilentBell
from shared.errors import BacklogUnavailable
from shared.keys import active_key, all_dead_key, count_key, job_key, outbox_key, queue_key, sweep_key
from shared.redis_client import now_ms

#: Flows of a lane and band whose oldest job is looked at; with more accounts the oldest age is a lower bound.
FLOWS_AT_MOST: Final = 512
_LANE: Final = ("pool", "model")


class Standing(Collector):
    """A Prometheus collector over the backlog. While Redis is away it tells that, and nothing else."""

    def __init__(self, redis: Redis, *, limit: int) -> None:
        """`limit` is the backlog's bound, told beside how full it is."""
        self._redis = redis
        self._limit = limit
        self._operations = Operations(redis, SilentBell())

    def describe(self) -> Iterable[Metric]:
        """Return nothing: registering must not connect."""
        return []

    def collect(self) -> Iterable[Metric]:
        """Return gauges of lanes and webhooks as they stand now."""
        up = GaugeMetricFamily("darkroom_backlog_up", "Whether Redis answers.")
        try:
            lanes = self._operations.lanes()
            found = [*_lanes(lanes), self._oldest(lanes), self._unfed(), *self._webhooks()]
        except (BacklogUnavailable, *OUTAGES):
            up.add_metric([], 0)
            return [up]
        up.add_metric([], 1)
        limit = _gauge("darkroom_backlog_limit", "Jobs and lines of batches that may wait at most.", self._limit)
        return [up, limit, *found]

    def _oldest(self, lanes: Sequence[Lane]) -> Metric:
        about = "Age of the oldest job that may be taken."
        family = GaugeMetricFamily("darkroom_oldest_waiting_seconds", about, labels=(*_LANE, "priority"))
        queues = [(lane, priority) for lane in lanes for priority in BANDS]
        ages_s = self._ages_s([(f"{lane.pool}/{lane.model}", BANDS[priority]) for lane, priority in queues])
        for (lane, priority), age_s in zip(queues, ages_s, strict=True):
            family.add_metric([lane.pool, lane.model, priority], age_s)
        return family

    def _ages_s(self, queues: Sequence[tuple[str, int]]) -> Iterator[float]:
        """Yield the age of the oldest job in each lane and band, 0 where none may be taken."""
        now = now_ms(self._redis)
        pipe = self._redis.pipeline(transaction=False)
        for lane, band in queues:
            pipe.zrange(active_key(lane, band), 0, FLOWS_AT_MOST - 1)
        flows: list[list[str]] = pipe.execute()
        for (lane, band), accounts in zip(queues, flows, strict=True):
            for account in accounts:
                pipe.zrange(queue_key(lane, band, account), 0, 0)
        # A member is uid:batch key:images; a flow may have emptied since.
        for heads in pipe.execute():
            pipe.hget(job_key(heads[0].partition(":")[0] if heads else 0), "created")
        created = iter(pipe.execute())
        for accounts in flows:
            first = min((int(ms) for ms in islice(created, len(accounts)) if ms), default=now)
            yield max(0.0, (now - first) / 1000)

    def _unfed(self) -> Metric:
        unfed = self._redis.hget(count_key(), "deferred")
        return _gauge("darkroom_batch_lines_waiting", "Lines of batches that are not in the queue yet.", unfed or 0)

    def _webhooks(self) -> Iterator[Metric]:
        now = now_ms(self._redis)
        pipe = self._redis.pipeline(transaction=False)
        pipe.zcard(outbox_key())
        pipe.zcount(outbox_key(), "-inf", now)
        pipe.zrange(outbox_key(), 0, 0, withscores=True)
        pipe.zcard(all_dead_key())
        pipe.hget(sweep_key(), "at")
        waiting, due, first, dead, swept = pipe.execute()
        overdue_s = max(0.0, (now - first[0][1]) / 1000) if first else 0.0
        yield _gauge("darkroom_webhooks_waiting", "Webhooks to deliver, or to try again.", waiting)
        yield _gauge("darkroom_webhooks_due", "Of these, how many should be under way by now.", due)
        yield _gauge("darkroom_webhooks_overdue_seconds", "For how long the first of them has been due.", overdue_s)
        yield _gauge("darkroom_webhooks_dead", "Webhooks that were given up within the last month.", dead)
        if swept is not None:
            age_s = max(0.0, (now - int(swept)) / 1000)
            yield _gauge("darkroom_sweep_age_seconds", "Since a courier last swept the queue.", age_s)


def _lanes(lanes: Sequence[Lane]) -> Iterator[Metric]:
    for name, about, value in (
        ("jobs_waiting", "Jobs that wait for a worker.", lambda lane: lane.waiting),
        ("jobs_running", "Jobs that a worker holds.", lambda lane: lane.running),
        ("workers_live", "Live workers that serve the lane.", lambda lane: lane.workers),
        ("workers_idle", "Live workers that serve the lane and have nothing to do.", lambda lane: lane.idle),
        ("lane_open", "0 where an operator has paused or drains the lane.", lambda lane: lane.gate is Gate.OPEN),
    ):
        family = GaugeMetricFamily(f"darkroom_{name}", about, labels=_LANE)
        for lane in lanes:
            family.add_metric([lane.pool, lane.model], value(lane))
        yield family


def _gauge(name: str, about: str, value: Any) -> Metric:
    return GaugeMetricFamily(name, about, value=float(value))
