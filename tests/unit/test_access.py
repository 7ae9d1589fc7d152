"""Keys: what they may do, for how long and how often; logins; and what every answer says to browsers."""

import time

import fakeredis
import pytest
import structlog
from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from shared.accounts import Accounts
from shared.api_keys import ApiKeys, Scope
from shared.dialects import PROVIDERS
from shared.errors import ConfigurationError
from shared.settings import Settings
from tests.apibench import ApiBench
from tests.services import free_port

LOGIN = "/api/v1/public/client/login"
WHO = "/api/v1/private/client"
#: A call of each provider that needs a key: method, path, and how its refusal for too many calls reads.
CALLS = {
    "native": ("GET", "/v1/models", lambda answer: answer.json["code"] == "rate_limited"),
    "opensourceais": ("GET", WHO, lambda answer: answer.json["status"] == 429 and answer.json["data"] is None),
    "aithriving": (
        "POST",
        "/api/generate/basic/textToImage",
        lambda answer: answer.json["code"] == -1 and answer.json["data"] is None,
    ),
    "modelslab": (
        "POST",
        "/api/v1/enterprise/system_details",
        lambda answer: answer.json["status"] == "error" and answer.json["retry_after"] > 0,
    ),
    "octoai": ("POST", "/generate/sd", lambda answer: set(answer.json) == {"message"}),
    "stability": ("GET", "/v1/engines/list", lambda answer: answer.json["name"] == "rate_limit_exceeded"),
}


@pytest.fixture
def bench(tmp_path):
    made = ApiBench(fakeredis.FakeRedis(decode_responses=True), tmp_path)
    yield made
    made.parts.hub.close()


@pytest.fixture
def limited(tmp_path):
    made = ApiBench(
        fakeredis.FakeRedis(decode_responses=True), tmp_path, rate_limits=(("paid", "2/hour"), ("free", ""))
    )
    yield made
    made.parts.hub.close()


def key_for(bench, *scopes, account="alice", **options):
    made = Accounts(bench.redis).create_key(account, scopes=scopes, **options)
    return {"Authorization": f"Bearer {made.key}"}


def log_in(bench, credentials, secret=None):
    body = {"token": credentials.client_token, "secret": secret or credentials.secret}
    return bench.client.post(LOGIN, json=body)


def session(bench, credentials):
    answer = log_in(bench, credentials)
    assert answer.status_code == 201, answer.text
    return {"Authorization": f"Bearer {answer.json['data']['authToken']}"}


def test_no_key_is_kept_as_it_is(bench):
    kept = " ".join(f"{name} {_content(bench.redis, name)}" for name in bench.redis.scan_iter())

    assert bench.credentials.prefix in kept
    assert bench.credentials.key not in kept
    assert bench.credentials.key[10:] not in kept
    assert bench.credentials.secret not in kept


def _content(redis, name):
    kind = redis.type(name)
    return {"string": redis.get, "hash": redis.hgetall, "set": redis.smembers}.get(kind, lambda _: "")(name)


def test_a_revoked_key_opens_nothing_from_that_moment_on_in_any_process(bench, tmp_path):
    other = ApiBench(bench.redis, tmp_path / "other")  # a second process on the same Redis
    sessions = session(bench, bench.credentials)
    before = [each.client.get("/v1/models", headers=bench.headers).status_code for each in (bench, other)]
    assert bench.client.get(WHO, headers=sessions).status_code == 200

    ApiKeys(bench.redis).revoke(bench.credentials.prefix)

    after = [each.client.get("/v1/models", headers=bench.headers).status_code for each in (bench, other)]
    assert (before, after) == ([200, 200], [401, 401])
    assert bench.client.get(WHO, headers=sessions).status_code == 400
    assert log_in(bench, bench.credentials).status_code == 404
    other.parts.hub.close()


