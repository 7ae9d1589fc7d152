"""What happens to jobs, as it happens: one thread per process reads the stream and tells every waiter.

A waiter registers first and reads the job's record afterwards, so nothing falls in between. As a safety net it
reads the record again every `REREAD_S`: an event may be lost with Redis' last second of writes.
"""

import queue
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, Self

import structlog
from redis import Redis
from redis.exceptions import RedisError

from api.faults import StreamsFull
from shared.job import Job, Status
from shared.keys import events_key

#: Longest time a read waits for events; below the connection's own timeout.
BLOCK_MS: Final = 1000
#: Waiters read their job's record again after so long without an event.
REREAD_S: Final = 2.0
#: The pause before the stream is read again after an outage.
RECOVER_S: Final = 0.5
REPLAY_PAGE: Final = 1000

_STATUS: Final = {
    "queued": Status.QUEUED,
    "requeued": Status.QUEUED,
    "started": Status.RUNNING,
    "progress": Status.RUNNING,
    "preview": Status.RUNNING,
    **{str(status): status for status in Status if status.is_terminal},
}

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened to a job. `id` is its place in the stream."""

    id: str
    uid: int
    kind: str
    step: int | None = None
    steps: int | None = None

    @classmethod
    def from_entry(cls, id_: str, fields: dict[str, str]) -> Self:
        """Read a stream entry."""
        step, steps = (int(fields[name]) if name in fields else None for name in ("step", "steps"))
        return cls(id_, int(fields["uid"]), fields["event"], step, steps)

    @property
    def status(self) -> Status:
        """The job's state after this."""
        return _STATUS[self.kind]


class Watch:
    """One waiter's view of one job."""

    def __init__(self, uid: int, *, account: str, since: str, close: Callable[["Watch"], None]) -> None:
        self.uid = uid
        self.account = account
        #: The stream's position when the watch began: what comes after is told by `next`.
        self.since = since
        self._inbox: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._close = close
        self.ended = False

    def next(self, timeout_s: float) -> Event | None:
        """Return the next event, or None after the timeout or when the process is leaving (`ended`)."""
        try:
            return self._inbox.get(timeout=max(0.0, timeout_s))
        except queue.Empty:
            return None

    def tell(self, event: Event | None) -> None:
        """Hand an event over; None says that no more come."""
        self.ended = self.ended or event is None
        self._inbox.put(event)

    def close(self) -> None:
        """Stop watching."""
        self._close(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class EventHub:
    """Reads the stream of events once per process, from the first watch on, and serves at most `capacity` watches.

    One account may have three quarters of them: whatever it waits for, others find room.
    """

    def __init__(self, redis: "Redis", *, capacity: int) -> None:
        self._redis = redis
        self._capacity = capacity
        self._of_one = capacity - capacity // 4
        self._lock = threading.Lock()
        self._watches: dict[int, set[Watch]] = defaultdict(set)
        self._open: Counter[str] = Counter()
        self._last = ""
        self._leaving = threading.Event()
        self._reader: threading.Thread | None = None

    def watch(self, uid: int, *, account: str) -> Watch:
        """Begin to watch a job; `StreamsFull` where too many do, or too many of this account. Close it in the end."""
        with self._lock:
            is_full = self._open.total() >= self._capacity or self._open[account] >= self._of_one
            if is_full or self._leaving.is_set():
                raise StreamsFull
            if not self._last:
                self._start()
            watch = Watch(uid, account=account, since=self._last, close=self._forget)
            self._watches[uid].add(watch)
            self._open[account] += 1
        return watch

    def replay(self, watch: Watch, *, after: str) -> list[Event]:
        """Return what happened to a watched job after a stream id. `Watch.next` may tell the newest of it again."""
        found: list[Event] = []
        start = f"({after}"
        while True:
            entries: Any = self._redis.xrange(events_key(), start, count=REPLAY_PAGE)
            found += [
                Event.from_entry(id_, fields)
                for id_, fields in entries
                if fields["uid"] == str(watch.uid) and fields["event"] in _STATUS
            ]
            if len(entries) < REPLAY_PAGE:
                return found
            start = f"({entries[-1][0]}"

    def close(self, *, wait: bool = False) -> None:
        """Let go of every waiter: the process is leaving. With `wait`, the reader has ended too."""
        self._leaving.set()
        with self._lock:
            for watch in [watch for watches in self._watches.values() for watch in watches]:
                watch.tell(None)
        if wait and self._reader is not None:
            self._reader.join()

    def _start(self) -> None:
        newest: Any = self._redis.xrevrange(events_key(), count=1)
        self._last = newest[0][0] if newest else "0-0"
        self._reader = threading.Thread(target=self._read_on, name="events", daemon=True)
        self._reader.start()

    def _read_on(self) -> None:
        while not self._leaving.is_set():
            try:
                answer: Any = self._redis.xread({events_key(): self._last}, count=1000, block=BLOCK_MS)
            except RedisError as error:
                log.warning("events.unread", error=str(error))
                self._leaving.wait(RECOVER_S)
                continue
            for _, entries in _pairs(answer):
                self._tell(entries)

    def _tell(self, entries: Iterable[tuple[str, dict[str, str]]]) -> None:
        with self._lock:
            for id_, fields in entries:
                self._last = id_
                if fields["event"] not in _STATUS:  # of a newer version that shares this Redis
                    continue
                for watch in self._watches.get(int(fields["uid"]), ()):
                    watch.tell(Event.from_entry(id_, fields))

    def _forget(self, watch: Watch) -> None:
        with self._lock:
            watches = self._watches.get(watch.uid, set())
            if watch in watches:
                watches.remove(watch)
                self._open[watch.account] -= 1
                self._open += Counter()  # who has none is forgotten
            if not watches:
                self._watches.pop(watch.uid, None)


def wait_for_end(watch: Watch, read: Callable[[], Job], *, timeout_s: float) -> Job:
    """Return the job as soon as it has ended, or as it stands after the timeout."""
    deadline = time.monotonic() + timeout_s
    job = read()
    while not (job.status.is_terminal or watch.ended) and (left := deadline - time.monotonic()) > 0:
        event = watch.next(min(REREAD_S, left))
        if event is None or event.status.is_terminal:
            job = read()
    return job


def _pairs(answer: Any) -> Iterable[tuple[str, Any]]:
    """Return (stream, entries) pairs of an XREAD's answer, which RESP2 gives as a list and RESP3 as a dict."""
    return answer.items() if isinstance(answer, dict) else answer or ()
