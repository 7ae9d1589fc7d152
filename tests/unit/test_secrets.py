"""No secret in logs, records, events for Flower, or answers; and the net below that."""

import json
import logging

import fakeredis
import pytest
import structlog

from shared.accounts import Accounts
from shared.celery_app import make_celery
from shared.job import Status
from shared.redaction import HIDDEN, redact
from shared.settings import Settings
from tests.apibench import ApiBench
from worker.flower_events import JobEvents

WEBHOOK = "https://shop.example/hook"


@pytest.fixture
def bench(tmp_path):
    made = ApiBench(fakeredis.FakeRedis(decode_responses=True), tmp_path, short_wait_s=0.0)  # nobody draws
    yield made
    made.parts.hub.close()


def secrets_of(credentials):
    return [credentials.key[10:], credentials.secret, credentials.webhook_secret.removeprefix("whsec_")]


def requests_with(bench, credentials, session):
    """Yield answers to requests that carry secrets wherever a caller may put them, good and bad ones."""
    key = credentials.key
    client, bearer = bench.client, {"Authorization": f"Bearer {key}"}
    native = {"prompt": "x", "webhook_url": WEBHOOK, "track_id": "t"}
    yield client.post("/v1/jobs", json=native, headers=bearer)
    yield client.post("/v1/jobs", json={**native, "api_key": key}, headers=bearer)
    yield client.post("/v1/jobs", json={**native, "width": key}, headers=bearer)
    yield client.get(f"/v1/jobs?key={key}", headers=bearer)
    yield client.get("/v1/jobs", headers={"Authorization": f"Basic {key}"})
    yield client.get("/v1/jobs", headers={"Authorization": f"Bearer {key}x"})
    yield client.post("/api/v6/images/text2img", json={"key": key, "prompt": "x", "webhook": WEBHOOK})
    yield client.post("/api/v6/images/text2img", data={"key": key, "prompt": "x"})
    yield client.post("/api/v6/images/text2img", json={"key": key, "prompt": 7})
    yield client.post("/api/v6/images/text2img", json={"key": f"{key}x", "prompt": "x"})
    yield client.post("/api/v6/images/fetch/9", json={"key": key})
    yield client.post("/api/v1/enterprise/restart_server", json={"key": key})
    yield client.post("/generate/sd", json={"prompt": "", "key": key}, headers=bearer)
    yield client.post("/api/generate/basic/textToImage", json={}, headers={"Authentication": key})
    yield client.post("/v1/generation/none/text-to-image", json={"text_prompts": []}, headers=bearer)
    yield client.post("/api/v1/public/client/login", json={"token": credentials.client_token, "secret": "wrong"})
    yield client.post("/api/v1/private/client/ai/diffusion", json={"word": "x"}, headers=session)
    yield client.post("/api/v1/private/client/ai/diffusion", json={"width": key}, headers=session)
    yield client.get("/api/v1/private/client", headers=session)


def session_of(bench, credentials):
    body = {"token": credentials.client_token, "secret": credentials.secret}
    token = bench.client.post("/api/v1/public/client/login", json=body).json["data"]["authToken"]
    return token, {"Authorization": f"Bearer {token}"}


def test_no_answer_no_log_line_and_no_record_holds_a_secret(bench, log_lines, monkeypatch):
    credentials = bench.credentials
    token, session = session_of(bench, credentials)
    hidden = [*secrets_of(credentials), token]
    answers = list(requests_with(bench, credentials, session))
    monkeypatch.setattr(bench.parts.backlog, "read", lambda *_args, **_options: 1 / 0)
    answers += [  # faults of ours, with their tracebacks
        bench.get("/v1/jobs/1"),
        bench.client.post("/api/v6/images/fetch/1", json={"key": credentials.key}),
    ]

    assert {answer.status_code for answer in answers} >= {200, 201, 202, 400, 401, 403, 404, 422, 500}
    for answer in answers:
        for secret in hidden:
            assert secret not in answer.get_data(as_text=True), answer.text[:300]
            assert secret not in str(answer.headers)
    assert "ZeroDivisionError" in log_lines()
    for secret in hidden:
        assert secret not in log_lines()
    for name in bench.redis.scan_iter():
        if name.startswith("{dr}:a:"):  # signs this account's webhooks
            continue
        kept = {"string": bench.redis.get, "hash": bench.redis.hgetall, "list": lambda n: bench.redis.lrange(n, 0, -1)}
        content = str(kept.get(bench.redis.type(name), lambda _: "")(name))
        for secret in hidden:
            assert secret not in content, name
            assert secret not in name
    events = str(bench.redis.xrange("{dr}:ev"))
    assert not [secret for secret in hidden if secret in events]


