"""Jobs past their retention go, with their files; their owner is told so for a while."""

import base64
import io

import pytest

from shared.backlog import Backlog, Batches
from shared.celery_app import SilentBell
from shared.errors import StorageUnavailable
from shared.kept import kept_key
from tests.apibench import ApiBench, png
from worker.retention import Retention


@pytest.fixture
def bench(valkey, tmp_path):
    return ApiBench(valkey, tmp_path)


def retention(bench, **options):
    backlog = Backlog(bench.redis, SilentBell())
    batches = Batches(bench.redis, SilentBell(), backlog)
    return Retention(backlog, batches, bench.parts.storage, **{"retention_s": 0, "tombstone_s": 60, **options})


def files(bench):
    return [path for path in (bench.settings.data_dir / "storage").rglob("*") if path.is_file()]


def age(bench, uid):
    bench.redis.zadd("{dr}:done", {uid: 1})


def test_images_that_callers_left_go_when_their_links_have_ended(bench):
    day, now_s, storage = 86_400, 1_800_000_000, bench.parts.storage
    for age_s in (0, day, 2 * day, 2 * day + 1, 9 * day):
        storage.put(kept_key(f"a{age_s}", now_s=now_s - age_s), b"x", content_type="image/png")
    assert retention(bench).let_go_of_kept(now_s=now_s) == 3
    left = [kept_key(f"a{age_s}", now_s=now_s - age_s) for age_s in (0, day)]
    assert len(files(bench)) == len(left)
    assert all(storage.get(key).data == b"x" for key in left)


def test_an_outdated_job_goes_with_its_files(bench):
    image = png()
    answer = bench.client.post(
        "/v1/jobs",
        data={"prompt": "x", "image": (io.BytesIO(image), "a.png")},
        headers=bench.headers,
        content_type="multipart/form-data",
    )
    uid = answer.json["uid"]
    bench.draw()
    assert len(files(bench)) == 2
    assert retention(bench, retention_s=3600).round() == 0
    age(bench, uid)

    assert retention(bench, retention_s=3600).round() == 1

    gone = bench.get(f"/v1/jobs/{uid}")
    assert (gone.status_code, gone.json["code"]) == (410, "job_gone")
    assert bench.client.get(f"/v1/jobs/{uid}", headers=bench.key_of("bob")).status_code == 404
    assert bench.get(f"/v1/jobs/{uid + 1}").status_code == 404
    assert files(bench) == []
    assert [key for key in bench.redis.keys("*") if str(uid) in key] == []


def batch_with_images(bench, monkeypatch, lines):
    """Return a batch of which one line is a job and the others still wait beside the queue."""
    image = base64.b64encode(png()).decode()
    monkeypatch.setattr("shared.backlog.batches.QUEUED_AT_MOST", 1)
    answer = bench.post("/v1/batches", [{"prompt": f"number {n}", "image": image} for n in range(lines)])
    assert answer.status_code == 202, answer.text
    return answer.json["id"]


def test_an_outdated_batch_goes_with_the_images_of_lines_that_never_were_jobs(bench, monkeypatch):
    batch = batch_with_images(bench, monkeypatch, lines=3)
    keeper = retention(bench, retention_s=3600)
    bench.redis.zadd("{dr}:bdone", {batch: 1})
    keeper.round_of_batches()
    assert bench.get(f"/v1/batches/{batch}").json["status"] == "running"  # only what is over goes
    bench.parts.batches.set(batch, "cancel", account=bench.credentials.account)
    assert keeper.round_of_batches() == 0
    assert len(files(bench)) == 3

    bench.redis.zadd("{dr}:bdone", {batch: 1})
    assert keeper.round_of_batches() == 1

    assert bench.get(f"/v1/batches/{batch}").status_code == 404
    assert bench.get("/v1/batches").json["data"] == []
    (uid,) = (job["uid"] for job in bench.get("/v1/jobs").json["data"])
    assert [path.parent.name for path in files(bench)] == [bench.redis.hget(f"{{dr}}:j:{uid}", "handle")]
    assert [key for key in bench.redis.keys("*") if str(batch) in key and "idem" not in key] == []
    age(bench, uid)
    assert keeper.round() == 1
    assert files(bench) == []


def test_without_tombstones_it_is_simply_unknown(bench):
    uid = bench.submit()
    bench.draw()
    age(bench, uid)
    retention(bench, tombstone_s=0).round()
    assert bench.get(f"/v1/jobs/{uid}").status_code == 404


def test_a_store_that_is_away_keeps_the_record_for_the_next_round(bench, monkeypatch):
    uid = bench.submit()
    bench.draw()
    age(bench, uid)
    keeper = retention(bench)
    with monkeypatch.context() as away:

        def refuse(_prefix):
            raise StorageUnavailable

        away.setattr(bench.parts.storage, "delete_prefix", refuse)
        with pytest.raises(StorageUnavailable):
            keeper.round()
    assert bench.get(f"/v1/jobs/{uid}").status_code == 200
    assert keeper.round() == 1


def test_retry_over_http(bench):
    uid = bench.submit()
    assert bench.post(f"/v1/jobs/{uid}/retry").json["code"] == "not_failed"
    bench.post(f"/v1/jobs/{uid}/cancel")
    again = bench.post(f"/v1/jobs/{uid}/retry")
    assert (again.status_code, again.json["status"], again.json["error"]) == (200, "queued", None)
    bench.draw()
    assert bench.get(f"/v1/jobs/{uid}").json["status"] == "succeeded"
    assert bench.client.post(f"/v1/jobs/{uid}/retry", headers=bench.key_of("bob")).status_code == 404


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"priority": "urgent"}, "priority"),
        ({"start_deadline_s": 0}, "start_deadline_s"),
        ({"run_deadline_s": "9"}, "run_deadline_s"),
    ],
)
def test_priority_and_deadlines_are_judged(bench, fields, field):
    answer = bench.post("/v1/jobs", {"prompt": "x", **fields})
    assert (answer.status_code, answer.json["field"]) == (400, field)


def test_priority_and_deadlines_are_taken(bench):
    uid = bench.submit(priority="low", start_deadline_s=60, run_deadline_s=0.5 + 60)
    submission = bench.backlog.read(uid, account=bench.credentials.account).submission
    assert (submission.priority, submission.start_deadline_s, submission.run_deadline_s) == ("low", 60, 60.5)
