"""What operators see of the queue beside its lanes: workers and their jobs, accounts, jobs set apart. Reads only."""

from collections.abc import Iterable, Sequence
from typing import Any

from redis import Redis

from shared.backlog.records import AccountLoad, Running, SetApart, WorkerView
from shared.keys import (
    account_key,
    held_key,
    idle_key,
    job_key,
    names_key,
    quarantine_key,
    worker_key,
    workers_key,
)
from shared.redis_client import now_ms

_OF_A_JOB = ("account", "lane", "step", "steps", "started")


def workers(redis: Redis) -> list[WorkerView]:
    """Return the workers and couriers that the last sweep took for alive, by name, with the jobs that they hold."""
    now = now_ms(redis)
    heard: Any = redis.zrange(workers_key(), 0, -1, withscores=True)
    found = []
    for node, at_ms in sorted(heard):
        pool, models = redis.hmget(worker_key(node), ["pool", "models"])
        if pool is None:  # it has left in between
            continue
        served = tuple(str(models).split("\n"))
        view = WorkerView(
            node=node,
            pool=str(pool),
            models=served,
            silent_s=max(0.0, (now - at_ms) / 1000),
            idle=any(redis.zscore(idle_key(str(pool), model), node) is not None for model in served),
            jobs=tuple(_running(redis, node, now)),
        )
        found.append(view)
    return found


def busiest(redis: Redis, limit: int) -> list[AccountLoad]:
    """Return the accounts with the most jobs waiting or running, at most so many."""
    ids: Any = redis.hgetall(names_key())
    pipe = redis.pipeline(transaction=False)
    for account in ids.values():
        pipe.hmget(account_key(account), ["waiting", "running"])
    counted = [[int(value or 0) for value in values] for values in pipe.execute()]
    loads = [
        AccountLoad(name=name, waiting=waiting, running=running)
        for name, (waiting, running) in zip(ids, counted, strict=True)
        if waiting or running
    ]
    return sorted(loads, key=lambda load: (-load.waiting - load.running, load.name))[:limit]


def set_apart(redis: Redis, limit: int) -> list[SetApart]:
    """Return jobs that were lost with too many workers, the latest first, at most so many."""
    entries: Any = redis.zrange(quarantine_key(), 0, limit - 1, desc=True, withscores=True)
    states = _states(redis, [uid for uid, _ in entries], ("account", "lane", "worker", "attempts"))
    names = _names(redis, {account for account, *_ in states if account})
    return [
        SetApart(
            uid=int(uid), account=names[account], lane=lane, worker=worker, attempts=int(attempts), at_ms=int(at_ms)
        )
        for (uid, at_ms), (account, lane, worker, attempts) in zip(entries, states, strict=True)
        if account
    ]


def _running(redis: Redis, node: str, now: int) -> Iterable[Running]:
    uids: Any = sorted(redis.smembers(held_key(node)))
    states = _states(redis, uids, _OF_A_JOB)
    names = _names(redis, {account for account, *_ in states if account})
    for uid, (account, lane, step, steps, started) in zip(uids, states, strict=True):
        if started:  # else it has ended in between
            yield Running(
                uid=int(uid),
                account=names[account],
                lane=lane,
                step=int(step or 0),
                steps=int(steps or 0),
                seconds=max(0.0, (now - int(started)) / 1000),
            )


def _states(redis: Redis, uids: Sequence[str], fields: Sequence[str]) -> list[list[Any]]:
    pipe = redis.pipeline(transaction=False)
    for uid in uids:
        pipe.hmget(job_key(uid), list(fields))
    return list(pipe.execute())


def _names(redis: Redis, accounts: Iterable[str]) -> dict[str, str]:
    return {account: str(redis.hget(account_key(account), "name") or account) for account in accounts}
