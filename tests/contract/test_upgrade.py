"""Versions side by side: what one leaves the other goes on with, and what it cannot draw it leaves to who can."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from shared import formats
from shared.accounts import Accounts
from shared.backlog import INGEST_MODEL, INGEST_POOL, Backlog, Batches, Gate, Idempotency, Operations
from shared.batch import BatchLine, BatchOptions
from shared.celery_app import SilentBell
from shared.errors import IdempotencyConflict
from shared.formats import format_of, marked, unmarked
from shared.job import Status, Submission
from shared.keys import account_key, count_key, job_key, leases_key, previews_key, result_key, spec_key
from shared.spec import JobSpec, Lora
from tests.upgrade import record
from worker.spool import Spool

FIRST = Path(record.__file__).with_name("format-1.json")
OLD, NEW = "worker@old", "worker@new"
OLD_COURIER, NEW_COURIER = "courier@old", "courier@new"
#: A job as the next version might write it: "glow" changes the picture, "shop" is of no account to who draws it.
LATER = Submission(
    spec=JobSpec(prompt="x", model="demo", width=64, height=64, seed=1),
    format=2,
    unknown=(("", "shop", '"corner"'), ("spec", "glow", "0.5")),
)
PLAIN = record.plain(1)
FETCHED = replace(LATER, spec=LATER.spec.evolve(image="https://example.com/a.png", strength=0.5))


class TestFirstFormat:
    """What the first version left in the middle of its work."""

    @pytest.fixture
    def left(self, valkey):
        written = json.loads(FIRST.read_text())
        record.restore(valkey, written["keys"])
        return written["found"]

    @pytest.fixture
    def backlog(self, valkey):
        return Backlog(valkey, SilentBell())

    def test_all_of_it_is_read(self, left, valkey, backlog):
        def read(name):
            return backlog.read(left[name], account=left["account"])

        assert (read("succeeded").status, read("succeeded").result) == (Status.SUCCEEDED, record.DONE)
        assert read("succeeded").previews == (record.PREVIEW,)
        assert (read("failed").status, read("failed").result) == (Status.FAILED, record.BROKEN)
        assert (read("waiting").status, read("waiting").submission) == (Status.QUEUED, record.EVERYTHING)
        assert (read("lost once, running").status, read("lost once, running").attempts) == (Status.RUNNING, 2)
        assert read("fetching").submission == record.remote(30)
        batches = Batches(valkey, SilentBell(), backlog)
        assert batches.read(left["archived"], account=left["account"]).archive == (record.PART,)
        rows = batches.rows(batches.read(left["batch"], account=left["account"]), after=0, limit=100)
        prompts = [(row.submission or row.job.submission).spec.prompt for row in rows]
        assert prompts == [f"number {number}" for number in range(40, 49)]
        assert len(backlog.list_jobs(left["account"])[0]) == 14

    def test_a_request_is_still_the_same(self, left, backlog):
        again = Idempotency("again", "ab12")
        receipt = backlog.submit(record.EVERYTHING, account=left["account"], pool=record.POOL, idempotency=again)
        assert (receipt.uid, receipt.replayed) == (left["waiting"], True)
        with pytest.raises(IdempotencyConflict):
            backlog.submit(PLAIN, account=left["account"], pool=record.POOL, idempotency=replace(again, digest="cd34"))

    def test_all_of_it_is_drawn(self, left, valkey, backlog):
        batches = Batches(valkey, SilentBell(), backlog)
        backlog.hello(record.NODE, "3", pool=record.POOL, models=record.MODELS)
        backlog.hello(record.COURIER, "3", pool=INGEST_POOL, models=(INGEST_MODEL,))
        # The first version did not say which jobs had begun: all of them are lost with their worker.
        lost = [valkey.hget(job_key(uid), "lost") for uid in (left["lost once, running"], *left["running"])]
        assert lost == ["2", "1", "1"]

        def leases(node):
            return iter(lambda: backlog.claim(node, max_jobs=4, max_images=16).leases, ())

        for fetched in leases(record.COURIER):
            for lease in fetched:
                images = dict.fromkeys(lease.submission.spec.images().values(), "inputs/0/image.png")
                submission = replace(lease.submission, spec=lease.submission.spec.with_images(images))
                assert backlog.advance(record.COURIER, lease, submission, pool=record.POOL)
        drawn = []
        for batch in leases(record.NODE):
            backlog.begin(record.NODE, batch)
            for lease in batch:
                assert backlog.finish(record.NODE, lease, Status.SUCCEEDED, record.DONE)
                drawn.append(lease.uid)
            batches.feed()
        assert len(drawn) == len(set(drawn)) == 3 + 2 + 1 + 9
        jobs, _ = backlog.list_jobs(left["account"])
        assert {job.status for job in jobs if job.uid != left["failed"]} == {Status.SUCCEEDED}
        assert batches.read(left["batch"], account=left["account"]).status == "completed"
        assert set(valkey.hgetall(count_key()).values()) == {"0"}
        balance, reserved, settled = map(
            int, valkey.hmget(account_key(left["account"]), "balance", "reserved", "settled")
        )
        assert (reserved, balance + settled) == (0, 5000)

    def test_what_needs_no_later_format_is_written_as_it_was(self, left, valkey):
        """So an older version reads it as well: one may roll back."""
        assert record.EVERYTHING.to_json() == valkey.get(spec_key(left["waiting"]))
        assert record.DONE.to_json() == valkey.get(result_key(left["succeeded"]))
        assert [record.PREVIEW.to_json()] == valkey.lrange(previews_key(left["succeeded"]), 0, -1)


class Bench:
    """A process of an older version and one of the next, on one Redis."""

    def __init__(self, redis):
        self.redis, self.bell = redis, SilentBell()
        self.old, self.new = (Backlog(redis, self.bell, reads=reads) for reads in (1, 2))
        self.account = Accounts(redis).create_key("alice").account
        self.start_old()

    def start_old(self, incarnation="1"):
        self.old.hello(OLD, incarnation, pool=record.POOL, models=("demo",))
        self.old.hello(OLD_COURIER, incarnation, pool=INGEST_POOL, models=(INGEST_MODEL,))

    def start_new(self, incarnation="1"):
        self.new.hello(NEW, incarnation, pool=record.POOL, models=("demo",))
        self.new.hello(NEW_COURIER, incarnation, pool=INGEST_POOL, models=(INGEST_MODEL,))

    def submit(self, submission):
        return self.new.submit(submission, account=self.account, pool=record.POOL).uid

    def claim(self, node, max_jobs=8):
        backlog = self.new if node in {NEW, NEW_COURIER} else self.old
        return backlog.claim(node, max_jobs=max_jobs, max_images=16, loaded_model="demo").leases

    def draw(self, node):
        """Let a worker draw all that it can; return the uids."""
        found = []
        while leases := self.claim(node):
            for lease in leases:
                assert self.old.finish(node, lease, Status.SUCCEEDED, record.DONE)
                found.append(lease.uid)
        return found

    def read(self, uid):
        return self.old.read(uid, account=self.account)


@pytest.fixture
def bench(any_redis):
    return Bench(any_redis)


def test_what_is_only_added_is_left_out_and_kept(bench):
    """Fields that an older version need not know hinder it nowhere, and are there when it has done its part."""
    added = json.loads(FETCHED.to_json()) | {"format": 1}
    added["spec"] |= {"loras": [["ink", 0.5, "later"]], "textual_inversions": [["charm", "<charm>", 9]]}
    uid = bench.submit(replace(FETCHED, format=1, unknown=()))
    bench.redis.set(spec_key(uid), json.dumps(added))
    bench.redis.hset(job_key(uid), "later", 1)

    (lease,) = bench.claim(OLD_COURIER)
    fetched = replace(
        lease.submission, spec=lease.submission.spec.with_images({"https://example.com/a.png": "inputs/a"})
    )
    assert bench.old.advance(OLD_COURIER, lease, fetched, pool=record.POOL)
    kept = json.loads(bench.redis.get(spec_key(uid)))
    assert (kept["shop"], kept["spec"]["glow"], kept["spec"]["image"]) == ("corner", 0.5, "inputs/a")
    assert bench.draw(OLD) == [uid]

    result = json.loads(record.DONE.to_json()) | {"later": 1}
    result["artifacts"][0]["later"] = 1
    bench.redis.set(result_key(uid), json.dumps(result))
    bench.redis.rpush(previews_key(uid), json.dumps({**json.loads(record.PREVIEW.to_json()), "later": 1}))
    job = bench.read(uid)
    assert (job.result, job.previews) == (record.DONE, (record.PREVIEW,))
    assert job.submission.spec.loras == (Lora("ink", 0.5),)
    assert job.submission.spec.textual_inversions == (("charm", "<charm>"),)


def test_what_an_older_worker_cannot_draw_waits_for_one_that_can(bench):
    later, plain = bench.submit(LATER), bench.submit(PLAIN)
    assert bench.draw(OLD) == [plain]
    waiting = bench.read(later)
    assert (waiting.status, waiting.attempts, waiting.waits_for) == (Status.QUEUED, 0, "no_worker_for_format")
    bench.old.sweep()
    assert bench.claim(OLD) == ()
    bench.start_new()
    assert bench.read(later).waits_for == "a_free_worker"
    (lease,) = bench.claim(NEW)
    assert lease.submission == LATER
    assert bench.new.finish(NEW, lease, Status.SUCCEEDED, record.DONE)
    assert (bench.read(later).status, bench.read(later).attempts) == (Status.SUCCEEDED, 1)


def test_only_workers_that_can_are_woken(bench):
    bench.start_new()
    assert bench.claim(OLD) == bench.claim(NEW) == ()
    bench.submit(LATER)
    assert bench.bell.woken == [NEW]


def test_what_an_older_courier_cannot_read_is_fetched_by_one_that_can(bench):
    uid = bench.submit(FETCHED)
    assert bench.claim(OLD_COURIER) == ()
    assert bench.read(uid).waits_for == "no_worker_for_format"
    bench.start_new()
    assert bench.read(uid).waits_for == "images"
    (lease,) = bench.claim(NEW_COURIER)
    assert (bench.read(uid).status, bench.read(uid).attempts) == (Status.QUEUED, 0)
    assert bench.new.advance(NEW_COURIER, lease, LATER, pool=record.POOL)
    assert bench.claim(OLD) == ()
    assert bench.draw(NEW) == [uid]


def test_lines_of_batches_wait_as_well(bench):
    batches = Batches(bench.redis, bench.bell, bench.old)
    upload = batches.upload()
    for number, submission in enumerate((LATER, PLAIN)):
        upload.add(BatchLine(submission=submission, pool=record.POOL, price=0, handle=f"{number:032x}"))
    batches.open(upload, account=bench.account, options=BatchOptions())
    assert len(bench.draw(OLD)) == 1
    bench.start_new()
    assert len(bench.draw(NEW)) == 1


def test_a_model_is_paused_for_jobs_of_every_format(bench):
    operations = Operations(bench.redis, bench.bell)
    operations.set_gate(record.POOL, Gate.PAUSED, model="demo")
    bench.start_new()
    uid = bench.submit(LATER)
    assert bench.claim(NEW) == ()
    assert {lane.model: lane.gate for lane in operations.lanes() if lane.waiting} == {"demo#2": Gate.PAUSED}
    operations.set_gate(record.POOL, Gate.OPEN, model="demo#2")  # as `queue ls` has it
    assert bench.bell.woken == [NEW]
    assert bench.draw(NEW) == [uid]


def test_after_a_rollback_nothing_is_lost_and_all_else_goes_on(bench):
    """Every process is of the older version again, in the middle of the newer one's work."""
    bench.start_new()
    done = bench.submit(LATER)
    assert bench.draw(NEW) == [done]
    held, waiting, fetching = bench.submit(LATER), bench.submit(LATER), bench.submit(FETCHED)
    assert [lease.uid for lease in bench.claim(NEW, max_jobs=1)] == [held]
    assert len(bench.claim(NEW_COURIER)) == 1
    plain = bench.submit(PLAIN)

    bench.start_old("2")
    bench.old.sweep()
    for uid in bench.redis.zrange(leases_key(), 0, -1):  # nobody renews them any more
        bench.redis.zadd(leases_key(), {uid: 1})
    bench.redis.hset("{dr}:sweep", "grace", 0)
    assert bench.old.sweep().requeued == 2
    bench.redis.zadd("{dr}:live", {NEW: 1, NEW_COURIER: 1})
    bench.old.sweep()

    assert bench.draw(OLD) == [plain]
    assert bench.claim(OLD_COURIER) == ()
    assert {bench.read(uid).status for uid in (held, waiting, fetching)} == {Status.QUEUED}
    assert {bench.read(uid).waits_for for uid in (held, waiting, fetching)} == {"no_worker_for_format"}
    assert bench.read(done).submission.spec.prompt == "x"
    assert len(bench.old.list_jobs(bench.account)[0]) == 5

    bench.start_new("2")
    (lease,) = bench.claim(NEW_COURIER)
    assert bench.new.advance(NEW_COURIER, lease, LATER, pool=record.POOL)
    assert sorted(bench.draw(NEW)) == [held, waiting, fetching]


