"""Redis gone, hung, or out of disk: callers are told at once, in their own words, and everything goes on by itself."""

import base64
import os
import resource
import signal
import sys
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace

import pytest
import requests
from redis.exceptions import ResponseError

from shared.accounts import Accounts
from shared.redis_client import ServerUnableError, connect
from shared.settings import Settings
from tests.apibench import png
from tests.liveapi import NODE, ROOT, LiveApi, in_background
from tests.services import Service, receiver, valkey, wait_until

OSAIS = "/api/v1/private/client/ai/diffusion"
STABILITY = "/v1/generation/demo/text-to-image"
COURIER_OPTIONS = (
    *("--pool=threads", "--concurrency=2", "--hostname=courier@outages"),
    *("--without-gossip", "--without-mingle"),
)
TO_IMAGE = {"prompt": "a fox", "width": 512, "height": 512}


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """API and courier on a Valkey that tests may stop; a receiver; the accounts' headers."""
    folder = tmp_path_factory.mktemp("outages")
    with ExitStack() as stack:
        server = stack.enter_context(valkey(aof=True))
        api = LiveApi(server, folder, OUTBOUND_ALLOW="127.0.0.0/8")
        stack.callback(api.redis.close)
        stack.callback(api.service.stop)
        api.start()
        made = Accounts(api.redis).create_key("alice")
        api.headers = {"Authorization": f"Bearer {made.key}"}
        courier = stack.enter_context(running_courier(server, folder))
        yield SimpleNamespace(
            server=server, api=api, made=made, courier=courier, receiver=stack.enter_context(receiver())
        )


@contextmanager
def running_courier(server, folder):
    service = Service(
        [sys.executable, "-m", "celery", "-A", "worker.courier_app", "worker", *COURIER_OPTIONS],
        ready=lambda: True,
        log=folder / "courier.log",
        env={
            "REDIS_URL": server.url,
            "DARKROOM_DATA_DIR": str(folder),
            "OUTBOUND_ALLOW": "127.0.0.0/8",
            "PYTHONPATH": str(ROOT),
        },
    )
    try:
        service.start()
        yield service
    finally:
        service.stop()


@pytest.fixture
def stack():
    with ExitStack() as opened:
        yield opened


@pytest.fixture
def service(running):
    """Everything up, whatever the test before left."""
    missing = lambda: running.api.get("/readyz").json()["missing"]  # noqa: E731
    wait_until(lambda: set(missing()) <= {"worker"}, what="all but the worker")
    return running


def log_in(service):
    answer = requests.post(
        f"{service.api.url}/api/v1/public/client/login",
        json={"token": service.made.client_token, "secret": service.made.secret},
        timeout=30,
    )
    return {"Authorization": f"Bearer {answer.json()['data']['authToken']}"}


def calls(service):
    """Return name -> (path, headers, request's body) of one submission in each dialect."""
    key, headers = service.made.key, service.api.headers
    picture = base64.b64encode(png()).decode()
    return {
        "native": ("/v1/jobs", headers, {"json": {"prompt": "a fox"}}),
        "opensourceais": (OSAIS, log_in(service), {"json": {"word": "a fox"}}),
        "aithriving": ("/api/generate/basic/textToImage", headers, {"json": TO_IMAGE}),
        "modelslab": ("/api/v1/enterprise/text2img", {}, {"json": {"key": key, **TO_IMAGE}}),
        "octoai": ("/generate/sd", headers, {"json": {"prompt": "a fox", "init_image": picture}}),
        "stability": (STABILITY, headers, {"json": {"text_prompts": [{"text": "a fox"}]}}),
    }


#: What each dialect says of a backlog that is away: status, and what its body must hold.
TOLD = {
    "native": (503, {"code": "backlog_unavailable"}),
    "opensourceais": (409, {"data": None, "status": 409, "statusText": "Could not add to backlog"}),
    "aithriving": (200, {"code": -1, "data": None}),
    "modelslab": (503, {"status": "error"}),
    "octoai": (503, {}),
    "stability": (503, {"name": "service_unavailable"}),
}


