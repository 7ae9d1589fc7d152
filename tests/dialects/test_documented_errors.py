"""Every error that callers are promised, in each dialect's exact envelope, side by side: status, body, Retry-After."""

from dataclasses import dataclass

import fakeredis
import pytest
import structlog
from redis.exceptions import ConnectionError as RedisConnectionError

from api import events
from shared.api_keys import Scope
from shared.errors import BacklogFull
from tests.dialects import rig
from tests.dialects.test_odd_clients import REQUESTS

#: dialect -> a field out of its bounds, and what is said of it
BAD_FIELDS = {
    "opensourceais": ({"steps": 201}, "steps: must lie between 1 and 200, not 201"),
    "aithriving": ({"steps": 51}, "steps: must lie between 10 and 50, not 51"),
    "modelslab": ({"num_inference_steps": "51"}, "num_inference_steps: must lie between 1 and 50, not 51"),
    "octoai": ({"steps": 201}, "must lie between 1 and 200, not 201"),
    "stability": ({"steps": 151}, "steps: must lie between 10 and 150, not 151"),
}
NO_CREDITS = "The account's credits do not cover this job."
TOO_MANY = "The account has as many waiting jobs as its plan allows."
BUSY = "The backlog is full."
AWAY = "The backlog cannot be reached."
FAULT = "Something went wrong on our side."
NO_JOB = "There is no such job."
TOO_LONG = "The picture took too long; the job was cancelled and costs nothing."
FAILED = {"code": "generation_failed", "message": "The pipeline failed.", "retryable": False}
OSAIS_POLL, MODELSLAB_FETCH = "/api/v1/private/client/request/{}", "/api/v1/enterprise/fetch/{}"


def osais(status, text):
    return status, {"data": None, "status": status, "statusText": text}


def aithriving(message):
    return 200, {"code": -1, "message": message, "data": None}


def modelslab(status, message, **more):
    return status, {"status": "error", "message": message, **more}


def octoai(status, message):
    return status, {"message": message}


def stability(status, name, message):
    return status, {"id": ANY, "name": name, "message": message}


class _Any:
    """Equal to whatever text is there."""

    def __eq__(self, other):
        return isinstance(other, str) and bool(other)

    __hash__ = None


ANY = _Any()


@dataclass
class Case:
    """What goes wrong, and what every dialect says of it."""

    told: dict
    #: Whether callers are told to try again, by Retry-After.
    again: bool = False


CASES = {
    "no key": Case(
        {
            "opensourceais": osais(400, "A client token is required"),
            "aithriving": aithriving("A valid API key is required."),
            "modelslab": modelslab(401, "Invalid API key"),
            "octoai": octoai(401, "A valid API key is required."),
            "stability": stability(401, "unauthorized", "A valid API key is required."),
        }
    ),
    "a key that may only read": Case(
        {
            "opensourceais": osais(403, "This key may not do that: it lacks the scope `submit`."),
            "aithriving": aithriving("This key may not do that: it lacks the scope `submit`."),
            "modelslab": modelslab(403, "This key may not do that: it lacks the scope `submit`."),
            "octoai": octoai(403, "This key may not do that: it lacks the scope `submit`."),
            "stability": stability(403, "permission_denied", "This key may not do that: it lacks the scope `submit`."),
        }
    ),
    "a bad field": Case(
        {
            "opensourceais": osais(400, BAD_FIELDS["opensourceais"][1]),
            "aithriving": aithriving(BAD_FIELDS["aithriving"][1]),
            "modelslab": modelslab(400, BAD_FIELDS["modelslab"][1]),
            "octoai": (
                422,
                {
                    "detail": [
                        {"loc": ["body", "steps"], "msg": BAD_FIELDS["octoai"][1], "type": "value_error.invalid_value"}
                    ]
                },
            ),
            "stability": stability(400, "bad_request", BAD_FIELDS["stability"][1]),
        }
    ),
    "no prompt": Case(
        {
            "opensourceais": osais(400, "word: is required"),
            "aithriving": aithriving("prompt: is required"),
            "modelslab": modelslab(400, "prompt is required"),
            "octoai": (
                422,
                {"detail": [{"loc": ["body", "prompt"], "msg": "is required", "type": "value_error.missing"}]},
            ),
            "stability": stability(400, "bad_request", "text_prompts: is required"),
        }
    ),
    "no credits": Case(
        {
            "opensourceais": osais(402, NO_CREDITS),
            "aithriving": aithriving(NO_CREDITS),
            "modelslab": modelslab(402, NO_CREDITS),
            "octoai": octoai(402, NO_CREDITS),
            "stability": stability(402, "insufficient_balance", NO_CREDITS),
        }
    ),
    "too many waiting": Case(
        {
            "opensourceais": osais(429, TOO_MANY),
            "aithriving": aithriving(TOO_MANY),
            "modelslab": modelslab(429, TOO_MANY, retry_after=5),
            "octoai": octoai(429, TOO_MANY),
            "stability": stability(429, "rate_limit_exceeded", TOO_MANY),
        },
        again=True,
    ),
    "a full backlog": Case(
        {
            "opensourceais": osais(409, "Could not add to backlog"),
            "aithriving": aithriving(BUSY),
            "modelslab": modelslab(503, BUSY),
            "octoai": octoai(503, BUSY),
            "stability": stability(503, "service_unavailable", BUSY),
        },
        again=True,
    ),
    "a backlog that is away": Case(
        {
            "opensourceais": osais(409, "Could not add to backlog"),
            "aithriving": aithriving(AWAY),
            "modelslab": modelslab(503, AWAY),
            "octoai": octoai(503, AWAY),
            "stability": stability(503, "service_unavailable", AWAY),
        },
        again=True,
    ),
    "a fault of ours": Case(
        {
            "opensourceais": osais(500, FAULT),
            "aithriving": aithriving(FAULT),
            "modelslab": modelslab(500, FAULT),
            "octoai": octoai(500, FAULT),
            "stability": stability(500, "server_error", FAULT),
        }
    ),
    "a job that fails": Case(
        {
            "aithriving": aithriving(FAILED["message"]),
            "octoai": octoai(500, FAILED["message"]),
            "stability": stability(500, "server_error", FAILED["message"]),
        }
    ),
    "a job that takes too long": Case(
        {
            "aithriving": aithriving(TOO_LONG),
            "octoai": octoai(504, TOO_LONG),
            "stability": stability(504, "service_unavailable", TOO_LONG),
        },
        again=True,
    ),
}


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(events, "BLOCK_MS", 50)
        redis, folder = fakeredis.FakeRedis(decode_responses=True), tmp_path_factory.mktemp("api")
        with rig.service(redis, folder, sync_wait_s=30.0, short_wait_s=20.0) as parts:
            yield parts