def test_other_keys_of_the_account_live_on(bench):
    second = key_for(bench, Scope.READ)
    uid = bench.submit()

    ApiKeys(bench.redis).revoke(bench.credentials.prefix)

    assert bench.client.get(f"/v1/jobs/{uid}", headers=second).status_code == 200


def test_a_key_ends_with_its_time_and_its_sessions_with_it(bench):
    now_ms = time.time_ns() // 1_000_000
    made = Accounts(bench.redis).create_key("alice", expires_ms=now_ms + 3_600_000)
    headers, sessions = {"Authorization": f"Bearer {made.key}"}, session(bench, made)
    assert bench.client.get("/v1/models", headers=headers).status_code == 200

    (name,) = (n for n in bench.redis.scan_iter("{dr}:key:*") if bench.redis.hget(n, "prefix") == made.prefix)
    bench.redis.hset(name, "expires", now_ms)

    assert bench.client.get("/v1/models", headers=headers).status_code == 401
    assert bench.client.get(WHO, headers=sessions).status_code == 400


def test_the_last_use_is_noted_at_most_once_a_minute(bench):
    keys = ApiKeys(bench.redis)
    (info,) = keys.all()
    assert info.used_ms is None
    bench.get("/v1/models")
    (first,) = keys.all()
    bench.get("/v1/models")
    (second,) = keys.all()
    (name,) = bench.redis.scan_iter("{dr}:key:*")
    bench.redis.hset(name, "used", first.used_ms - 60_000)
    bench.get("/v1/models")
    (third,) = keys.all()

    assert first.used_ms == second.used_ms
    assert third.used_ms >= first.used_ms


#: scope -> calls that need it and no other
NEEDS = {
    Scope.READ: [
        ("GET", "/v1/jobs", None),
        ("GET", "/v1/jobs/{uid}", None),
        ("GET", "/v1/models", None),
        ("GET", "/v1/engines/list", None),
        ("GET", "/v1/user/balance", None),
        ("GET", "/v1/user/account", None),
        ("GET", "/api/v1/private/client/request/{uid}", None),
        ("POST", "/api/v6/images/fetch/{uid}", {}),
        ("POST", "/api/v1/enterprise/system_details", {}),
    ],
    Scope.SUBMIT: [
        ("POST", "/v1/jobs", {"prompt": "x"}),
        ("POST", "/v1/jobs/{uid}/cancel", None),
        ("POST", "/api/v1/private/client/ai/diffusion", {"word": "x"}),
        ("POST", "/api/v1/enterprise/clear_queue", {}),
    ],
}


@pytest.mark.parametrize(("scope", "call"), [(scope, call) for scope, calls in NEEDS.items() for call in calls])
def test_a_key_does_what_its_scope_says_and_nothing_else(bench, scope, call):
    uid = bench.submit()
    method, path, body = call
    headers = {each: key_for(bench, each) for each in Scope}

    answers = {
        each: bench.client.open(path.format(uid=uid), method=method, json=body, headers=headers[each])
        for each in Scope
        if each is not scope
    }
    allowed = bench.client.open(path.format(uid=uid), method=method, json=body, headers=headers[scope])

    assert {each: answer.status_code for each, answer in answers.items()} == dict.fromkeys(answers, 403)
    assert allowed.status_code < 300, allowed.text


@pytest.mark.parametrize("path", ["/generate/sd", "/api/generate/basic/textToImage", "/api/v6/images/text2img"])
def test_no_dialect_takes_a_job_from_a_key_that_only_reads(bench, path):
    answer = bench.client.post(
        path, json={"prompt": "a cat", "width": 512, "height": 512}, headers=key_for(bench, Scope.READ)
    )

    assert "lacks the scope `submit`" in answer.text
    assert bench.job_count() == 0


