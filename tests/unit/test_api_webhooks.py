"""Deliveries, redelivery, dead letters and disabled endpoints over `/v1`."""

import json

import fakeredis
import pytest

from shared.job import Status
from shared.outbox import CallRecord, Outbox, Outcome, Verdict
from tests.apibench import ApiBench

HOOK = "https://shop.example/done"


@pytest.fixture
def bench(tmp_path):
    made = ApiBench(fakeredis.FakeRedis(decode_responses=True), tmp_path)
    yield made
    made.parts.hub.close()


def call_of(outcome, status=500):
    return CallRecord(
        webhook_id="msg_1", event="succeeded", url=HOOK, outcome=outcome, seconds=0.25, status=status, excerpt="no"
    )


def ended(bench, outcome=Outcome.DEAD) -> int:
    """A job whose webhook went as told."""
    uid = bench.submit(webhook_url=f"{HOOK}?secret=1", webhook_events=["succeeded", "failed"])
    bench.draw()
    outbox = Outbox(bench.redis, lease_s=30)
    verdict = Verdict(outcome=outcome, status=500, error="no")
    outbox.settle(outbox.claim(f"{uid}:1"), verdict, [call_of(outcome.value)])
    return uid


def test_the_deliveries_of_a_job(bench):
    uid = ended(bench, Outcome.RETRY)

    answer = bench.get(f"/v1/jobs/{uid}/deliveries")

    assert answer.status_code == 200
    (call,), (webhook,) = answer.json["data"], answer.json["webhooks"]
    assert (call["uid"], call["attempt"], call["outcome"], call["status"], call["seconds"]) == (
        uid,
        1,
        "retry",
        500,
        0.25,
    )
    assert call["url"] == HOOK
    assert (webhook["event"], webhook["state"], webhook["attempts"], webhook["status"]) == (
        "succeeded",
        "waiting",
        1,
        500,
    )
    assert webhook["next_attempt_at"].endswith("Z")
    assert bench.get("/v1/webhooks/deliveries").json["data"] == [call]
    assert bench.get("/v1/webhooks/deliveries?limit=0").status_code == 400


def test_dead_letters_are_listed_and_sent_again(bench):
    uids = [ended(bench) for _ in range(3)]
    page = bench.get("/v1/webhooks/dead?limit=2").json
    rest = bench.get(f"/v1/webhooks/dead?limit=2&cursor={page['next_cursor']}").json

    assert sorted(row["uid"] for row in page["data"] + rest["data"]) == uids
    assert rest["next_cursor"] is None
    assert {row["state"] for row in page["data"]} == {"dead"}

    answer = bench.post(f"/v1/jobs/{uids[0]}/redeliver")

    assert answer.status_code == 202
    assert answer.json["webhooks"][0]["state"] == "waiting"
    assert bench.redis.zrange("{dr}:ob", 0, -1) == [f"{uids[0]}:1"]
    assert len(bench.get("/v1/webhooks/dead").json["data"]) == 2


def test_only_an_ended_job_with_a_webhook_is_sent_again(bench):
    waiting, without = bench.submit(webhook_url=HOOK), bench.submit()
    bench.post(f"/v1/jobs/{without}/cancel")

    for uid, code in ((waiting, "not_finished"), (without, "no_webhook")):
        answer = bench.post(f"/v1/jobs/{uid}/redeliver")
        assert (answer.status_code, answer.json["code"]) == (409, code)
    assert bench.redis.zcard("{dr}:ob") == 0


def test_another_account_sees_and_sends_nothing(bench):
    uid, other = ended(bench), bench.key_of("mallory")

    for method, path in (("GET", "deliveries"), ("POST", "redeliver")):
        assert bench.client.open(f"/v1/jobs/{uid}/{path}", method=method, headers=other).status_code == 404
    for path in ("deliveries", "dead", "disabled"):
        assert bench.client.get(f"/v1/webhooks/{path}", headers=other).json["data"] == []
        assert bench.client.get(f"/v1/webhooks/{path}").status_code == 401
    assert bench.redis.zcard("{dr}:ob") == 0


def test_a_disabled_endpoint_is_listed_and_enabled(bench):
    account = bench.credentials.account
    Outbox(bench.redis, lease_s=30).disable(account, f"{HOOK}?order=1")

    (row,) = bench.get("/v1/webhooks/disabled").json["data"]
    assert row["url"] == HOOK
    assert bench.post("/v1/webhooks/enable", {"url": "http://[oops"}).status_code == 400
    assert bench.post("/v1/webhooks/enable", {"url": f"{HOOK}?order=2"}).json == {"data": []}
    assert bench.redis.zcard(f"{{dr}}:ob:off:{account}") == 0


def test_any_event_can_be_asked_for(bench):
    events = ["queued", "started", "progress", "succeeded", "failed", "cancelled", "expired"]
    uid = bench.submit(webhook_url=HOOK, webhook_events=events)
    bench.draw(Status.FAILED, {"code": "out_of_memory", "message": "Too little memory.", "retryable": False})

    entries = bench.redis.zrange("{dr}:ob", 0, -1)
    told = {bench.redis.hget(f"{{dr}}:ob:{entry}", "event") for entry in entries}
    assert told == {"queued", "started", "failed"}
    assert json.loads(bench.redis.get(f"{{dr}}:s:{uid}"))["webhook_events"] == events