def submitted(service, call):
    path, headers, body = call
    return requests.post(service.api.url + path, headers=headers, timeout=30, **body)


def assert_all_are_told(service, prepared):
    assert prepared.keys() == TOLD.keys()
    for dialect, call in prepared.items():
        answer = submitted(service, call)
        status, body = TOLD[dialect]
        assert answer.status_code == status, (dialect, answer.text)
        assert body.items() <= answer.json().items(), (dialect, answer.text)
        assert "Traceback" not in answer.text
    unready = service.api.get("/readyz")
    assert unready.status_code == 503
    assert "redis" in unready.json()["missing"]


def test_without_redis_every_dialect_says_so_and_everything_resumes(service, stack):
    api, prepared = service.api, calls(service)
    uid = api.submit(webhook_url=f"{service.receiver.url}/hook", track_id="over the outage")
    lease = api.begin()
    before = reads(api)
    waited = in_background(lambda: api.get(f"/v1/jobs/{uid}?wait=60", timeout=90).json()["status"])
    wait_until(lambda: reads(api) > before, what="a caller who waits")
    stream = stack.enter_context(api.follow(uid))
    events = iter(stream)
    assert next(events)["event"] == "snapshot"

    service.server.stop()
    try:
        assert_all_are_told(service, prepared)
        assert api.get(f"/v1/jobs/{uid}").status_code == 503
    finally:
        service.server.start()
    wait_until(lambda: api.get("/v1/models").ok)
    api.backlog.renew(NODE, {lease: (1, 2)})
    api.finish(lease)

    assert [event["event"] for event in events][-1] == "succeeded"
    assert waited()[0] == "succeeded"
    (told,) = service.receiver.wait_for(1)
    assert b"over the outage" in told.body
    assert submitted(service, prepared["native"]).status_code == 202
    assert service.courier.process.poll() is None


def reads(api):
    """How many records were read so far; who waits for a job reads it after it has registered."""
    return api.redis.info("commandstats").get("cmdstat_hgetall", {"calls": 0})["calls"]


def test_a_server_that_hangs_is_not_waited_for_long(service):
    prepared = calls(service)
    pid = service.server.service.process.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        answer = submitted(service, prepared["native"])
        refused = submitted(service, prepared["opensourceais"])
    finally:
        os.kill(pid, signal.SIGCONT)
    assert (answer.status_code, answer.json()["code"]) == (503, "backlog_unavailable")
    assert refused.status_code == 409
    wait_until(lambda: submitted(service, prepared["native"]).status_code == 202, what="a submission")


def test_a_server_whose_disk_is_full_takes_nothing_and_recovers(tmp_path):
    with valkey(aof=True, restore_signals=False) as server, ExitStack() as stack:
        api = LiveApi(server, tmp_path)
        stack.callback(api.redis.close)
        stack.callback(api.service.stop)
        api.start()
        api.make_key()
        first = api.submit()
        pid = server.service.process.pid
        unlimited = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, unlimited[1]))
        stack.callback(resource.prlimit, pid, resource.RLIMIT_FSIZE, unlimited)

        def told():
            answer = requests.post(f"{api.url}/v1/jobs", json={"prompt": "x"}, headers=api.headers, timeout=30)
            return answer.status_code, answer.json().get("code")

        # What is written within the second in which the server meets the limit is still acknowledged.
        wait_until(lambda: told() == (503, "backlog_unavailable"), what="a refusal")
        with (
            connect(Settings(redis_url=server.url)) as client,
            pytest.raises(ServerUnableError, match=r"File too large|No space"),
        ):
            client.set("x", "y")

        resource.prlimit(pid, resource.RLIMIT_FSIZE, unlimited)
        wait_until(lambda: told()[0] == 202, what="a submission")
        assert api.get(f"/v1/jobs/{first}").json()["status"] == "queued"


def test_a_faulty_command_stays_a_fault(valkey_server):
    with connect(Settings(redis_url=valkey_server.url)) as client, pytest.raises(ResponseError) as raised:
        client.execute_command("NONSENSE")
    assert not isinstance(raised.value, ServerUnableError)
