"""What operators do with the queue: look at it; pause, drain and resume its lanes."""

from collections import Counter
from collections.abc import Callable
from typing import Any, TypeVar

from redis import Redis

from shared.backlog import view
from shared.backlog.encoding import INGEST_POOL
from shared.backlog.records import DEAD_MS, AccountLoad, Gate, Lane, SetApart, WorkerView
from shared.backlog.scripts import OUTAGES, Script
from shared.celery_app import Bell
from shared.errors import BacklogUnavailable
from shared.formats import unmarked
from shared.keys import (
    account_key,
    gates_key,
    idle_key,
    job_key,
    lanes_key,
    leases_key,
    names_key,
    pool_key,
    worker_key,
    workers_key,
)
from shared.redis_client import now_ms

Answer = TypeVar("Answer")


class Operations:
    """Operators' side of the backlog. Raises `BacklogUnavailable` when Redis is away."""

    def __init__(self, redis: Redis, bell: Bell) -> None:
        self._redis = redis
        self._bell = bell
        self._gate = Script("gate")

    def set_gate(self, pool: str, gate: Gate, *, model: str = "") -> None:
        """Open, pause or drain a pool, or its lane for one model. Opening wakes workers for what waits.

        A lane is open where neither it nor its pool is shut; each keeps its own state. A model's lanes for jobs of
        later formats go with it.
        """
        self._bell.wake(self._gate(self._redis, pool, unmarked(model), gate.value))

    def lanes(self) -> list[Lane]:
        """Return every lane in which something waits or runs, that a live worker serves, or that is not open."""
        return self._asked(self._lanes)

    def workers(self) -> list[WorkerView]:
        """Return the workers and couriers, by name, with the jobs that they hold."""
        return self._asked(lambda: view.workers(self._redis))

    def busiest(self, limit: int) -> list[AccountLoad]:
        """Return the accounts with the most jobs waiting or running, at most so many."""
        return self._asked(lambda: view.busiest(self._redis, limit))

    def set_apart(self, limit: int) -> list[SetApart]:
        """Return jobs that were lost with too many workers, the latest first, at most so many."""
        return self._asked(lambda: view.set_apart(self._redis, limit))

    def shut_pools(self) -> dict[str, Gate]:
        """Return the pools that are paused or draining as a whole."""
        return self._asked(self._shut_pools)

    def pools(self) -> set[str]:
        """Return every pool that an account, a worker, a job or an earlier gate names, and the couriers'."""
        return self._asked(self._pools)

    def _asked(self, ask: Callable[[], Answer]) -> Answer:
        try:
            return ask()
        except OUTAGES as error:
            raise BacklogUnavailable from error

    def _shut_pools(self) -> dict[str, Gate]:
        names: Any = self._redis.smembers(gates_key())
        return {name: self._gate_of(name, "") for name in sorted(names) if "/" not in name}

    def _pools(self) -> set[str]:
        accounts: Any = self._redis.hvals(names_key())
        nodes: Any = self._redis.zrange(workers_key(), 0, -1)
        pipe = self._redis.pipeline(transaction=False)
        for key in (*map(account_key, accounts), *map(worker_key, nodes)):
            pipe.hget(key, "pool")
        lanes: Any = {*self._redis.hkeys(lanes_key()), *self._running(), *self._redis.smembers(gates_key())}
        return {INGEST_POOL, *filter(None, pipe.execute()), *(lane.partition("/")[0] for lane in lanes)}

    def _lanes(self) -> list[Lane]:
        waiting: Any = self._redis.hgetall(lanes_key())
        running, workers = self._running(), self._workers()
        gates: Any = self._redis.smembers(gates_key())
        names = {*waiting, *running, *workers, *(gate for gate in gates if "/" in gate)}
        found = []
        for name in sorted(names):
            pool, _, model = name.partition("/")
            lane = Lane(
                pool=pool,
                model=model,
                gate=self._gate_of(pool, model),
                waiting=int(waiting.get(name, 0)),
                running=running[name],
                workers=workers[name],
                idle=int(self._redis.zcard(idle_key(pool, model))),
            )
            found.append(lane)
        return found

    def _running(self) -> Counter[str]:
        uids: Any = self._redis.zrange(leases_key(), 0, -1)
        pipe = self._redis.pipeline(transaction=False)
        for uid in uids:
            pipe.hget(job_key(uid), "lane")
        return Counter(lane for lane in pipe.execute() if lane)

    def _workers(self) -> Counter[str]:
        oldest = now_ms(self._redis) - DEAD_MS
        nodes: Any = self._redis.zrange(workers_key(), oldest, "+inf", byscore=True)
        pipe = self._redis.pipeline(transaction=False)
        for node in nodes:
            pipe.hmget(worker_key(node), ["pool", "models"])
        served = [(pool, models) for pool, models in pipe.execute() if pool]
        return Counter(f"{pool}/{model}" for pool, models in served for model in models.split("\n") if model)

    def _gate_of(self, pool: str, model: str) -> Gate:
        model = unmarked(model)  # a model's lanes for later formats are shut with it
        fields = ("paused", "drain", f"paused/{model}", f"drain/{model}")
        paused, draining, lane_paused, lane_draining = self._redis.hmget(pool_key(pool), fields)
        if paused or lane_paused:
            return Gate.PAUSED
        return Gate.DRAINING if draining or lane_draining else Gate.OPEN
