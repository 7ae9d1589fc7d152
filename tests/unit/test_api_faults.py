"""Errors as problem documents; what every answer carries; callers from browsers."""

import json

import fakeredis
import pytest
import structlog
from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from shared.accounts import Account
from shared.api_keys import Scope
from tests.apibench import ApiBench
from tests.services import free_port

SHOP = "https://shop.example"


@pytest.fixture
def bench(tmp_path):
    made = ApiBench(fakeredis.FakeRedis(decode_responses=True), tmp_path)
    yield made
    made.parts.hub.close()


@pytest.fixture
def cut_off(bench):
    """The same app after its Redis went away."""
    gone = Redis(port=free_port(), decode_responses=True, retry=Retry(NoBackoff(), 0))
    for owner in (bench.parts, bench.parts.backlog, bench.parts.hub, bench.parts.accounts):
        owner._redis = gone
    yield bench
    gone.close()


@pytest.mark.parametrize(
    "authorization", [None, "", "Bearer", "Bearer ", "Bearer dr_wrong", "Basic YTpi", "dr_wrong", "Bearer \u00e9"]
)
@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/jobs/1", "/v1/jobs/1/events", "/v1/jobs/1/images/0", "/v1/models"])
def test_a_valid_key_is_required(bench, path, authorization):
    headers = {} if authorization is None else {"Authorization": authorization}

    answer = bench.client.get(path, headers=headers)

    assert (answer.status_code, answer.json["code"]) == (401, "unauthorized")
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


def test_a_body_is_not_looked_at_before_the_key(bench):
    answer = bench.client.post("/v1/jobs", data=b"{", content_type="application/json")

    assert answer.status_code == 401
    assert bench.job_count() == 0


def test_a_problem_document(bench):
    answer = bench.post("/v1/jobs", {"prompt": "x", "width": 7})

    assert answer.content_type == "application/problem+json"
    assert answer.json == {
        "type": "/docs#invalid_value",
        "title": "A field has a value that cannot be",
        "status": 400,
        "detail": "width: must lie between 64 and 2,048",
        "code": "invalid_value",
        "field": "width",
        "errors": [
            {"field": "width", "code": "invalid_value", "detail": "must lie between 64 and 2,048"},
            {"field": "width", "code": "invalid_value", "detail": "must be a multiple of 8"},
        ],
        "request_id": answer.headers["Darkroom-Request-Id"],
    }


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nothing", 404, "not_found"),
        ("GET", "/v1/nothing", 404, "not_found"),
        ("GET", "/v1/jobs/abc", 404, "not_found"),
        ("GET", "/media/", 404, "not_found"),
        ("PUT", "/v1/jobs", 405, "method_not_allowed"),
        ("POST", "/healthz", 405, "method_not_allowed"),
    ],
)
def test_routes_that_are_none(bench, method, path, status, code):
    answer = bench.client.open(path, method=method, headers=bench.headers)

    assert (answer.status_code, answer.json["code"]) == (status, code)
    assert answer.mimetype == "application/problem+json"
    assert ("Allow" in answer.headers) == (status == 405)


def test_a_fault_of_ours_tells_nothing_but_its_id(bench, monkeypatch):
    def fail(*_args, **_options):
        raise RuntimeError("the password is hunter2")

    monkeypatch.setattr(bench.parts.backlog, "read", fail)
    with structlog.testing.capture_logs() as logs:
        answer = bench.get("/v1/jobs/1")

    assert (answer.status_code, answer.json["code"]) == (500, "internal_error")
    assert "hunter2" not in answer.text
    (line,) = [line for line in logs if line["event"] == "request.failed"]
    assert "hunter2" in str(line["exc_info"])


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/v1/jobs"), ("GET", "/v1/jobs/1"), ("GET", "/v1/jobs/1?wait=9"), ("GET", "/v1/jobs/1/events")],
)
@pytest.mark.parametrize("known", [True, False], ids=["key-known", "key-unknown"])
def test_without_redis_callers_are_told_at_once(cut_off, method, path, known):
    if known:
        account = Account("1", "alice", "paid", "default", (), key="dr_known", scopes=frozenset(Scope))
        cut_off.parts.accounts.authenticate = lambda _key: account
    body = {"prompt": "x"} if method == "POST" else None

    answer = cut_off.client.open(path, method=method, json=body, headers=cut_off.headers)

    assert (answer.status_code, answer.json["code"]) == (503, "backlog_unavailable")
    assert answer.headers["Retry-After"] == "2"


