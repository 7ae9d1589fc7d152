"""A job's life as Server-Sent Events (https://html.spec.whatwg.org/multipage/server-sent-events.html).

A stream begins with a `snapshot`, or, for a caller that names the last event it saw, with what it missed. It ends
with the job. The `id` of an event is its place in the backlog's stream.
"""

import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from api.events import REREAD_S, Event, EventHub, Watch
from shared.errors import BacklogUnavailable, JobNotFound
from shared.job import Job, Status

MIMETYPE: Final = "text/event-stream"
#: A comment is sent after so long without an event, so that proxies keep the connection and we notice a caller gone.
HEARTBEAT_S: Final = 15.0
#: What callers are asked to wait before they connect again.
RECONNECT_MS: Final = 2000
_EVENT_ID: Final = re.compile(r"\d{1,20}-\d{1,20}")


@dataclass(slots=True)
class _Told:
    """What the caller knows."""

    status: Status
    step: int = 0
    id: str = "0-0"

    def is_news(self, event: Event) -> bool:
        """Whether an event says more. One that came before the snapshot or the replay was read may not."""
        if _place(event.id) <= _place(self.id) or event.kind == "queued":
            return False
        if event.kind == "started":
            return self.status is Status.QUEUED
        if event.kind == "progress":
            return self.status is Status.QUEUED or (event.step or 0) > self.step
        return True

    def learn(self, event: Event) -> None:
        """Take note of what was sent."""
        self.id, self.status = event.id, event.status
        self.step = (event.step or 0) if event.status is Status.RUNNING else 0


def read_event_id(text: str | None) -> str | None:
    """Return a Last-Event-ID, or None where it is none of ours."""
    return text if text and _EVENT_ID.fullmatch(text) else None


def has_seen_the_end(job: Job, last_event_id: str) -> bool:
    """Whether a caller who saw this event knows how the job ended.

    Then it is told to connect no more: browsers do so by themselves whenever a stream ends.
    """
    return job.status.is_terminal and _place(last_event_id)[0] >= (job.finished_ms or 0)


def stream(
    hub: EventHub,
    watch: Watch,
    job: Job,
    *,
    read: Callable[[], Job],
    last_event_id: str | None,
    heartbeat_s: float = HEARTBEAT_S,
) -> Iterator[str]:
    """Yield a job's events until it ends. `job` was read after the watch began."""
    yield f"retry: {RECONNECT_MS}\n\n"
    told = _Told(job.status, job.step)
    missed = hub.replay(watch, after=last_event_id) if last_event_id else []
    for event in missed:
        told.learn(event)
        yield _event_frame(event)
    if not missed or (job.status.is_terminal and not told.status.is_terminal):
        told = _Told(job.status, job.step)
        yield _snapshot_frame(job, watch)
    if not told.status.is_terminal:
        yield from _follow(watch, told, read=read, heartbeat_s=heartbeat_s)


def _follow(watch: Watch, told: _Told, *, read: Callable[[], Job], heartbeat_s: float) -> Iterator[str]:
    spoken = time.monotonic()
    while not (told.status.is_terminal or watch.ended):
        event = watch.next(min(REREAD_S, heartbeat_s))
        frame = ""
        if event is None:
            frame = _check(watch, told, read)
        elif told.is_news(event):
            told.learn(event)
            frame = _event_frame(event)
        if frame:
            yield frame
        elif time.monotonic() - spoken >= heartbeat_s:
            yield ":\n\n"
        else:
            continue
        spoken = time.monotonic()


def _check(watch: Watch, told: _Told, read: Callable[[], Job]) -> str:
    """Return a snapshot where the record knows a state that no event told of."""
    try:
        job = read()
    except BacklogUnavailable:
        return ""
    except JobNotFound:  # erased meanwhile
        watch.ended = True
        return ""
    if job.status is told.status:
        return ""
    told.status, told.step = job.status, job.step
    return _snapshot_frame(job, watch)


def _snapshot_frame(job: Job, watch: Watch) -> str:
    data: dict[str, Any] = {"uid": job.uid, "status": str(job.status)}
    if job.status is Status.QUEUED:
        data["position"] = job.position
    if job.steps:
        data["progress"] = {"step": job.step, "steps": job.steps}
    return _frame(_snapshot_id(job, watch), "snapshot", data)


def _snapshot_id(job: Job, watch: Watch) -> str:
    """Return the stream's position, which for a job that has ended lies behind its end."""
    if job.finished_ms is not None and _place(watch.since)[0] < job.finished_ms:
        return f"{job.finished_ms}-0"
    return watch.since


def _place(event_id: str) -> tuple[int, int]:
    milliseconds, _, number = event_id.partition("-")
    return int(milliseconds), int(number)


def _event_frame(event: Event) -> str:
    data: dict[str, Any] = {"uid": event.uid, "status": str(event.status)}
    if event.step is not None:
        data["progress"] = {"step": event.step, "steps": event.steps}
    return _frame(event.id, event.kind, data)


def _frame(id_: str, event: str, data: dict[str, Any]) -> str:
    return f"id: {id_}\nevent: {event}\ndata: {json.dumps(data)}\n\n"
