"""One account never sees another's: every route of the app is probed with a stranger's key.

Routes are taken from the app itself. One with a part in its path that this file does not know fails the test, so no
new route can come without being probed.
"""

import fakeredis
import pytest

from shared.accounts import Accounts
from shared.api_keys import Scope
from shared.dialects import PROVIDERS
from shared.job import Status
from tests.apibench import ApiBench

#: What stands in the job and must not reach a stranger.
MARK = "a-marked-word-of-alices"
#: A stranger is answered one of these where a path names alice's job.
NOT_THERE = {404}
#: OpenSourceAIs documents another answer for somebody else's request.
DOCUMENTED = {"opensourceais": 403}
#: Parts of paths that name no job.
INNOCENT = {"engine": "diffusion", "index": "0", "entry": "1", "pool": "default"}
#: Parts that name a job, or what belongs to it.
NAMING = {"uid", "id", "key", "outcome", "prefix", "batch_id"}


class House:
    """Alice's finished and waiting jobs, and a stranger with a key that may do anything."""

    def __init__(self, tmp_path) -> None:
        self.bench = ApiBench(fakeredis.FakeRedis(decode_responses=True), tmp_path, sync_wait_s=0.1, short_wait_s=0.0)
        asked = {"prompt": MARK, "track_id": MARK}
        self.batch = self.bench.post("/v1/batches", [asked, asked]).json["id"]
        self.bench.draw(Status.FAILED)  # so that there is something to retry
        self.done = self.bench.submit(**asked)
        self.bench.draw()
        self.waiting = self.bench.submit(**asked)
        self.stranger = Accounts(self.bench.redis).create_key("mallory", scopes=Scope)
        self.headers = {"Authorization": f"Bearer {self.stranger.key}"}
        self.secrets = [MARK, self.handle(self.done), self.handle(self.waiting), self.bench.credentials.prefix]

    def handle(self, uid) -> str:
        return self.bench.redis.hget(f"{{dr}}:j:{uid}", "handle")

    def record(self) -> dict:
        """Everything about alice's jobs."""
        names = [f"{{dr}}:{kind}:{uid}" for kind in ("j", "s", "r") for uid in (self.done, self.waiting)]
        names += [f"{{dr}}:{kind}:{self.batch}" for kind in ("b", "bl", "bu", "bq", "bh")]
        return {name: self.bench.redis.dump(name) for name in names}

    def probes(self):
        """Yield (rule, method, path, body, names a job) for every route, and every way of naming a job of alice's."""
        for rule in self.bench.app.url_map.iter_rules():
            unknown = rule.arguments - NAMING - set(INNOCENT)
            assert not unknown, f"{rule}: tell this test what {unknown} are"
            for method in sorted(rule.methods - {"OPTIONS", "HEAD"}):
                for uid in (self.done, self.waiting):
                    for name in self.names_of(uid, rule):
                        yield rule, method, *self.request(rule, name, uid)

    def names_of(self, uid, rule) -> list[str]:
        """Return what a stranger may write where a path names something of a job's."""
        if not rule.arguments & NAMING:
            return [""]
        if "key" in rule.arguments:
            return [f"results/{self.handle(uid)}/1/0.png", f"inputs/{self.handle(uid)}/image"]
        if "batch_id" in rule.arguments:
            return [str(self.batch)]
        if "prefix" in rule.arguments:
            return [self.bench.credentials.prefix]
        # A handle cannot be guessed; with a wrong one, or none, a uid opens nothing.
        return [str(uid), f"{'0' * 32}{uid:x}"] if "id" in rule.arguments else [str(uid)]

    def request(self, rule, name, uid):
        values = {each: INNOCENT.get(each, name) for each in rule.arguments}
        path = rule.rule
        for each in rule.arguments:
            converter = rule._converters[each]
            marked = next(part for part in _placeholders(path) if part.rstrip(">").split(":")[-1].lstrip("<") == each)
            assert converter is not None
            path = path.replace(marked, values[each])
        body = {"request_id": uid, "id": uid, "uid": uid, "key": self.stranger.key}
        return path, body, bool(name)


