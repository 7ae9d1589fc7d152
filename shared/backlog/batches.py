"""Batches: lists of jobs beside the queue, of which a feeder keeps a part in it."""

import secrets
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any, Final

from redis import Redis

from shared.backlog import counts
from shared.backlog.backlog import IDEMPOTENCY_S, NONCE_S, Backlog
from shared.backlog.encoding import handle_of, is_ingest, lane_of, line_text, submission_of
from shared.backlog.records import BatchReceipt, Idempotency
from shared.backlog.scripts import OUTAGES, Script
from shared.batch import ArchivePart, Batch, BatchLine, BatchOptions, BatchRow, BatchStatus
from shared.celery_app import Bell
from shared.errors import (
    BacklogFull,
    BacklogUnavailable,
    BatchNotFound,
    DarkroomError,
    IdempotencyConflict,
    InsufficientCredits,
    NothingToRetry,
    PoolDraining,
    TooManyWaiting,
)
from shared.job import Status
from shared.keys import (
    batch_archive_key,
    batch_index_key,
    batch_key,
    batch_lines_key,
    feeding_key,
    finished_batches_key,
    job_key,
    leases_key,
)

#: Jobs of one batch that wait in the queue, about.
QUEUED_AT_MOST: Final = 1000
#: Lines that go to Redis in one script.
LINES_AT_ONCE: Final = 256
#: Seconds after which lines that were sent and never accepted go by themselves.
UPLOAD_S: Final = 3600
#: Slices of one batch in one call of `feed`; the rest waits for the next.
SLICES: Final = 16

_REFUSALS: Final[dict[str, type[DarkroomError]]] = {
    "backlog_full": BacklogFull,
    "draining": PoolDraining,
    "too_many_waiting": TooManyWaiting,
    "insufficient_credits": InsufficientCredits,
    "conflict": IdempotencyConflict,
    "gone": BacklogUnavailable,
    "none": BatchNotFound,
    "not_failed": NothingToRetry,
}
_ENDED: Final = (Status.SUCCEEDED, Status.FAILED, Status.CANCELLED, Status.EXPIRED)


class Upload:
    """Lines on their way into Redis; nothing of them is a batch before `Batches.open`. Not for threads."""

    def __init__(self, redis: Redis, script: Script) -> None:
        self.handle = secrets.token_hex(16)
        self.total = 0
        self.price = 0
        self.lanes: set[str] = set()
        #: How many jobs of which kind, for whoever counts them.
        self.kinds: Counter[tuple[str, str, str]] = Counter()
        self._redis = redis
        self._script = script
        self._waiting: list[str] = []
        self._sent = 0

    def add(self, line: BatchLine) -> None:
        """Add a line; every so many are sent together."""
        self.total += 1
        self.price += line.price
        self.lanes.add(lane_of(line.submission, pool=line.pool))
        self.kinds[counts.kind_of(line.submission)] += 1
        self._waiting.append(line_text(line))
        if len(self._waiting) == LINES_AT_ONCE:
            self.flush()

    def flush(self) -> None:
        """Send what was added. `BacklogUnavailable` where Redis is away, or what was sent before is gone."""
        if not self._waiting:
            return
        if self._script(self._redis, self.handle, self._sent, UPLOAD_S, *self._waiting) == "gone":
            raise BacklogUnavailable("The lines that came before are lost; send the batch again.")
        self._sent += len(self._waiting)
        self._waiting = []

    def discard(self) -> None:
        """Forget what was sent. Should that fail, it goes by itself later."""
        self._waiting = []
        try:
            self._redis.unlink(batch_lines_key(self.handle))
        except OUTAGES as error:
            raise BacklogUnavailable from error


