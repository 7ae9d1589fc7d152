"""Events and streams: who is told what, and when."""

import json

import fakeredis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.events import EventHub, wait_for_end
from api.faults import StreamsFull
from api.intake import merge_pages
from api.streams import stream
from shared.errors import BacklogUnavailable, JobNotFound
from shared.job import Job, Status, Submission
from shared.spec import JobSpec

UID = 1795167574675


class Reads:
    """A record that is read, and what the next reads will say."""

    def __init__(self, **state) -> None:
        self.job = Job(
            uid=UID,
            handle="h",
            account="1",
            status=Status.QUEUED,
            submission=Submission(spec=JobSpec(prompt="x")),
        ).evolve(**state)
        self.errors: list[Exception] = []
        self.count = 0

    def __call__(self) -> Job:
        self.count += 1
        if self.errors:
            raise self.errors.pop(0)
        return self.job


@pytest.fixture
def redis():
    return fakeredis.FakeRedis(decode_responses=True)


@pytest.fixture
def hub(redis):
    hub = EventHub(redis, capacity=3)
    yield hub
    hub.close()


def emit(redis, event, uid=UID, **fields):
    return redis.xadd("{dr}:ev", {"uid": uid, "account": "1", "event": event, **fields})


def frames(hub, watch, read, **options):
    """Yield (event, data) of a stream; comments as (None, None)."""
    told = stream(hub, watch, read(), read=read, **{"last_event_id": None, "heartbeat_s": 0.05, **options})
    assert next(told).startswith("retry:")
    for frame in told:
        lines = dict(line.split(": ", 1) for line in frame.strip().splitlines() if ": " in line)
        yield lines.get("event"), json.loads(lines.get("data", "null"))


def test_a_quiet_stream_has_a_heartbeat(hub):
    with hub.watch(UID, account="1") as watch:
        told = frames(hub, watch, Reads())

        assert next(told)[0] == "snapshot"
        assert next(told) == (None, None)


def test_events_of_other_jobs_are_not_told(hub, redis):
    with hub.watch(UID, account="1") as watch:
        told = frames(hub, watch, Reads(), heartbeat_s=5)
        next(told)
        emit(redis, "started", uid=7)
        emit(redis, "from-a-newer-version")
        emit(redis, "cancelled")

        assert [event for event, _ in told] == ["cancelled"]


def test_what_the_snapshot_tells_is_not_told_again(hub, redis):
    with hub.watch(UID, account="1") as watch:
        told = frames(hub, watch, Reads(status=Status.RUNNING, step=5, steps=9), heartbeat_s=5)
        next(told)
        for event, step in (("queued", None), ("started", None), ("progress", 4), ("progress", 6)):
            emit(redis, event, **({"step": step, "steps": 9} if step else {}))
        for event in ("requeued", "started", "failed"):
            emit(redis, event)

        assert [event for event, _ in told] == ["progress", "requeued", "started", "failed"]


def test_what_was_replayed_is_not_told_again(hub, redis):
    first = emit(redis, "queued")
    with hub.watch(UID, account="1") as watch:
        emit(redis, "started")
        emit(redis, "progress", step=1, steps=9)
        told = frames(hub, watch, Reads(status=Status.RUNNING), last_event_id=first, heartbeat_s=5)
        seen = [next(told)[0], next(told)[0]]
        emit(redis, "succeeded")

        assert seen + [event for event, _ in told] == ["started", "progress", "succeeded"]


def test_a_long_history_is_replayed_in_pages(hub, redis, monkeypatch):
    monkeypatch.setattr("api.events.REPLAY_PAGE", 3)
    first = emit(redis, "queued")
    for step in range(10):
        emit(redis, "progress", step=step, steps=9)
        emit(redis, "started", uid=7)
    with hub.watch(UID, account="1") as watch:
        assert [event.step for event in hub.replay(watch, after=first)] == list(range(10))


def test_an_end_that_was_trimmed_from_the_stream_is_told_all_the_same(hub, redis):
    last = emit(redis, "queued")
    emit(redis, "started")
    with hub.watch(UID, account="1") as watch:
        read = Reads(status=Status.SUCCEEDED, finished_ms=1)

        told = [event for event, _ in frames(hub, watch, read, last_event_id=last)]

    assert told == ["started", "snapshot"]


def test_an_outage_does_not_end_a_stream_but_an_erased_job_does(hub):
    read = Reads()
    with hub.watch(UID, account="1") as watch:
        told = frames(hub, watch, read)
        next(told)
        read.errors = [BacklogUnavailable(), JobNotFound()]

        assert {event for event, _ in told} <= {None}  # heartbeats at most, then the end
        assert read.count == 3


def test_there_are_only_so_many_watches(hub):
    watches = [hub.watch(UID, account="1") for _ in range(3)]
    with pytest.raises(StreamsFull):
        hub.watch(UID, account="1")

    for _ in range(2):
        watches[0].close()  # twice is once

    hub.watch(UID, account="1")
    with pytest.raises(StreamsFull):
        hub.watch(UID, account="1")


def test_one_account_leaves_room_for_others(redis):
    hub = EventHub(redis, capacity=8)
    watches = [hub.watch(UID, account="1") for _ in range(6)]
    with pytest.raises(StreamsFull):
        hub.watch(UID, account="1")

    others = [hub.watch(UID + 1, account="2") for _ in range(2)]
    watches.pop().close()
    others.pop().close()

    hub.watch(UID, account="1").close()
    hub.close()


def test_leaving_lets_go_of_everybody(hub):
    read = Reads()
    with hub.watch(UID, account="1") as watch:
        told = frames(hub, watch, read, heartbeat_s=60)
        next(told)
        hub.close()

        assert list(told) == []
        assert wait_for_end(watch, read, timeout_s=60).status is Status.QUEUED
    with pytest.raises(StreamsFull):
        hub.watch(UID, account="1")


@given(
    uids=st.sets(st.integers(1, 60)),
    owner=st.randoms(use_true_random=False),
    limit=st.integers(1, 7),
)
def test_merged_pages_list_every_job_once_and_in_order(uids, owner, limit):
    ordered = sorted(uids, reverse=True)
    lists = {name: [uid for uid in ordered if hash((uid, owner.random())) % 2 == name] for name in (0, 1)}
    lists[1] = [uid for uid in ordered if uid not in lists[0]]

    def page(name, before):
        rest = [uid for uid in lists[name] if before is None or uid < before]
        jobs = [Reads(uid=uid).job for uid in rest[:limit]]
        return jobs, (jobs[-1].uid if len(jobs) == limit else None)

    seen, before = [], None
    for _ in range(100):
        jobs, before = merge_pages([page(0, before), page(1, before)], limit=limit)
        assert len(jobs) <= limit
        seen += [job.uid for job in jobs]
        if before is None:
            break

    assert seen == ordered