def _placeholders(path):
    return [part[: part.index(">") + 1] for part in (f"<{rest}" for rest in path.split("<")[1:])]


@pytest.fixture
def house(tmp_path):
    made = House(tmp_path)
    yield made
    made.bench.parts.hub.close()


def test_no_route_tells_or_changes_anything_of_anothers_job(house):
    before, probed = house.record(), set()
    for rule, method, path, body, names_a_job in house.probes():
        sent = {"json": body} if method in {"POST", "PUT", "PATCH"} else {}
        answer = house.bench.client.open(path, method=method, headers=house.headers, **sent)
        probed.add((rule.rule, method))

        told = answer.get_data(as_text=True) + str(answer.headers)
        where = f"{method} {path}: {answer.status_code} {answer.text[:300]}"
        assert answer.status_code < 500 or path == "/readyz", where
        for secret in house.secrets:
            assert secret not in told.replace(path, ""), where
        if names_a_job and not path.startswith("/media/"):
            dialect = rule.endpoint.split(".")[0]
            expected = NOT_THERE | ({DOCUMENTED[dialect]} if dialect in DOCUMENTED else set())
            assert answer.status_code in expected, where

    assert house.record() == before
    every = {
        (rule.rule, m) for rule in house.bench.app.url_map.iter_rules() for m in rule.methods - {"OPTIONS", "HEAD"}
    }
    assert probed == every
    assert len(probed) > 60


def test_what_a_body_names_is_not_found_either(house):
    for prefix in ("/api/v1/enterprise", "/api/v6/images", "/api/v3", "/api/v4/dreambooth"):
        answer = house.bench.client.post(f"{prefix}/fetch", json={"key": house.stranger.key, "request_id": house.done})
        assert (answer.status_code, answer.json["status"]) == (404, "error")
    assert "modelslab" in PROVIDERS


def test_lists_and_counts_are_the_callers_own(house):
    listed = house.bench.client.get(f"/v1/jobs?track_id={MARK}", headers=house.headers)
    details = house.bench.client.post("/api/v1/enterprise/system_details", json={"key": house.stranger.key})
    house.bench.client.post("/api/v1/enterprise/clear_queue", json={"key": house.stranger.key})

    assert listed.json["data"] == []
    assert details.json["queue_num"] == 0
    assert house.bench.get(f"/v1/jobs/{house.waiting}").json["status"] == "queued"


def test_a_link_opens_by_its_signature_alone(house):
    link = house.bench.get(f"/v1/jobs/{house.done}").json["outputs"][0]["url"]
    path = link[link.index("/media/") :]
    other = house.bench.get(f"/v1/jobs/{house.done}").json["outputs"][0]["url"]
    assert house.bench.client.get(path).status_code == 200
    signature = path[path.index("signature=") :].partition("&")[0]
    key = path.removeprefix("/media/").partition("?")[0]

    for forged in (
        path.replace(signature, "signature="),
        path.replace(signature, "signature=" + "0" * (len(signature) - 10)),
        path.replace(signature + "&", "").replace("&" + signature, ""),
        path.replace("expires=", "expires=9"),
        path.replace(key, key.replace("0.png", "1.png")),
        path.replace(key, "../" + key),
        path.split("?")[0],
    ):
        answer = house.bench.client.get(forged, headers=house.headers)
        assert answer.status_code in {403, 404}, forged
        assert not answer.data.startswith(b"\x89PNG")
    assert other


def test_an_idempotency_key_is_the_callers_own(house):
    first = house.bench.post("/v1/jobs", {"prompt": MARK}, **{"Idempotency-Key": "same"})
    second = house.bench.client.post(
        "/v1/jobs", json={"prompt": MARK}, headers={**house.headers, "Idempotency-Key": "same"}
    )

    assert second.status_code == 202
    assert second.json["uid"] != first.json["uid"]
    assert "Idempotency-Replayed" not in second.headers
