"""A batch over HTTP once it is in: its jobs in order, paused, resumed, cancelled, retried."""

import fakeredis
import pytest

from shared.accounts import Accounts
from shared.api_keys import Scope
from shared.job import Status
from tests.apibench import ApiBench

ERROR = {"code": "worker_lost", "message": "Lost.", "retryable": True}


@pytest.fixture
def bench(tmp_path):
    made = ApiBench(fakeredis.FakeRedis(decode_responses=True), tmp_path)
    yield made
    made.parts.hub.close()


@pytest.fixture
def batch(bench):
    """Three lines, and the path of their batch."""
    jobs = [{"prompt": f"number {number}", "track_id": f"row {number}"} for number in (1, 2, 3)]
    answer = bench.post("/v1/batches", jobs)
    assert answer.status_code == 202, answer.text
    return f"/v1/batches/{answer.json['id']}"


@pytest.fixture
def part_queued(monkeypatch):
    """Of a batch two lines at most are in the queue."""
    monkeypatch.setattr("shared.backlog.batches.QUEUED_AT_MOST", 2)


def done(bench, batch, action, status=200):
    answer = bench.post(f"{batch}/{action}")
    assert answer.status_code == status, answer.text
    return answer.json


def rows(bench, batch, query=""):
    answer = bench.get(f"{batch}/jobs{query}")
    assert answer.status_code == 200, answer.text
    return answer.json


def counted(body):
    return {name: count for name, count in body["counts"].items() if count}


@pytest.mark.usefixtures("part_queued")
def test_its_jobs_are_listed_in_the_order_of_its_lines(bench, batch):
    bench.draw()

    found = rows(bench, batch)

    assert found["next_cursor"] is None
    assert [(row["line"], row["status"], row["track_id"]) for row in found["data"]] == [
        (1, "succeeded", "row 1"),
        (2, "queued", "row 2"),
        (3, "queued", "row 3"),
    ]
    first, second, third = found["data"]
    assert first["job"] == bench.get(f"/v1/jobs/{first['uid']}").json
    assert second["job"]["parameters"]["prompt"] == "number 2"
    assert (third["uid"], third["job"]) == (None, None)


@pytest.mark.usefixtures("part_queued")
@pytest.mark.parametrize("limit", [1, 2, 3])
def test_a_cursor_leads_through_them(bench, batch, limit):
    lines, cursor = [], ""
    while cursor is not None:
        page = rows(bench, batch, f"?limit={limit}" + (f"&cursor={cursor}" if cursor else ""))
        assert len(page["data"]) <= limit
        lines += [row["line"] for row in page["data"]]
        cursor = page["next_cursor"]

    assert lines == [1, 2, 3]


@pytest.mark.parametrize("query", ["?limit=0", "?limit=201", "?cursor=-1", "?cursor=x", "?what=1"])
def test_a_page_that_cannot_be_is_refused(bench, batch, query):
    assert bench.get(f"{batch}/jobs{query}").status_code == 400


def test_a_job_that_was_erased_leaves_its_line(bench, batch):
    bench.draw()
    uid = rows(bench, batch)["data"][0]["uid"]
    assert bench.delete(f"/v1/jobs/{uid}").status_code == 204

    row = rows(bench, batch)["data"][0]

    assert (row["line"], row["uid"], row["status"], row["job"]) == (1, uid, None, None)


def test_a_pause_lets_nothing_begin_until_it_is_resumed(bench, batch):
    lease = bench.begin()
    assert done(bench, batch, "pause")["status"] == "paused"
    assert done(bench, batch, "pause")["status"] == "paused"  # twice is no more than once
    bench.finish(lease)
    assert bench.backlog.claim("worker@bench", max_jobs=3, max_images=16).leases == ()

    resumed = done(bench, batch, "resume")

    assert (resumed["status"], counted(resumed)) == ("running", {"queued": 2, "succeeded": 1})
    bench.draw()
    bench.draw()
    assert bench.get(batch).json["status"] == "completed"


@pytest.mark.usefixtures("part_queued")
def test_a_cancel_ends_all_that_has_not_ended(bench, batch):
    bench.draw()

    cancelled = done(bench, batch, "cancel")

    assert (cancelled["status"], counted(cancelled)) == ("cancelled", {"succeeded": 1, "cancelled": 2})
    assert cancelled["finished_at"] is not None
    assert [row["status"] for row in rows(bench, batch)["data"]] == ["succeeded", "cancelled", "cancelled"]


def test_one_that_is_over_is_answered_as_it_is(bench, batch):
    for _ in range(3):
        bench.draw()
    completed = bench.get(batch).json
    assert completed["status"] == "completed"

    assert [done(bench, batch, action) for action in ("pause", "resume", "cancel")] == [completed] * 3
    assert done(bench, batch, "retry", 409)["code"] == "nothing_to_retry"


@pytest.mark.usefixtures("part_queued")
def test_a_retry_queues_what_failed_and_what_was_cancelled(bench, batch):
    bench.draw(Status.FAILED, ERROR)
    failed = rows(bench, batch)["data"][0]["uid"]
    done(bench, batch, "cancel")

    again = done(bench, batch, "retry")

    assert (again["status"], counted(again)) == ("running", {"queued": 3})
    for _ in range(3):
        bench.draw()
        bench.parts.batches.feed()
    assert [row["status"] for row in rows(bench, batch)["data"]] == ["succeeded"] * 3
    assert rows(bench, batch)["data"][0]["uid"] == failed
    assert bench.get(batch).json["status"] == "completed"


@pytest.mark.usefixtures("part_queued")
def test_a_retry_of_what_cannot_be_paid_any_more_is_refused(bench):
    accounts = Accounts(bench.redis)
    bench.headers = {"Authorization": f"Bearer {accounts.create_key('poor', credits_=1).key}"}
    path = bench.post("/v1/batches", [{"prompt": "x"}] * 6).json["links"]["self"].removeprefix("http://localhost")
    done(bench, path, "cancel")
    bench.submit(num_images=6)

    assert done(bench, path, "retry", 402)["code"] == "insufficient_credits"
    assert bench.get(path).json["status"] == "cancelled"


@pytest.mark.parametrize("action", ["pause", "resume", "cancel", "retry"])
def test_a_key_that_may_only_read_changes_nothing(bench, batch, action):
    key = Accounts(bench.redis).create_key("alice", scopes=[Scope.READ]).key
    headers = {"Authorization": f"Bearer {key}"}

    assert bench.client.post(f"{batch}/{action}", headers=headers).status_code == 403
    assert bench.client.get(f"{batch}/jobs", headers=headers).status_code == 200
    assert bench.get(batch).json["status"] == "running"


@pytest.mark.parametrize("action", ["pause", "resume", "cancel", "retry"])
def test_another_accounts_batch_is_not_there(bench, batch, action):
    stranger = bench.key_of("mallory")

    answer = bench.client.post(f"{batch}/{action}", headers=stranger)

    assert (answer.status_code, answer.json["code"]) == (404, "batch_not_found")
    assert bench.client.get(f"{batch}/jobs", headers=stranger).status_code == 404
    assert bench.get(batch).json["status"] == "running"
