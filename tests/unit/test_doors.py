"""No route opens without a key that may: every route of the app is tried, so none can come without a door."""

import fakeredis
import pytest

from shared.accounts import Accounts
from shared.api_keys import ApiKeys, Scope
from tests.apibench import ApiBench
from tests.unit.test_isolation import House

#: Routes that need no key: what they tell is public, or opened by something else (a signature, a handle, a token).
PUBLIC = {
    *("/", "/docs", "/openapi.json", "/healthz", "/readyz"),
    *("/media/<path:key>", "/v1/requests/<id>", "/v1/requests/<id>/response"),
    "/metrics",  # METRICS_TOKEN; 404 without
    *("/api/v1/public/config/<engine>", "/api/v1/public/client/login", "/api/v1/public/client/demo"),
}
NO_KEY = {
    "opensourceais": (400, {"data": None, "status": 400, "statusText": "A client token is required"}),
    "aithriving": (200, {"code": -1, "message": "A valid API key is required.", "data": None}),
    "modelslab": (401, {"status": "error", "message": "Invalid API key"}),
    "octoai": (401, {"message": "A valid API key is required."}),
    "stability": (401, {"name": "unauthorized"}),
}
NATIVE_NO_KEY = (401, {"code": "unauthorized"})


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    made = House(tmp_path_factory.mktemp("house"))
    yield made
    made.bench.parts.hub.close()


@pytest.fixture(scope="module")
def keys(house):
    """Keys that should open nothing: none, one that was withdrawn, and one whose scope no such route asks for."""
    accounts = Accounts(house.bench.redis)
    withdrawn = accounts.create_key("alice")
    ApiKeys(house.bench.redis).revoke(withdrawn.prefix)
    return {"none": "", "withdrawn": withdrawn.key, "admin": accounts.create_key("alice", scopes=[Scope.ADMIN]).key}


def doors(house):
    """Yield (dialect or blueprint, rule, method, path, body) of every route that is not public, each once."""
    seen = set()
    for rule, method, path, body, _ in house.probes():
        if rule.rule not in PUBLIC and (rule.rule, method) not in seen:
            seen.add((rule.rule, method))
            yield rule.endpoint.split(".")[0], rule, method, path, body


def knock(house, method, path, body, key):
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    sent = {"json": {**body, "key": key}} if method in {"POST", "PUT", "PATCH"} else {}
    return house.bench.client.open(path, method=method, headers=headers, **sent)


@pytest.mark.parametrize("which", ["none", "withdrawn"])
def test_no_route_opens_without_a_key(house, keys, which):
    before, tried = house.record(), 0
    for name, _, method, path, body in doors(house):
        answer = knock(house, method, path, body, keys[which])
        status, told = NO_KEY.get(name, NATIVE_NO_KEY)
        assert answer.status_code == status, f"{method} {path}: {answer.text[:200]}"
        assert told.items() <= answer.json.items(), f"{method} {path}: {answer.text[:200]}"
        tried += 1
    assert tried > 60
    assert house.record() == before


def test_no_route_opens_to_a_key_of_another_scope(house, keys):
    before = house.record()
    for name, rule, method, path, body in doors(house):
        if rule.rule.startswith("/v1/keys"):  # the scope's own
            continue
        answer = knock(house, method, path, body, keys["admin"])
        assert answer.status_code == (200 if name == "aithriving" else 403), f"{method} {path}: {answer.text[:200]}"
        assert "lacks the scope" in answer.text, f"{method} {path}"
    assert house.record() == before


def test_public_routes_are_there_and_are_all_that_need_no_key(house):
    rules = {rule.rule for rule in house.bench.app.url_map.iter_rules()}

    assert rules >= PUBLIC


# Keys over HTTP


@pytest.fixture
def bench(tmp_path):
    made = ApiBench(fakeredis.FakeRedis(decode_responses=True), tmp_path)
    yield made
    made.parts.hub.close()


@pytest.fixture
def admin(bench):
    made = Accounts(bench.redis).create_key("alice", key_name="ops", scopes=[Scope.ADMIN], expires_ms=4_102_444_800_000)
    return made, {"Authorization": f"Bearer {made.key}"}


def test_an_accounts_keys_are_listed_by_their_prefixes(bench, admin):
    made, headers = admin
    bench.get("/v1/models")
    Accounts(bench.redis).create_key("bob")

    listed = bench.client.get("/v1/keys", headers=headers)

    usual, ops = listed.json["data"]
    assert (usual["prefix"], usual["scopes"], usual["expires_at"]) == (
        bench.credentials.prefix,
        ["submit", "read"],
        None,
    )
    assert usual["used_at"] >= usual["created_at"][:10]
    assert (ops["prefix"], ops["name"], ops["scopes"]) == (made.prefix, "ops", ["admin"])
    assert ops["expires_at"] == "2100-01-01T00:00:00.000Z"
    for key in (made, bench.credentials):
        assert key.key not in listed.text


def test_a_key_is_withdrawn_by_its_prefix_at_once(bench, admin):
    made, headers = admin
    stranger = Accounts(bench.redis).create_key("bob")
    path = "/v1/keys/{}".format

    assert bench.client.delete(path(stranger.prefix), headers=headers).json["code"] == "key_not_found"
    assert bench.client.delete(path("dr_unknown"), headers=headers).status_code == 404
    assert bench.client.delete(path(bench.credentials.prefix), headers=bench.headers).json["code"] == "missing_scope"
    assert bench.client.delete(path(bench.credentials.prefix), headers=headers).status_code == 204

    assert bench.get("/v1/models").status_code == 401
    assert bench.client.delete(path(bench.credentials.prefix), headers=headers).status_code == 404
    assert bench.client.delete(path(made.prefix), headers=headers).status_code == 204  # itself
    assert bench.client.get("/v1/keys", headers=headers).status_code == 401
    assert bench.client.get("/v1/models", headers={"Authorization": f"Bearer {stranger.key}"}).status_code == 200
