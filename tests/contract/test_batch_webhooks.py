"""A batch's webhooks, from `POST /v1/batches` to the command line: a real Valkey, API, courier and receiver."""

import json

import pytest
from standardwebhooks import Webhook

from shared.celery_app import SilentBell
from shared.outbox import MAX_ATTEMPTS, Outbox
from shared.settings import Settings
from tests.services import Reply, receiver
from tests.unit.test_cli_operators import Desk
from worker.courier import build_courier

ALLOW = {"OUTBOUND_ALLOW": "127.0.0.0/8"}


class Shop:
    """An account that submits batches and is called when they end."""

    def __init__(self, desk, server):
        self.desk = desk
        self.server = server
        self.bench = desk.bench
        self.courier = build_courier(self.bench.settings.evolve(redis_url=desk.environment["REDIS_URL"]), SilentBell())
        self.outbox = Outbox(self.bench.redis, lease_s=30)

    def open(self, **options):
        """Submit a batch of one line; return its number."""
        answer = self.bench.post("/v1/batches", {"jobs": [{"prompt": "a red circle"}], **options})
        assert answer.status_code == 202, answer.text
        return answer.json["id"]

    def batch(self):
        """Submit a batch with a webhook and end it; return its number."""
        number = self.open(name="overnight", webhook_url=f"{self.server.url}/done?secret=1")
        self.bench.draw()
        return number

    def deliver(self):
        """Let the courier make the calls that are due."""
        due = self.outbox.due(10)
        for entry in due:
            self.courier.deliver(entry)
        return due

    def give_up(self, number):
        """Let every call fail until no more are made."""
        self.server.replies.extend([Reply(status=400)] * MAX_ATTEMPTS)
        for _ in range(MAX_ATTEMPTS):
            self.deliver()
            self.bench.redis.zadd("{dr}:ob", {f"{number}:1": 1}, xx=True)
        self.server.replies.clear()

    def told(self):
        """Return what was told, verified, with the ids under which it was."""
        secret = Webhook(self.bench.credentials.webhook_secret)
        return [
            (secret.verify(request.body, request.headers), request.headers["webhook-id"])
            for request in self.server.requests
        ]


@pytest.fixture
def shop(valkey_server, valkey, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("worker.receivers.FAILURES_TO_OPEN", 10 * MAX_ATTEMPTS)  # as if hours lay between the calls
    desk = Desk(valkey_server, valkey, tmp_path, outbound_allow=Settings.from_env(ALLOW).outbound_allow)
    with receiver() as server:
        yield Shop(desk, server)
    desk.close()


def test_the_deliveries_of_a_batch_are_listed(shop):
    number = shop.batch()
    shop.deliver()

    answer = shop.bench.get(f"/v1/batches/{number}/deliveries")

    assert answer.status_code == 200
    (call,), (webhook,) = answer.json["data"], answer.json["webhooks"]
    assert (call["uid"], call["event"], call["outcome"], call["status"]) == (
        number,
        "batch.completed",
        "delivered",
        200,
    )
    assert call["url"] == f"{shop.server.url}/done"
    assert (webhook["event"], webhook["state"], webhook["attempts"]) == ("batch.completed", "delivered", 1)
    assert shop.bench.get("/v1/webhooks/deliveries").json["data"] == [call]


def test_a_batchs_webhook_is_sent_again_under_the_same_id(shop):
    number = shop.batch()
    shop.deliver()

    answer = shop.bench.post(f"/v1/batches/{number}/redeliver")

    assert (answer.status_code, answer.json["webhooks"][0]["state"]) == (202, "waiting")
    shop.deliver()
    (first, first_id), (second, second_id) = shop.told()
    assert first["id"] == second["id"] == number
    assert first_id == second_id


def test_another_account_neither_sees_nor_sends(shop):
    number, other = shop.batch(), shop.bench.key_of("mallory")
    shop.deliver()

    for method, path in (("GET", "deliveries"), ("POST", "redeliver")):
        for headers, status in ((other, 404), ({}, 401)):
            answer = shop.bench.client.open(f"/v1/batches/{number}/{path}", method=method, headers=headers)
            assert answer.status_code == status
    assert shop.deliver() == []


def test_a_batch_that_runs_or_asks_for_no_webhook_has_none_to_send(shop):
    silent = shop.open()
    shop.bench.draw()
    running = shop.open(webhook_url=shop.server.url)

    for number, code in ((silent, "no_webhook"), (running, "not_finished")):
        answer = shop.bench.post(f"/v1/batches/{number}/redeliver")
        assert (answer.status_code, answer.json["code"]) == (409, code)
        assert shop.bench.get(f"/v1/batches/{number}/deliveries").json == {"webhooks": [], "data": []}
    assert shop.bench.get("/v1/batches/7/deliveries").status_code == 404


def test_the_command_lists_and_sends_again_what_it_told_of_a_batch(shop):
    number = shop.batch()
    shop.deliver()

    (call,) = shop.desk.json("webhooks", "ls", "--batch", str(number))["data"]
    assert (call["uid"], call["event"]) == (number, "batch.completed")
    shown = shop.desk.run("webhooks", "ls", "--batch", str(number))
    assert "batch.completed" in shown
    assert "delivered" in shown

    assert f"{number}: is sent again" in shop.desk.run("webhooks", "redeliver", "--batch", str(number))
    shop.deliver()
    assert len(shop.told()) == 2


def test_without_the_flag_the_number_is_a_jobs(shop):
    number = shop.batch()

    assert "There is no such job." in shop.desk.run("webhooks", "ls", str(number), exit_code=1)
    assert "There is no such job." in shop.desk.run("webhooks", "redeliver", str(number), exit_code=1)
    job = shop.bench.get(f"/v1/batches/{number}/jobs").json["data"][0]["uid"]
    assert "no such batch" in shop.desk.run("webhooks", "ls", "--batch", str(job), exit_code=1)


def test_dead_letters_of_jobs_and_batches_are_sent_again_together(shop):
    number = shop.batch()
    shop.give_up(number)
    uid = shop.bench.submit(webhook_url=f"{shop.server.url}/done", webhook_events=["succeeded"])
    shop.bench.draw()
    shop.give_up(uid)
    dead = shop.desk.json("webhooks", "ls", "--dead")["data"]
    assert {(row["uid"], row["event"]) for row in dead} == {(number, "batch.completed"), (uid, "succeeded")}
    before = len(shop.server.requests)

    told = shop.desk.run("webhooks", "redeliver", "--dead")

    assert f"{number}: is sent again" in told
    assert f"{uid}: is sent again" in told
    shop.deliver()
    bodies = [json.loads(request.body) for request in shop.server.requests[before:]]
    assert {body.get("uid") or body["id"] for body in bodies} == {number, uid}
    assert shop.desk.json("webhooks", "ls", "--dead")["data"] == []