def test_without_redis_the_process_lives_but_is_not_ready(cut_off):
    assert cut_off.client.get("/healthz").status_code == 200
    unready = cut_off.client.get("/readyz")
    assert unready.status_code == 503
    assert {"redis", "worker"} <= set(unready.json["missing"])


def test_without_storage_the_service_is_not_ready(bench, tmp_path):
    (tmp_path / "storage").write_text("in the way")

    assert "storage" in bench.client.get("/readyz").json["missing"]


def test_a_full_backlog(tmp_path):
    bench = ApiBench(fakeredis.FakeRedis(decode_responses=True), tmp_path, backlog_limit=1)
    bench.submit()

    answer = bench.post("/v1/jobs", {"prompt": "x"})

    assert (answer.status_code, answer.json["code"]) == (409, "backlog_full")
    assert int(answer.headers["Retry-After"]) > 0


def test_too_many_waiting(bench):
    account = bench.credentials.account
    bench.redis.hset(f"{{dr}}:a:{account}", "max_waiting", 1)
    assert bench.parts.plans["paid"].max_waiting > 1
    bench.submit()

    answer = bench.post("/v1/jobs", {"prompt": "x"})

    assert (answer.status_code, answer.json["code"]) == (429, "too_many_waiting")
    assert int(answer.headers["Retry-After"]) > 0


def test_every_answer_is_guarded(bench):
    for path in ("/v1/models", "/healthz", "/nothing", "/openapi.json", "/docs"):
        headers = bench.get(path).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["X-Frame-Options"] == "DENY"
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert len(headers["Darkroom-Request-Id"]) == 16


def test_without_cors_origins_no_browser_is_let_in(bench):
    answer = bench.get("/v1/models", Origin=SHOP)

    assert not [name for name in answer.headers.keys() if name.startswith("Access-Control")]  # noqa: SIM118


@pytest.mark.parametrize(("origins", "allowed"), [((SHOP,), SHOP), (("*",), "*"), (("https://a.example", SHOP), SHOP)])
def test_a_preflight_needs_no_key(tmp_path, origins, allowed):
    bench = ApiBench(fakeredis.FakeRedis(decode_responses=True), tmp_path, cors_origins=origins)

    answer = bench.client.options(
        "/v1/jobs",
        headers={
            "Origin": SHOP,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,content-type,idempotency-key",
        },
    )

    assert answer.status_code == 204
    assert answer.headers["Access-Control-Allow-Origin"] == allowed
    assert "POST" in answer.headers["Access-Control-Allow-Methods"]
    assert {"Authorization", "Content-Type", "Idempotency-Key", "Last-Event-ID"} <= set(
        answer.headers["Access-Control-Allow-Headers"].split(", ")
    )


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/nothing", "/v1/jobs/1/events"])
def test_a_browsers_answer_can_be_read(tmp_path, path):
    bench = ApiBench(fakeredis.FakeRedis(decode_responses=True), tmp_path, cors_origins=(SHOP,))

    answer = bench.get(path, Origin=SHOP)

    assert answer.headers["Access-Control-Allow-Origin"] == SHOP
    exposed = set(answer.headers["Access-Control-Expose-Headers"].split(", "))
    assert {"Location", "Retry-After", "ETag", "Darkroom-Request-Id"} <= exposed
    assert "Origin" in answer.headers["Vary"]
    stranger = bench.get(path, Origin="https://evil.example")
    assert "Access-Control-Allow-Origin" not in stranger.headers
    assert "Origin" in stranger.headers["Vary"]


def test_answers_are_json_in_a_readable_order(bench):
    text = bench.get("/v1/models").text

    assert next(iter(json.loads(text)["data"][0])) == "name"
    assert text.endswith("\n")