class Provoker:
    """Makes one thing after another go wrong."""

    def __init__(self, service, patch) -> None:
        self.bench, self.worker = service
        self.patch = patch
        self.accounts = self.bench.parts.accounts

    def send(self, dialect, *, fields=None, key=None, name=None):
        path, body = REQUESTS[dialect]
        sent = {**body, **(fields or {})} if fields != {} else {}
        opens = self.accounts.create_key(name or "carol").key if key is None else key
        return self.bench.client.post(path, json=sent, headers={"Authorization": f"Bearer {opens}"})

    def provoke(self, case, dialect):
        return getattr(self, case.replace(" ", "_"))(dialect)

    def no_key(self, dialect):
        return self.send(dialect, key="wrong")

    def a_key_that_may_only_read(self, dialect):
        return self.send(dialect, key=self.accounts.create_key("carol", scopes=[Scope.READ]).key)

    def a_bad_field(self, dialect):
        return self.send(dialect, fields=BAD_FIELDS[dialect][0])

    def no_prompt(self, dialect):
        return self.send(dialect, fields={})

    def no_credits(self, dialect):
        self.accounts.create_key("poor", credits_=0)
        return self.send(dialect, name="poor")

    def too_many_waiting(self, dialect):
        account = self.accounts.create_key("busy").account
        self.bench.redis.hset(f"{{dr}}:a:{account}", "max_waiting", 0)
        return self.send(dialect, name="busy")

    def a_full_backlog(self, dialect):
        return self.raising(dialect, BacklogFull)

    def a_backlog_that_is_away(self, dialect):
        return self.raising(dialect, RedisConnectionError)

    def a_fault_of_ours(self, dialect):
        return self.raising(dialect, KeyError)

    def raising(self, dialect, fault):
        def fail(*_args, **_options):
            raise fault

        self.patch.setattr(self.bench.backlog, "submit", fail)
        return self.send(dialect)

    def a_job_that_fails(self, dialect):
        self.patch.setattr(self.worker, "fail", FAILED)
        return self.send(dialect)

    def a_job_that_takes_too_long(self, dialect):
        self.patch.setattr(self.bench.parts, "settings", self.bench.settings.evolve(sync_wait_s=0.05))
        self.worker.open.clear()
        try:
            return self.send(dialect)
        finally:
            self.worker.open.set()


@pytest.fixture
def provoker(service, monkeypatch):
    return Provoker(service, monkeypatch)


@pytest.mark.parametrize(
    ("case", "dialect"), [(case, dialect) for case, found in CASES.items() for dialect in found.told]
)
def test_error(provoker, case, dialect):
    with structlog.testing.capture_logs():  # a fault's traceback is long
        answer = provoker.provoke(case, dialect)

    assert (answer.status_code, answer.json) == CASES[case].told[dialect]
    assert answer.content_type == "application/json"
    assert ("Retry-After" in answer.headers) == CASES[case].again


@pytest.mark.parametrize("case", [case for case, found in CASES.items() if len(found.told) < len(REQUESTS)])
def test_only_those_who_wait_hear_of_an_end(case):
    assert set(REQUESTS) - set(CASES[case].told) == {"opensourceais", "modelslab"}


@pytest.mark.parametrize(
    ("which", "polled", "fetched"),
    [
        ("unknown", osais(404, NO_JOB), modelslab(404, NO_JOB)),
        ("another's", osais(403, "Not your request, access denied"), modelslab(404, NO_JOB)),
        ("past its retention", osais(410, "The job is past its retention and gone."), None),
    ],
)
def test_jobs_that_cannot_be_read(service, which, polled, fetched):
    bench, _ = service
    uid = bench.submit()
    job = bench.backlog.read(uid, account=bench.credentials.account)
    if which == "past its retention":
        bench.backlog.cancel(uid, account=bench.credentials.account)
        bench.backlog.bury(bench.backlog.read(uid, account=bench.credentials.account), tombstone_s=60)
    headers = bench.key_of("mallory") if which == "another's" else bench.headers
    named = 7 if which == "unknown" else job.uid

    poll = bench.client.get(OSAIS_POLL.format(named), headers=headers)
    fetch = bench.client.post(MODELSLAB_FETCH.format(named), json={}, headers=headers)

    assert (poll.status_code, poll.json) == polled
    assert (fetch.status_code, fetch.json) == (fetched or modelslab(410, polled[1]["statusText"]))
