"""The backlog: submit, claim, renew, finish, and what keeps them honest."""

import hmac
import secrets
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from redis import Redis

from shared.backlog import counts
from shared.backlog.encoding import BANDS, deadlines_ms, first_lane, hooks_of, is_ingest, lane_of, track_digest
from shared.backlog.records import DEAD_MS, Claim, Idempotency, Lease, Lost, Receipt, Swept
from shared.backlog.scripts import OUTAGES, Script
from shared.celery_app import Bell
from shared.errors import (
    BacklogFull,
    BacklogUnavailable,
    DarkroomError,
    DeadlinePassed,
    IdempotencyConflict,
    InsufficientCredits,
    JobGone,
    JobNotFound,
    NotFailed,
    NotFinished,
    NotYours,
    PoolDraining,
    TooManyWaiting,
    WorkerLost,
)
from shared.formats import FORMAT, marked
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

#: A lost reply is asked for again within this time.
NONCE_S: Final = 120
IDEMPOTENCY_S: Final = 24 * 3600
#: Previews a job lists at most; the latest are kept.
PREVIEWS_KEPT: Final = 512
#: uids read at once when a list is filtered, and the most that one call looks through.
PAGE: Final = 256
SCANNED_AT_MOST: Final = 20 * PAGE

_OF_A_RUN: Final = frozenset({"started", "worker", "attempts"})
_RETRY_REFUSALS: Final[dict[str, type[DarkroomError]]] = {
    "none": JobNotFound,
    "not_failed": NotFailed,
    "insufficient_credits": InsufficientCredits,
}
_REFUSALS: Final[dict[str, type[DarkroomError]]] = {
    "backlog_full": BacklogFull,
    "draining": PoolDraining,
    "too_many_waiting": TooManyWaiting,
    "insufficient_credits": InsufficientCredits,
    "conflict": IdempotencyConflict,
}


def _failure(error: DarkroomError) -> str:
    told = {"code": error.code, "message": error.message, "retryable": error.retryable}
    return Result(error=told).to_json()


_LOST_RESULT: Final = _failure(WorkerLost())
_EXPIRED_RESULT: Final = _failure(DeadlinePassed())