class Batches:
    """Takes batches in, feeds them to the queue, tells how they stand. All raise `BacklogUnavailable`."""

    def __init__(self, redis: Redis, bell: Bell, backlog: Backlog, *, limit: int = 1_000_000) -> None:
        self._redis = redis
        self._bell = bell
        self._backlog = backlog
        self._limit = limit
        names = ("batch_add", "batch_open", "batch_set", "batch_lines", "batch_erase", "feed", "page")
        self._scripts = {name: Script(name) for name in names}

    def upload(self) -> Upload:
        """Begin an upload."""
        return Upload(self._redis, self._scripts["batch_add"])

    def open(
        self, upload: Upload, *, account: str, options: BatchOptions, idempotency: Idempotency | None = None
    ) -> BatchReceipt:
        """Accept all that was uploaded, in one step, and queue what there is room for.

        Raises `BacklogFull`, `PoolDraining`, `TooManyWaiting`, `InsufficientCredits` or `IdempotencyConflict`; the
        upload may then be discarded.
        """
        upload.flush()
        state, *rest = self._run(
            "batch_open",
            upload.handle,
            account,
            upload.total,
            upload.price,
            options.to_json(),
            " ".join(
                name for name, asked in {"hook": options.webhook_url, "archive": options.archive}.items() if asked
            ),
            idempotency.key if idempotency else "",
            idempotency.digest if idempotency else "",
            self._limit,
            NONCE_S,
            IDEMPOTENCY_S,
            *sorted(upload.lanes),
        )
        if state in _REFUSALS:
            raise _REFUSALS[state]
        number, handle = rest
        if state != "replayed":
            counts.submitted(upload.kinds)
            self.feed_one(int(number))
        return BatchReceipt(int(number), replayed=state == "replayed", kept=handle == upload.handle)

    def feed(self) -> None:
        """Bring the queue in line with every batch that has something to feed, take out or put back."""
        try:
            waiting: Any = self._redis.smembers(feeding_key())
        except OUTAGES as error:
            raise BacklogUnavailable from error
        for number in sorted(waiting, key=int):
            self.feed_one(int(number))

    def feed_one(self, number: int) -> None:
        """Bring the queue in line with one batch, or a good part of the way there."""
        for _ in range(SLICES):
            more, woken, entries, concluded = self._run("feed", number, QUEUED_AT_MOST, self._limit)
            self._bell.wake(woken)
            self._bell.deliver(entries)
            self._count(concluded)
            if not more:
                return

    def set(self, number: int, action: str, *, account: str) -> Batch:
        """Pause, resume, cancel a batch, or retry what ended in it without pictures; return it as it is then.

        One that is over is neither paused, resumed nor cancelled. `BatchNotFound` where the account has no such batch,
        `NothingToRetry`, `InsufficientCredits` where lines that were cancelled cannot be paid any more.
        """
        state = self._run("batch_set", number, account, action, secrets.token_hex(8))
        if state in _REFUSALS:
            raise _REFUSALS[state]
        self.feed_one(number)
        return self.read(number, account=account)

    def read(self, number: int, *, account: str) -> Batch:
        """Return a batch of this account's; `BatchNotFound` else."""
        (found,) = self._read_many([number])
        if found is None or found.account != account:
            raise BatchNotFound
        return found

    def list_batches(self, account: str, *, before: int | None, limit: int) -> tuple[list[Batch], int | None]:
        """Return up to `limit` batches, newest first, and the cursor for more (`before`), None at the end."""
        numbers = [int(n) for n in self._run("page", batch_index_key(account), before or "", limit)]
        found = [batch for batch in self._read_many(numbers) if batch is not None]
        return found, numbers[-1] if len(numbers) == limit else None

    def rows(self, batch: Batch, *, after: int, limit: int) -> list[BatchRow]:
        """Return up to `limit` lines of a batch, in their order, those behind the line `after`."""
        uids, texts = self._run("batch_lines", batch.id, after, limit)
        jobs = self._backlog.records([int(uid) for uid in uids])
        numbers = count(after + 1)
        fed = [_fed(next(numbers), int(uid), jobs) for uid in uids]
        unfed = Status.CANCELLED if batch.status is BatchStatus.CANCELLED else Status.QUEUED
        waiting = (BatchRow(line=next(numbers), status=unfed, submission=submission_of(text)) for text in texts)
        return [*fed, *waiting]

    def all_rows(self, batch: Batch, *, after: int = 0) -> Iterator[BatchRow]:
        """Yield every line of a batch behind the line `after`, in their order, read as one goes along."""
        for first in range(after, batch.total, LINES_AT_ONCE):
            yield from self.rows(batch, after=first, limit=LINES_AT_ONCE)

    def left_behind(self, batch: Batch) -> Iterator[str]:
        """Yield the handles of a finished batch's lines that never became jobs and whose images are stored."""
        for first in count(0, LINES_AT_ONCE):
            try:
                texts: Any = self._redis.lrange(batch_lines_key(batch.id), first, first + LINES_AT_ONCE - 1)
            except OUTAGES as error:
                raise BacklogUnavailable from error
            yield from (handle_of(text) for text in texts if submission_of(text).spec.has_stored_inputs)
            if len(texts) < LINES_AT_ONCE:
                return

    def outdated(self, *, before_ms: int, limit: int) -> list[Batch]:
        """Return some of the batches that ended before a time, the oldest first."""
        try:
            numbers: Any = self._redis.zrange(
                finished_batches_key(), "-inf", before_ms, byscore=True, offset=0, num=limit
            )
        except OUTAGES as error:
            raise BacklogUnavailable from error
        found = self._read_many([int(number) for number in numbers])  # one may have been retried since
        return [batch for batch in found if batch is not None and batch.finished_ms is not None]

    def forget(self, batch: Batch) -> None:
        """Forget a batch that is over; its jobs stay, and go each at its own time."""
        self._run("batch_erase", batch.id)

    def _read_many(self, numbers: Sequence[int]) -> list[Batch | None]:
        try:
            pipe = self._redis.pipeline(transaction=False)
            for number in numbers:
                pipe.hgetall(batch_key(number))
                pipe.llen(batch_lines_key(number))
                pipe.lrange(batch_archive_key(number), 0, -1)
            answers = pipe.execute()
            running = self._running()
        except OUTAGES as error:
            raise BacklogUnavailable from error
        found = zip(numbers, answers[::3], answers[1::3], answers[2::3], strict=True)
        return [_batch(number, state, unfed, parts, running[str(number)]) for number, state, unfed, parts in found]

    def _running(self) -> Counter[str]:
        """Return how many jobs of each batch a worker holds. While a job's images are fetched it counts as queued."""
        uids: Any = self._redis.zrange(leases_key(), 0, -1)
        pipe = self._redis.pipeline(transaction=False)
        for uid in uids:
            pipe.hmget(job_key(uid), ["batch", "lane"])
        return Counter(batch for batch, lane in pipe.execute() if batch and not is_ingest(lane))

    def _count(self, concluded: Sequence[str]) -> None:
        try:
            counts.ended_by_script(self._redis, concluded)
        except OUTAGES as error:
            raise BacklogUnavailable from error

    def _run(self, name: str, *args: str | int) -> Any:
        return self._scripts[name](self._redis, *args)


def _fed(line: int, uid: int, jobs: dict[int, Any]) -> BatchRow:
    job = jobs.get(uid)
    return BatchRow(line=line, uid=uid, status=job.status if job else None, job=job)


def _batch(number: int, state: dict[str, str], unfed: int, parts: list[str], running: int) -> Batch | None:
    if not state:
        return None
    status = BatchStatus(state["status"])
    ended = {ending: int(state.get(ending, 0)) for ending in _ENDED}
    if status is BatchStatus.CANCELLED:
        ended[Status.CANCELLED] += unfed
    queued = int(state["total"]) - running - sum(ended.values())
    return Batch(
        id=number,
        handle=state["handle"],
        account=state["account"],
        status=status,
        total=int(state["total"]),
        price=int(state["price"]),
        spent=int(state.get("spent", 0)),
        created_ms=int(state["created"]),
        finished_ms=int(state["finished"]) if "finished" in state else None,
        counts={Status.QUEUED: max(0, queued), Status.RUNNING: running, **ended},
        options=BatchOptions.from_json(state["options"]),
        archive=tuple(map(ArchivePart.from_json, parts)) if "archived" in state else None,
    )
