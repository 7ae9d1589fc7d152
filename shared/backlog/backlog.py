"""The backlog, as it changes: submit, claim, renew, finish, and what keeps them honest."""

import secrets
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from redis import Redis

from shared.backlog import counts
from shared.backlog.encoding import BANDS, deadlines_ms, first_lane, hooks_of, lane_of, track_digest
from shared.backlog.reader import Reader, outages
from shared.backlog.records import Claim, Idempotency, Lease, Lost, Receipt, Swept
from shared.backlog.scripts import Script
from shared.celery_app import Bell
from shared.errors import (
    BacklogFull,
    DarkroomError,
    DeadlinePassed,
    IdempotencyConflict,
    InsufficientCredits,
    JobNotFound,
    NotFailed,
    NotFinished,
    PoolDraining,
    TooManyWaiting,
    WorkerLost,
)
from shared.formats import FORMAT, marked
from shared.job import Job, Preview, Result, Status, Submission

#: A lost reply is asked for again within this time.
NONCE_S: Final = 120
IDEMPOTENCY_S: Final = 24 * 3600
#: Previews a job lists at most; the latest are kept.
PREVIEWS_KEPT: Final = 512

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


class Backlog(Reader):
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
        super().__init__(redis)
        self._bell = bell
        self._limit = limit
        self._lease_ms = int(lease_s * 1000)
        self._on_lost = on_lost
        self._reads = reads
        self._introduction: tuple[str | int, ...] = ()
        #: The latest uid given out here: a server that has forgotten it shall not give it out again.
        self._latest = 0
        self._scripts |= {name: Script(name) for name in _SCRIPTS}

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
            self._latest,
        )
        if state in _REFUSALS:
            raise _REFUSALS[state]
        uid, handle, created, woken, entries = rest
        self._latest = max(self._latest, int(uid))
        self._ring(woken, entries)
        receipt = Receipt(int(uid), handle, int(created), replayed=state == "replayed")
        if not receipt.replayed:
            counts.submitted(Counter([counts.kind_of(submission)]))
        return receipt

    def cancel(self, uid: int, *, account: str) -> Job:
        """End a job that has not ended, at once; one that has is returned as it is."""
        state, woken, *entry = self._run("cancel", uid, account)
        if state == "none":
            raise JobNotFound
        self._ring(woken, entry)
        job = self.read(uid, account=account)
        if state == "ok":
            with outages():
                counts.cancelled(self._redis, uid, job.submission)
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

    def bury(self, job: Job, *, tombstone_s: int) -> None:
        """Forget a job past its retention; for `tombstone_s` its owner is still told that it was there."""
        self._run("erase", job.uid, job.account, tombstone_s)

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
        with outages():
            server: Any = self._redis.info("server")
            run_id = server.get("run_id", "")
        requeued, quarantined, woken, entries, concluded = self._run(
            "sweep", self._lease_ms, run_id, _LOST_RESULT, _EXPIRED_RESULT
        )
        self._ring(woken, entries)
        self._count_lost("silent", requeued, concluded)
        return Swept(requeued, quarantined, len(woken))

    def _count_lost(self, why: str, requeued: int, concluded: Sequence[str]) -> None:
        with outages():
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
    "erase",
    "retry",
)


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
