"""Reading the backlog: jobs as they stand, lists of them, and who is there to draw them. Nothing is changed."""

import hmac
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from redis import Redis

from shared.backlog.encoding import is_ingest, track_digest
from shared.backlog.records import DEAD_MS
from shared.backlog.scripts import OUTAGES, Script
from shared.errors import BacklogUnavailable, JobGone, JobNotFound, NotYours
from shared.formats import marked
from shared.job import Job, Preview, Result, Status, Submission
from shared.keys import (
    brief_key,
    done_key,
    idle_key,
    index_key,
    job_key,
    pool_key,
    previews_key,
    result_key,
    spec_key,
    tombstone_key,
    track_key,
    worker_key,
    workers_key,
)
from shared.redis_client import now_ms

#: uids read at once when a list is filtered, and the most that one call looks through.
PAGE: Final = 256
SCANNED_AT_MOST: Final = 20 * PAGE

_OF_A_RUN: Final = frozenset({"started", "worker", "attempts"})


@contextmanager
def outages() -> Iterator[None]:
    """Raise `BacklogUnavailable` for what Redis raises where it cannot serve us."""
    try:
        yield
    except OUTAGES as error:
        raise BacklogUnavailable from error


class Reader:
    """What can be asked of the backlog. All raise `BacklogUnavailable` when Redis is away."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._scripts = {name: Script(name) for name in ("page", "position")}

    def read(self, uid: int, *, account: str) -> Job:
        """Return a job's record.

        `JobNotFound` where it is nobody's, `NotYours` (one of those) where it is another account's, `JobGone` where it
        was this account's and is past its retention.
        """
        with outages():
            pipe = self._redis.pipeline(transaction=False)
            _ask(pipe, uid)
            pipe.hget(tombstone_key(uid), str(uid % 128))
            state, submission, result, previews, buried_for = pipe.execute()
        if buried_for == account:
            raise JobGone
        if not state or state["account"] != account:
            raise NotYours if state or buried_for else JobNotFound
        job = _job(uid, state, submission, result, previews)
        return job if job.status.is_terminal else self._expected(job)

    def _expected(self, job: Job) -> Job:
        """Return a job that has not ended with what it waits for, and for how long about."""
        found = self._run("position", job.uid)
        if not found:
            return job
        position, _, waits_for, left_ms = found
        return job.evolve(
            position=None if position == "" else position,
            waits_for=waits_for or None,
            eta_s=None if left_ms == "" else -(-int(left_ms) // 1000),
        )

    def read_by_handle(self, uid: int, handle: str) -> Job:
        """Return the record of a job whose handle the caller knows; `JobNotFound` else."""
        with outages():
            known: Any = self._redis.hmget(job_key(uid), ["handle", "account"])
        if known[0] is None or not hmac.compare_digest(str(known[0]), handle):
            raise JobNotFound
        return self.read(uid, account=str(known[1]))

    def list_jobs(
        self,
        account: str,
        *,
        status: Status | None = None,
        track_id: str | int | None = None,
        before: int | None = None,
        limit: int = 50,
    ) -> tuple[list[Job], int | None]:
        """Return up to `limit` jobs, newest first, and the cursor for more (`before`), None at the end.

        A page may be short although more follow: one call looks through a bounded number of jobs.
        """
        source = index_key(account) if track_id is None else track_key(account, track_digest(track_id))
        found: list[Job] = []
        for _ in range(SCANNED_AT_MOST // PAGE):
            uids = [int(uid) for uid in self._run("page", source, before or "", PAGE)]
            for job in self._read_many(uids):
                if status is None or job.status is status:
                    found.append(job)
                    if len(found) == limit:
                        return found, job.uid
            if len(uids) < PAGE:
                return found, None
            before = uids[-1]
        return found, before

    def records(self, uids: Sequence[int]) -> dict[int, Job]:
        """Return the jobs of these uids that are there still, whosever they are."""
        return {job.uid: job for job in self._read_many(uids)}

    def _read_many(self, uids: Sequence[int]) -> Iterable[Job]:
        with outages():
            pipe = self._redis.pipeline(transaction=False)
            for uid in uids:
                _ask(pipe, uid)
            answers = pipe.execute()
        for uid, *answer in zip(uids, *(answers[offset::4] for offset in range(4)), strict=True):
            state, submission, result, previews = answer
            if state and submission:  # else erased in between
                yield _job(uid, state, submission, result, previews)

    def outdated(self, *, before_ms: int, limit: int) -> list[Job]:
        """Return some of the jobs that ended before a time, the oldest first, and of those whose own time is over."""
        with outages():
            usual: Any = self._redis.zrange(done_key(), "-inf", before_ms, byscore=True, offset=0, num=limit)
            brief: Any = self._redis.zrange(brief_key(), "-inf", self.now_ms(), byscore=True, offset=0, num=limit)
        return list(self._read_many(list(dict.fromkeys(int(uid) for uid in [*usual, *brief]))))

    def now_ms(self) -> int:
        """Return Redis' own time."""
        with outages():
            return now_ms(self._redis)

    def ping(self) -> None:
        """Raise `BacklogUnavailable` unless Redis answers."""
        with outages():
            self._redis.ping()

    def pools(self) -> dict[str, int]:
        """Return how many live workers each pool has."""
        with outages():
            names = [self._redis.hget(worker_key(node), "pool") for node in self._live_nodes()]
        return dict(Counter(str(name) for name in names if name))

    def pool_for(self, model: str, *, own: str, record_format: int = 1) -> str:
        """Return the pool whose workers would take a job for the model soonest: one with an idle worker, `own` first.

        `own` as well where no live worker serves the model. Workers may be taken a moment later: it is a good guess.
        """
        lane = marked(model, record_format)
        with outages():
            served = [self._redis.hmget(worker_key(node), ["pool", "models"]) for node in self._live_nodes()]
            pools = {str(pool) for pool, models in served if pool and lane in str(models).split("\n")}
            states = {pool: self._pool_state(pool, model, lane) for pool in sorted(pools)}
        open_pools = {pool: idle for pool, idle in states.items() if idle is not None}
        return max(open_pools, key=lambda pool: (open_pools[pool] > 0, pool == own, open_pools[pool]), default=own)

    def _live_nodes(self) -> list[str]:
        # Not only those the sweep has left: without a courier nobody sweeps.
        nodes: Any = self._redis.zrange(workers_key(), self.now_ms() - DEAD_MS, "+inf", byscore=True)
        return list(nodes)

    def _pool_state(self, pool: str, model: str, lane: str) -> int | None:
        """Return how many of a pool's workers are idle and serve a lane, None where it is paused or draining."""
        shut = ("paused", f"paused/{model}", "drain", f"drain/{model}")
        if any(self._redis.hmget(pool_key(pool), shut)):
            return None
        return int(self._redis.zcard(idle_key(pool, lane)))

    def _run(self, name: str, *args: str | int) -> Any:
        return self._scripts[name](self._redis, *args)


def _ask(pipe: Any, uid: int) -> None:
    pipe.hgetall(job_key(uid))
    pipe.get(spec_key(uid))
    pipe.get(result_key(uid))
    pipe.lrange(previews_key(uid), 0, -1)


def _job(uid: int, state: Mapping[str, str], submission: str, result: str | None, previews: Sequence[str]) -> Job:
    status = Status(state["status"])
    if is_ingest(state["lane"]) and status is Status.RUNNING:
        status = Status.QUEUED  # a courier fetches its images; nothing is drawn yet
        state = {name: value for name, value in state.items() if name not in _OF_A_RUN}
    return Job(
        uid=uid,
        handle=state["handle"],
        account=state["account"],
        status=status,
        submission=Submission.from_json(submission),
        attempts=int(state.get("attempts", 0)),
        created_ms=int(state["created"]),
        started_ms=int(state["started"]) if "started" in state else None,
        finished_ms=int(state["finished"]) if "finished" in state else None,
        step=int(state.get("step", 0)),
        steps=int(state.get("steps", 0)),
        fence=int(state.get("fence", 0)),
        worker=state.get("worker"),
        result=Result.from_json(result) if result else Result(),
        previews=tuple(Preview.from_json(preview) for preview in previews),
    )