class Backlog:
    """Every method is one atomic script, or reads only. All raise `BacklogUnavailable` when Redis is away."""

    def __init__(
        self,
        redis: Redis,
        bell: Bell,
        *,
        limit: int = 1_000_000,
        lease_s: float = 10.0,
        on_lost: Callable[[int], None] | None = None,
        reads: int = FORMAT,
    ) -> None:
        """`on_lost` is called with each job that is found to have failed for good with its workers.

        `reads` is the latest format of records that this process can draw.
        """
        self._redis = redis
        self._bell = bell
        self._limit = limit
        self._lease_ms = int(lease_s * 1000)
        self._on_lost = on_lost
        self._reads = reads
        self._introduction: tuple[str | int, ...] = ()
        self._scripts = {name: Script(name) for name in _SCRIPTS}

    def submit(
        self,
        submission: Submission,
        *,
        account: str,
        pool: str,
        price: int = 0,
        idempotency: Idempotency | None = None,
        handle: str | None = None,
    ) -> Receipt:
        """Accept a job whose model is resolved and whose seeds are drawn. `price` is in millicredits.

        `handle` is the job's, 32 hex digits, where its inputs are stored under it already. A job with images that have
        still to be fetched waits for a courier first, and for a worker after `advance`.

        Raises `BacklogFull`, `PoolDraining`, `TooManyWaiting`, `InsufficientCredits` or `IdempotencyConflict`; a
        refusal leaves nothing behind.
        """
        spec = submission.spec
        state, *rest = self._run(
            "submit",
            secrets.token_hex(16),
            account,
            first_lane(submission, pool=pool),
            BANDS[submission.priority or "normal"],
            spec.batch_key(),
            spec.num_images,
            spec.work(),
            price,
            submission.to_json(),
            handle or new_handle(),
            hooks_of(submission),
            "" if submission.track_id is None else track_digest(submission.track_id),
            idempotency.key if idempotency else "",
            idempotency.digest if idempotency else "",
            self._limit,
            NONCE_S,
            IDEMPOTENCY_S,
            *deadlines_ms(submission),
            lane_of(submission, pool=pool),
            1000 * (submission.kept_s or 0),
        )
        if state in _REFUSALS:
            raise _REFUSALS[state]
        uid, handle, created, woken, entries = rest
        self._ring(woken, entries)
        receipt = Receipt(int(uid), handle, int(created), replayed=state == "replayed")
        if not receipt.replayed:
            counts.submitted(Counter([counts.kind_of(submission)]))
        return receipt

    def read(self, uid: int, *, account: str) -> Job:
        """Return a job's record.

        `JobNotFound` where it is nobody's, `NotYours` (one of those) where it is another account's, `JobGone` where it
        was this account's and is past its retention.
        """
        with _outages():
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
        with _outages():
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

    def cancel(self, uid: int, *, account: str) -> Job:
        """End a job that has not ended, at once; one that has is returned as it is."""
        state, woken, *entry = self._run("cancel", uid, account)
        if state == "none":
            raise JobNotFound
        self._ring(woken, entry)
        job = self.read(uid, account=account)
        if state == "ok":
            counts.ended(job.submission, Status.CANCELLED)
        return job

    def erase(self, uid: int, *, account: str) -> Job:
        """Forget a job that has ended (else `NotFinished`) and return what it was."""
        job = self.read(uid, account=account)
        if self._run("erase", uid, account, 0) == "not_finished":
            raise NotFinished
        return job

    def retry(self, uid: int, *, account: str) -> Job:
        """Queue a job that failed, was cancelled or expired once more, under its own uid.

        `NotFailed` for any other, `InsufficientCredits` where its price is not there any more.
        """
        job = self.read(uid, account=account)
        readable = job.submission.format <= self._reads
        # Who does not know all of a job cannot tell what it may share a call with.
        key = job.submission.spec.batch_key() if readable else f"solo{uid}"
        state, woken, entries = self._run("retry", uid, account, secrets.token_hex(8), key)
        if state in _RETRY_REFUSALS:
            raise _RETRY_REFUSALS[state]
        self._ring(woken, entries)
        return self.read(uid, account=account)

    def outdated(self, *, before_ms: int, limit: int) -> list[Job]:
        """Return some of the jobs that ended before a time, the oldest first, and of those whose own time is over."""
        with _outages():
            usual: Any = self._redis.zrange(done_key(), "-inf", before_ms, byscore=True, offset=0, num=limit)
            brief: Any = self._redis.zrange(brief_key(), "-inf", self.now_ms(), byscore=True, offset=0, num=limit)
        return list(self._read_many(list(dict.fromkeys(int(uid) for uid in [*usual, *brief]))))

    def bury(self, job: Job, *, tombstone_s: int) -> None:
        """Forget a job past its retention; for `tombstone_s` its owner is still told that it was there."""
        self._run("erase", job.uid, job.account, tombstone_s)

    def now_ms(self) -> int:
        """Return Redis' own time."""
        with _outages():
            return now_ms(self._redis)

    def ping(self) -> None:
        """Raise `BacklogUnavailable` unless Redis answers."""
        with _outages():
            self._redis.ping()

    def pools(self) -> dict[str, int]:
        """Return how many live workers each pool has."""
        with _outages():
            names = [self._redis.hget(worker_key(node), "pool") for node in self._live_nodes()]
        return dict(Counter(str(name) for name in names if name))

    def pool_for(self, model: str, *, own: str, record_format: int = 1) -> str:
        """Return the pool whose workers would take a job for the model soonest: one with an idle worker, `own` first.

        `own` as well where no live worker serves the model. Workers may be taken a moment later: it is a good guess.
        """
        lane = marked(model, record_format)
        with _outages():
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

    def hello(
        self, node: str, incarnation: str, *, pool: str, models: Sequence[str], results_of: Sequence[Lease] = ()
    ) -> frozenset[int]:
        """Introduce a worker's process. What a dead predecessor of the same name held is requeued at once.

        Of `results_of`, which it drew and whose results the new process has, it returns the uids that it holds now.
        """
        served = [marked(model, known) for model in models for known in range(1, self._reads + 1)]
        self._introduction = (node, incarnation, pool, "\n".join(served), _LOST_RESULT, self._lease_ms)
        requeued, _, woken, entries, concluded, held = self._run("hello", *self._introduction, *_pairs(results_of))
        self._ring(woken, entries)
        self._count_lost("restarted", requeued, concluded)
        return frozenset(int(uid) for uid in held)

    def claim(self, node: str, *, max_jobs: int, max_images: int, loaded_model: str = "") -> Claim:
        """Lease a batch; an empty one means that nothing was claimable and that the worker is noted idle."""
        nonce = secrets.token_hex(8)
        jobs, woken, entries = self._run("claim", node, nonce, max_jobs, max_images, self._lease_ms, loaded_model)
        self._ring(woken, entries)
        return Claim(tuple(_lease(*job) for job in jobs))

    def begin(self, node: str, leases: Sequence[Lease]) -> Lost:
        """Note that a claim's jobs, its first one aside, begin to be drawn; returns what the node no longer holds.

        Only what has begun is lost with its worker. The rest of a claim goes back to where it was.
        """
        return Lost(frozenset(int(uid) for uid in self._run("begin", node, *_pairs(leases))))

    def renew(self, node: str, progress: Mapping[Lease, tuple[int, int]]) -> Lost:
        """Keep the node alive and its leases running; tell (step, steps) of each. Returns what it no longer holds."""
        told = [n for lease, (step, steps) in progress.items() for n in (lease.uid, lease.fence, step, steps)]
        known, lost, woken, entries = self._run("renew", node, self._lease_ms, *told)
        if not known and self._introduction:  # Redis came back without its data
            self._run("hello", *self._introduction)
            woken = [node]
        self._ring(woken, entries)
        return Lost(frozenset(int(uid) for uid in lost))

    def preview(self, node: str, lease: Lease, preview: Preview) -> bool:
        """List a preview of a job this node holds. False: fenced off."""
        answer = self._run("preview", node, lease.uid, lease.fence, preview.to_json(), PREVIEWS_KEPT)
        return bool(answer == "ok")

    def finish(self, node: str, lease: Lease, status: Status, result: Result) -> bool:
        """End a job this node holds; of one that succeeded its delivered images are settled, all else is refunded.

        False: fenced off, the result is void.
        """
        images = len(result.artifacts)
        steps = images * lease.submission.spec.steps_used
        told = (str(status), result.to_json(), images, steps)
        state, woken, *entry = self._run("finish", node, lease.uid, lease.fence, *told)
        self._ring(woken, entry)
        if state != "fenced":
            counts.finished(lease, status, result)
        return bool(state != "fenced")

    def advance(self, node: str, lease: Lease, submission: Submission, *, pool: str) -> bool:
        """Send a job whose images are fetched on to the workers of its model. False: fenced off."""
        lane, key = lane_of(submission, pool=pool), submission.spec.batch_key()
        state, woken = self._run("advance", node, lease.uid, lease.fence, lane, key, submission.to_json())
        self._bell.wake(woken)
        return bool(state != "fenced")

    def handback(self, node: str, leases: Sequence[Lease]) -> None:
        """Return leases whose jobs have not been started; the attempt does not count."""
        if leases:
            _, woken = self._run("handback", node, *_pairs(leases))
            self._bell.wake(woken)

    def goodbye(self, node: str, *, results_of: Sequence[Lease] = ()) -> None:
        """Forget a worker that leaves; what it still holds is requeued, but for what it has the results of."""
        requeued, woken, entries, concluded = self._run("goodbye", node, _LOST_RESULT, *_pairs(results_of))
        self._ring(woken, entries)
        self._count_lost("left", requeued, concluded)

    def sweep(self) -> Swept:
        """Requeue what dead workers held, and wake idle workers while work waits. Safe to run anywhere, any time."""
        with _outages():
            server: Any = self._redis.info("server")
            run_id = server.get("run_id", "")
        requeued, quarantined, woken, entries, concluded = self._run(
            "sweep", self._lease_ms, run_id, _LOST_RESULT, _EXPIRED_RESULT
        )
        self._ring(woken, entries)
        self._count_lost("silent", requeued, concluded)
        return Swept(requeued, quarantined, len(woken))

    def records(self, uids: Sequence[int]) -> dict[int, Job]:
        """Return the jobs of these uids that are there still, whosever they are."""
        return {job.uid: job for job in self._read_many(uids)}

    def _read_many(self, uids: Sequence[int]) -> Iterable[Job]:
        with _outages():
            pipe = self._redis.pipeline(transaction=False)
            for uid in uids:
                _ask(pipe, uid)
            answers = pipe.execute()
        for uid, *answer in zip(uids, *(answers[offset::4] for offset in range(4)), strict=True):
            state, submission, result, previews = answer
            if state and submission:  # else erased in between
                yield _job(uid, state, submission, result, previews)

    def _run(self, name: str, *args: str | int) -> Any:
        return self._scripts[name](self._redis, *args)

    def _count_lost(self, why: str, requeued: int, concluded: Sequence[str]) -> None:
        with _outages():
            counts.lost(self._redis, why, requeued, concluded)
        if self._on_lost is not None:
            for uid, status in zip(concluded[::2], concluded[1::2], strict=True):
                if status == Status.FAILED:
                    self._on_lost(int(uid))

    def _ring(self, woken: Sequence[str], entries: Sequence[str]) -> None:
        self._bell.wake(woken)
        self._bell.deliver(entries)


_SCRIPTS: Final = (
    "submit",
    "advance",
    "claim",
    "begin",
    "renew",
    "finish",
    "preview",
    "handback",
    "hello",
    "goodbye",
    "cancel",
    "sweep",
    "position",
    "erase",
    "retry",
    "page",
)


@contextmanager
def _outages() -> Any:
    try:
        yield
    except OUTAGES as error:
        raise BacklogUnavailable from error


def _ask(pipe: Any, uid: int) -> None:
    pipe.hgetall(job_key(uid))
    pipe.get(spec_key(uid))
    pipe.get(result_key(uid))
    pipe.lrange(previews_key(uid), 0, -1)


def new_handle() -> str:
    """Return 128 random bits as hex: what a job is called wherever others can see it."""
    return secrets.token_hex(16)


def _pairs(leases: Sequence[Lease]) -> list[int]:
    return [n for lease in leases for n in (lease.uid, lease.fence)]


def _lease(*values: str) -> Lease:
    uid, fence, handle, account, attempts, created, started, submission = values
    return Lease(
        uid=int(uid),
        fence=int(fence),
        handle=handle,
        account=account,
        attempts=int(attempts),
        created_ms=int(created),
        started_ms=int(started),
        submission=Submission.from_json(submission),
    )


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