def test_what_an_older_version_queues_again_is_drawn_alone(bench):
    """It does not know all that its company would have to agree in."""
    uids = [bench.submit(LATER) for _ in range(2)]
    bench.old.cancel(uids[0], account=bench.account)
    bench.old.retry(uids[0], account=bench.account)
    bench.start_new()
    assert [lease.uid for lease in bench.claim(NEW)] == uids[:1]
    assert [lease.uid for lease in bench.claim(NEW)] == uids[1:]


def test_a_record_is_read_although_it_would_not_be_accepted_now(bench):
    """Bounds move from version to version; what was accepted is drawn."""
    uid = bench.submit(PLAIN)
    stored = json.loads(bench.redis.get(spec_key(uid)))
    stored["spec"] |= {"scheduler": "Later", "width": 16, "output_format": "later"}
    bench.redis.set(spec_key(uid), json.dumps(stored))
    assert bench.read(uid).submission.spec.scheduler == "Later"
    (lease,) = bench.claim(OLD)
    assert lease.submission.spec.width == 16


def test_a_result_that_waits_on_disk_outlasts_a_rollback(bench, tmp_path):
    bench.start_new()
    bench.submit(LATER)
    (lease,) = bench.claim(NEW)
    spool = Spool(tmp_path, node=NEW)
    kept = spool.keep(lease, steps=5, result=record.DONE, files=[b"png"])
    file = kept.folder / "job.json"
    written = json.loads(file.read_text())
    written["later"] = written["lease"]["later"] = 1
    written["result"] = json.dumps(json.loads(written["result"]) | {"later": 1})
    file.write_text(json.dumps(written))
    (found,) = Spool(tmp_path, node=NEW).found()
    assert found == kept


def test_a_job_is_of_the_oldest_format_that_tells_all_of_it(monkeypatch):
    monkeypatch.setattr(formats, "SINCE", {"tomesd": 2, "scheduler=DDIMScheduler": 3})
    assert format_of(PLAIN.spec.evolve(scheduler="PNDMScheduler")) == 1
    assert Submission(spec=PLAIN.spec.evolve(tomesd=True)).format == 2
    later = Submission(spec=PLAIN.spec.evolve(tomesd=True, scheduler="DDIMScheduler"))
    assert json.loads(later.to_json())["format"] == 3
    assert Submission.from_json(later.to_json()).format == 3
    monkeypatch.setattr(formats, "SINCE", {})  # an older reader, to whom these say nothing
    assert Submission.from_json(later.to_json()).format == 3


@pytest.mark.parametrize("model", ["demo", "5", "a#b", "#", "org/model@2"])
def test_lanes_of_formats_are_called_after_their_model(model):
    assert marked(model, 1) == unmarked(model) == model
    assert unmarked(marked(model, 12)) == model