def test_a_session_may_do_what_its_clients_key_may(bench):
    made = Accounts(bench.redis).create_key("alice", scopes=[Scope.READ])
    headers = session(bench, made)

    refused = bench.client.post("/api/v1/private/client/ai/diffusion", json={"word": "x"}, headers=headers)

    assert bench.client.get(WHO, headers=headers).status_code == 200
    assert refused.status_code == 403


def test_the_problem_names_the_missing_scope(bench):
    answer = bench.client.post("/v1/jobs", json={"prompt": "x"}, headers=key_for(bench, Scope.READ))

    assert (answer.status_code, answer.json["code"]) == (403, "missing_scope")
    assert "`submit`" in answer.json["detail"]


def test_every_counted_answer_says_what_is_left(limited):
    answers = [limited.get("/v1/models") for _ in range(3)]

    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert [answer.headers["RateLimit-Remaining"] for answer in answers] == ["1", "0", "0"]
    for answer in answers:
        reset = answer.headers["RateLimit-Reset"]
        assert 0 < int(reset) <= 3600
        assert answer.headers["RateLimit-Limit"] == "2"
        assert answer.headers["RateLimit-Policy"] == '"per-3600s";q=2;w=3600'
        assert answer.headers["RateLimit"] == f'"per-3600s";r={answer.headers["RateLimit-Remaining"]};t={reset}'
    assert answers[-1].headers["Retry-After"] == answers[-1].headers["RateLimit-Reset"]


@pytest.mark.parametrize("dialect", CALLS)
def test_too_many_calls_are_refused_in_each_dialects_envelope(limited, dialect):
    method, path, reads_right = CALLS[dialect]
    limited.get("/v1/models")
    limited.get("/v1/models")

    answer = limited.client.open(path, method=method, json={} if method == "POST" else None, headers=limited.headers)

    assert answer.status_code == (200 if dialect == "aithriving" else 429)
    assert reads_right(answer), answer.text
    assert 0 < int(answer.headers["Retry-After"]) <= 3600
    assert limited.job_count() == 0


def test_the_calls_above_are_those_of_every_dialect():
    assert set(CALLS) == {"native", *PROVIDERS}


def test_each_key_is_counted_by_itself(limited):
    second = key_for(limited, Scope.READ)
    for _ in range(3):
        limited.get("/v1/models")

    assert limited.client.get("/v1/models", headers=second).status_code == 200


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/docs", "/openapi.json", "/media/x", "/nothing"])
def test_what_needs_no_key_is_not_counted(limited, path):
    limited.get("/v1/models")
    limited.get("/v1/models")
    answers = [limited.get(path) for _ in range(4)]

    assert {answer.status_code for answer in answers} <= {200, 403, 404, 503}
    assert not [name for answer in answers for name in answer.headers.keys() if "Limit" in name]  # noqa: SIM118


def test_a_plan_without_limits_is_not_counted(limited):
    free = Accounts(limited.redis).create_key("bob", plan="free")
    answers = [limited.client.get("/v1/models", headers={"Authorization": f"Bearer {free.key}"}) for _ in range(4)]

    assert {answer.status_code for answer in answers} == {200}
    assert "RateLimit" not in answers[0].headers


def test_what_is_left_is_not_told_where_redis_went_away_meanwhile(limited, monkeypatch):
    gone = Redis(port=free_port(), decode_responses=True, retry=Retry(NoBackoff(), 0))
    told = limited.parts.limits._limiter.limiter.get_window_stats

    def lose(*_args):
        gone.ping()

    monkeypatch.setattr(limited.parts.limits._limiter.limiter, "get_window_stats", lose)
    with structlog.testing.capture_logs() as logs:
        answer = limited.get("/v1/models")

    assert told
    assert answer.status_code == 200
    assert "RateLimit" not in answer.headers
    assert [line["event"] for line in logs] == ["limits.untold"]
    gone.close()