def test_flower_is_told_no_secret(bench, monkeypatch):
    told = []
    monkeypatch.setattr(JobEvents, "_send", lambda _self, kind, _lease, **fields: told.append((kind, fields)))
    events = JobEvents(make_celery(Settings(redis_url="redis://127.0.0.1:1/0")), "worker@test")
    body = {"key": bench.credentials.key, "prompt": "a-prompt", "webhook": WEBHOOK}
    answer = bench.client.post("/api/v6/images/text2img", json=body)
    lease = bench.begin()

    events.started(lease)
    events.ended(lease.uid, Status.SUCCEEDED, runtime_s=1.0)

    assert {kind for kind, _ in told} == {"task-received", "task-started", "task-succeeded"}
    assert not [word for word in (WEBHOOK, "a-prompt") if word in repr(told)]
    assert answer.status_code == 200
    assert lease.submission.dialect == "modelslab"
    for secret in secrets_of(bench.credentials):
        assert secret not in repr((told, lease))


def test_settings_and_accounts_show_no_secret_of_the_service(bench):
    shown = repr(Settings(secret_key="a-secret-of-the-service", flower_basic_auth="user:hunter2"))

    assert "a-secret-of-the-service" not in shown
    assert "hunter2" not in shown
    assert bench.credentials.webhook_secret not in repr(Accounts(bench.redis).get("1"))
    assert bench.credentials.key not in repr(bench.credentials)
    assert bench.credentials.secret not in repr(bench.credentials)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("key dr_AbCdEfG" + "h" * 36 + "!", f"key dr_AbCdEfG{HIDDEN}!"),
        ("whsec_" + "A" * 43 + "=", f"whsec_{HIDDEN}"),
        ("Authorization: Bearer abc.def-ghi_jkl", f"Authorization: Bearer {HIDDEN}"),
        ("Bearer dr_AbCdEfG" + "h" * 36, f"Bearer dr_AbCdEfG{HIDDEN}"),
        ("redis://user:hunter2@host:6379/0", f"redis://user:{HIDDEN}@host:6379/0"),
        ("redis://:hunter2@host/0", f"redis://:{HIDDEN}@host/0"),
        ("/media/a?expires=1&signature=ab-c&filename=x", f"/media/a?expires=1&signature={HIDDEN}&filename=x"),
        ("a bearer of news; dr_short; http://host:80/@x", "a bearer of news; dr_short; http://host:80/@x"),
    ],
)
def test_what_looks_like_a_secret_is_hidden(text, left):
    assert redact(text) == left


def test_a_librarys_line_and_a_traceback_lose_their_secrets_too(log_lines):
    logging.getLogger("some.library").warning("cannot reach redis://:%s@host", "hunter2")
    try:
        int("Bearer abcdefghijkl")
    except ValueError:
        structlog.get_logger("ours").exception("went.wrong", url="redis://:hunter2@host/0")

    first, second = (json.loads(line) for line in log_lines().splitlines())
    assert "hunter2" not in log_lines()
    assert "abcdefghijkl" not in log_lines()
    assert (first["event"], second["event"]) == (f"cannot reach redis://:{HIDDEN}@host", "went.wrong")
    assert "ValueError" in second["exception"]


def test_a_job_that_failed_tells_its_owner_nothing_of_ours(bench):
    uid = bench.submit(webhook_url=WEBHOOK)
    bench.draw(Status.FAILED, {"code": "generation_failed", "message": "The pipeline failed."})

    assert bench.credentials.webhook_secret not in bench.get(f"/v1/jobs/{uid}").text
