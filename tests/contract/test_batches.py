"""Batches beside the queue, on every server: fed, paused, cancelled, retried; each script under a lost reply."""

import pytest

from shared.accounts import Accounts
from shared.backlog import Backlog, Batches
from shared.backlog.batches import QUEUED_AT_MOST
from shared.batch import BatchLine, BatchOptions
from shared.celery_app import SilentBell
from shared.errors import BatchNotFound, NothingToRetry
from shared.job import Artifact, Result, Status, Submission
from shared.spec import JobSpec

NODE = "worker@host"
PICTURE = Artifact(key="results/a/1/0.png", seed=1, width=64, height=64, content_type="image/png", bytes=1)


class Bench:
    def __init__(self, redis):
        self.redis = redis
        self.bell = SilentBell()
        self.backlog = Backlog(redis, self.bell)
        self.batches = Batches(redis, self.bell, self.backlog)
        self.account = Accounts(redis).create_key("alice", credits_=100).account
        self.backlog.hello(NODE, "1", pool="default", models=["demo"])

    def open(self, count, *, price=10):
        upload = self.batches.upload()
        for number in range(count):
            spec = JobSpec(prompt=f"number {number}", model="demo", width=64, height=64, seed=1)
            submission = Submission(spec=spec, priority="low")
            upload.add(BatchLine(submission=submission, pool="default", price=price, handle=f"{number:032x}"))
        return self.batches.open(
            upload, account=self.account, options=BatchOptions(webhook_url="https://a.example/")
        ).id

    def read(self, batch):
        return self.batches.read(batch, account=self.account)

    def set(self, batch, action):
        return self.batches.set(batch, action, account=self.account)

    def counts(self, batch):
        return {str(status): count for status, count in self.read(batch).counts.items() if count}

    def claim(self, jobs=8):
        return self.backlog.claim(NODE, max_jobs=jobs, max_images=64).leases

    def work(self, jobs, status=Status.SUCCEEDED):
        for lease in self.claim(jobs):
            result = Result(artifacts=(PICTURE,) if status is Status.SUCCEEDED else ())
            assert self.backlog.finish(NODE, lease, status, result)

    def credits(self):
        found = self.redis.hmget(f"{{dr}}:a:{self.account}", "balance", "reserved", "settled")
        return [int(value or 0) for value in found]


@pytest.fixture
def bench(any_redis):
    return Bench(any_redis)


def test_about_a_thousand_of_it_wait_in_the_queue(bench):
    batch = bench.open(QUEUED_AT_MOST + 200)

    assert bench.redis.hgetall("{dr}:count") == {"waiting": "1000", "deferred": "200"}
    assert bench.counts(batch) == {"queued": 1200}
    bench.work(8)
    bench.batches.feed()
    assert bench.redis.hget("{dr}:count", "waiting") == "1000"
    rows = list(bench.batches.all_rows(bench.read(batch)))
    assert [row.line for row in rows] == list(range(1, 1201))
    asked = [(row.job.submission if row.job else row.submission).spec.prompt for row in rows]
    assert asked == [f"number {number}" for number in range(1200)]


def test_it_completes_once_and_its_webhook_is_due_once(bench):
    batch = bench.open(6)
    bench.work(8)
    for _ in range(2):
        bench.batches.feed()

    assert (bench.read(batch).status, bench.counts(batch)) == ("completed", {"succeeded": 6})
    assert (bench.read(batch).spent, bench.credits()) == (60, [100_000 - 60, 0, 60])
    assert bench.redis.zrange("{dr}:ob", 0, -1) == [f"{batch}:1"]
    assert bench.redis.hget(f"{{dr}}:ob:{batch}:1", "event") == "batch.completed"
    assert bench.redis.smembers("{dr}:feeding") == set()


def test_while_it_is_paused_nothing_of_it_begins_and_then_it_goes_on_in_its_order(bench):
    batch = bench.open(20)
    running = bench.claim(2)
    bench.set(batch, "pause")

    assert (bench.read(batch).status, bench.claim()) == ("paused", ())
    bench.backlog.handback(NODE, running)
    assert bench.claim() == ()
    waiting = bench.batches.rows(bench.read(batch), after=9, limit=1)[0].uid
    assert bench.backlog.read(waiting, account=bench.account).waits_for == "paused"
    bench.set(batch, "resume")
    assert [lease.submission.spec.prompt for lease in bench.claim(3)] == ["number 0", "number 1", "number 2"]


@pytest.mark.parametrize("count", [5, QUEUED_AT_MOST + 5])
def test_cancelled_nothing_is_left_and_nothing_stays_reserved(bench, count):
    batch = bench.open(count)
    bench.work(2)
    held = bench.claim(1)

    assert bench.set(batch, "cancel").status == "cancelled"
    assert bench.counts(batch) == {"succeeded": 2, "cancelled": count - 2}
    assert not bench.backlog.finish(NODE, held[0], Status.SUCCEEDED, Result(artifacts=(PICTURE,)))
    assert bench.credits() == [100_000 - 20, 0, 20]
    assert {name: n for name, n in bench.redis.hgetall("{dr}:count").items() if n != "0"} == {}


@pytest.mark.parametrize("status", [Status.FAILED, Status.CANCELLED])
def test_what_ended_without_pictures_is_tried_once_more(bench, status):
    batch = bench.open(6)
    bench.work(3, status)
    bench.work(8)
    assert bench.read(batch).status == "completed"

    assert bench.set(batch, "retry").status == "running"
    assert bench.counts(batch) == {"queued": 3, "succeeded": 3}
    bench.work(8)
    assert (bench.read(batch).status, bench.counts(batch)) == ("completed", {"succeeded": 6})
    assert len(bench.redis.zrange("{dr}:ob", 0, -1)) == 2
    with pytest.raises(NothingToRetry):
        bench.set(batch, "retry")


@pytest.mark.parametrize("name", ["batch_add", "batch_open", "batch_set", "feed", "batch_erase"])
def test_a_lost_reply_changes_nothing(bench, name):
    script = bench.batches._scripts[name]
    bench.batches._scripts[name] = lambda redis, *args: (script(redis, *args), script(redis, *args))[1]

    batch = bench.open(300)
    bench.set(batch, "pause")
    bench.set(batch, "resume")
    assert bench.counts(batch) == {"queued": 300}
    assert bench.credits() == [100_000 - 3000, 3000, 0]
    bench.set(batch, "cancel")
    assert bench.counts(batch) == {"cancelled": 300}
    assert bench.credits() == [100_000, 0, 0]
    bench.batches.forget(bench.read(batch))
    with pytest.raises(BatchNotFound):
        bench.read(batch)


def test_what_was_uploaded_and_not_opened_goes_by_itself(bench):
    upload = bench.batches.upload()
    spec = JobSpec(prompt="x", model="demo", seed=1)
    upload.add(BatchLine(submission=Submission(spec=spec), pool="default", price=1, handle="0" * 32))
    upload.flush()

    assert 0 < bench.redis.ttl(f"{{dr}}:bl:{upload.handle}") <= 3600
    upload.discard()
    assert bench.redis.keys("{dr}:b*") == []