def test_logins_are_throttled_by_client_and_address(tmp_path):
    bench = ApiBench(fakeredis.FakeRedis(decode_responses=True), tmp_path, login_limit="3/hour", proxy_hops=1)
    other = Accounts(bench.redis).create_key("bob")

    def attempt(credentials, secret, address):
        body = {"token": credentials.client_token, "secret": secret}
        return bench.client.post(LOGIN, json=body, headers={"X-Forwarded-For": f"6.6.6.6, {address}"})

    guesses = [attempt(bench.credentials, "guess", "192.0.2.1") for _ in range(4)]
    right_too_late = attempt(bench.credentials, bench.credentials.secret, "192.0.2.1")

    assert [answer.status_code for answer in guesses] == [401, 401, 401, 429]
    assert guesses[-1].json == {"data": None, "status": 429, "message": "Too many attempts to log in"}
    assert 0 < int(guesses[-1].headers["Retry-After"]) <= 3600
    assert right_too_late.status_code == 429
    assert attempt(bench.credentials, bench.credentials.secret, "192.0.2.2").status_code == 201
    assert attempt(other, other.secret, "192.0.2.1").status_code == 201
    bench.parts.hub.close()


def test_without_proxies_a_forwarded_address_is_not_believed(tmp_path):
    bench = ApiBench(fakeredis.FakeRedis(decode_responses=True), tmp_path, login_limit="1/hour")
    body = {"token": bench.credentials.client_token, "secret": "guess"}

    answers = [bench.client.post(LOGIN, json=body, headers={"X-Forwarded-For": f"192.0.2.{n}"}) for n in range(2)]

    assert [answer.status_code for answer in answers] == [401, 429]
    bench.parts.hub.close()


def test_login_limits_can_be_turned_off(tmp_path):
    bench = ApiBench(fakeredis.FakeRedis(decode_responses=True), tmp_path, login_limit="")

    assert {log_in(bench, bench.credentials, "guess").status_code for _ in range(30)} == {401}
    bench.parts.hub.close()


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("free=1/second+9/day", (("free", "1/second;9/day"),)),
        ("free=off, paid=5/hour", (("free", ""), ("paid", "5/hour"))),
    ],
)
def test_rate_limits_are_read(text, read):
    assert Settings.from_env({"RATE_LIMITS": text}).rate_limits == read


@pytest.mark.parametrize(
    "text", ["free", "free=", "free=often", "free=0/second", "free=1/year", "5/second", "free=1/s"]
)
def test_rate_limits_that_cannot_be_stop_the_start(text):
    with pytest.raises(ConfigurationError, match="RATE_LIMITS"):
        Settings.from_env({"RATE_LIMITS": text})


@pytest.mark.parametrize("public_url", ["", "http://images.example", "https://images.example"])
def test_every_answer_is_guarded_and_asks_for_tls_where_there_is_some(tmp_path, public_url):
    bench = ApiBench(fakeredis.FakeRedis(decode_responses=True), tmp_path, public_url=public_url, cors_origins=("*",))
    uid = bench.submit()
    bench.draw()
    link = bench.get(f"/v1/jobs/{uid}").json["outputs"][0]["url"]
    path = link[link.index("/media/") :]
    preflight = {"Origin": "https://shop.example", "Access-Control-Request-Method": "POST"}
    answers = [
        *(bench.get(each) for each in ("/v1/models", path, "/healthz", "/nothing", "/docs", "/openapi.json", "/")),
        *(bench.get(f"/v1/jobs/{uid}{part}") for part in ("", "/images/0", "/events", "?wait=x")),
        bench.client.get("/v1/jobs"),
        bench.client.put("/v1/jobs"),
        bench.client.post("/generate/sd", data=b"{"),
        bench.client.options("/v1/jobs", headers=preflight),
    ]

    assert {answer.status_code for answer in answers} >= {200, 204, 302, 400, 401, 404, 405}
    for answer in answers:
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
        assert ("Strict-Transport-Security" in answer.headers) == public_url.startswith("https")
    bench.parts.hub.close()
