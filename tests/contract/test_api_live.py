"""The API as it runs: gunicorn on a real Valkey, callers who wait and callers who follow."""

import json
import socket
import time
from contextlib import ExitStack

import pytest
import requests

from shared.accounts import Accounts
from shared.job import Status
from tests.liveapi import NODE, LiveApi, follow_to_end, in_background, running
from tests.services import STOP_S, valkey, wait_until

#: What a machine under load may add to something that is immediate.
SOON_S = 8.0


@pytest.fixture(scope="module")
def live(valkey_server, tmp_path_factory):
    api = LiveApi(valkey_server, tmp_path_factory.mktemp("live"), LOG_FORMAT="json")
    try:
        api.start()
        yield api
    finally:
        api.service.stop()
        api.redis.close()


@pytest.fixture
def api(live):
    for key in live.redis.scan_iter("{dr}:*"):
        if key != "{dr}:ev":  # the running process has its place in it
            live.redis.delete(key)
    live.make_key()
    return live


def test_a_job_is_followed_to_its_end(api):
    uid = api.submit(num_inference_steps=4)

    with api.follow(uid) as events:
        assert events.answer.headers["Content-Type"].startswith("text/event-stream")
        stream = iter(events)
        first = next(stream)
        lease = api.begin()
        started = next(stream)
        api.backlog.renew(NODE, {lease: (2, 4)})
        progress = next(stream)
        api.finish(lease)
        rest = list(stream)  # ends by itself

    assert first["event"] == "snapshot"
    assert first["data"] == {"uid": uid, "status": "queued", "position": 0}
    assert (started["event"], started["data"]["status"]) == ("started", "running")
    assert progress["data"] == {"uid": uid, "status": "running", "progress": {"step": 2, "steps": 4}}
    assert [event["event"] for event in rest] == ["succeeded"]
    ids = [tuple(map(int, event["id"].split("-"))) for event in (first, started, progress, *rest)]
    assert ids == sorted(ids)


def test_every_line_of_its_log_is_json_gunicorns_too(api):
    uid = api.submit()

    lines = [json.loads(line) for line in api.service.log.read_text().splitlines()]
    assert {line["logger"] for line in lines} >= {"gunicorn.error", "api.intake"}
    (accepted,) = (line for line in lines if line["event"] == "job.accepted" and line["uid"] == uid)
    assert accepted["account"] == api.redis.hget("{dr}:accounts", "alice")


def test_a_broken_stream_goes_on_where_it_broke_off(api):
    uid = api.submit()
    with api.follow(uid) as events:
        seen = next(iter(events))["id"]
    lease = api.begin()
    api.backlog.renew(NODE, {lease: (1, 30)})
    api.finish(lease)

    with api.follow(uid, seen) as events:
        missed = list(events)

    assert [event["event"] for event in missed] == ["started", "progress", "succeeded"]
    with api.follow(uid, missed[-1]["id"]) as again:
        assert again.answer.status_code == 204  # browsers stop connecting


def test_the_end_is_told_once_where_it_is_all_there_is(api):
    uid = api.submit()
    api.finish(api.begin(), Status.FAILED)

    with api.follow(uid) as events:
        (only,) = events
    with api.follow(uid, only["id"]) as again:
        status = again.answer.status_code

    assert (only["event"], only["data"]["status"], status) == ("snapshot", "failed", 204)


@pytest.mark.parametrize("last_event_id", ["nonsense", "99999999999999999999999-0", "1-1-1", "-"])
def test_a_foreign_event_id_is_ignored(api, last_event_id):
    uid = api.submit()
    api.backlog.cancel(uid, account="1")

    with api.follow(uid, last_event_id) as events:
        assert events.names() == ["snapshot"]


def test_a_job_of_nobodys_is_not_followed(api):
    answer = api.get("/v1/jobs/1/events")

    assert (answer.status_code, answer.json()["code"]) == (404, "job_not_found")


def test_a_waiting_read_answers_when_the_job_ends(api):
    uid = api.submit()
    lease = api.begin()
    answer = in_background(lambda: api.get(f"/v1/jobs/{uid}?wait=30"))
    time.sleep(0.5)

    api.finish(lease)

    (read, took) = answer()
    assert read.json()["status"] == "succeeded"
    assert 0.4 < took < 0.5 + SOON_S


def test_a_waiting_read_answers_at_its_time(api):
    uid = api.submit()

    (read, took) = in_background(lambda: api.get(f"/v1/jobs/{uid}?wait=1"))()

    assert read.json()["status"] == "queued"
    assert 0.9 < took < 1 + SOON_S


def test_a_finished_job_is_not_waited_for(api):
    uid = api.submit()
    api.backlog.cancel(uid, account="1")

    (read, took) = in_background(lambda: api.get(f"/v1/jobs/{uid}?wait=30"))()

    assert read.json()["status"] == "cancelled"
    assert took < SOON_S


def test_waiting_costs_redis_next_to_nothing(api):
    uid = api.submit()
    waits = [in_background(lambda: api.get(f"/v1/jobs/{uid}?wait=60", timeout=90)) for _ in range(20)]

    def is_quiet():
        before = commands(api)
        time.sleep(1)
        return commands(api) - before <= 10  # one reader for everybody

    wait_until(is_quiet, timeout_s=40, what="quiet while all wait")
    api.backlog.cancel(uid, account="1")

    assert {wait()[0].json()["status"] for wait in waits} == {"cancelled"}


def test_a_lost_event_is_made_good(api):
    uid = api.submit()
    followed = in_background(lambda: follow_to_end(api, uid))
    waited = in_background(lambda: api.get(f"/v1/jobs/{uid}?wait=30"))
    time.sleep(0.5)

    api.redis.hset(f"{{dr}}:j:{uid}", mapping={"status": "expired", "finished": 1})  # no event tells of it

    (read, took) = waited()
    assert read.json()["status"] == "expired"
    assert took < 3 + SOON_S
    assert followed()[0] == ["snapshot", "snapshot"]


def test_everybody_hears_of_the_same_end(api):
    uid = api.submit()
    followers = [in_background(lambda: follow_to_end(api, uid)) for _ in range(20)]
    time.sleep(0.7)

    api.finish(api.begin())

    for follower in followers:
        assert follower()[0] == ["snapshot", "started", "succeeded"]


def test_a_large_body_is_refused_over_the_wire(valkey_server, tmp_path):
    with running(valkey_server, tmp_path, MAX_BODY_BYTES="2048") as api:
        answer = requests.post(f"{api.url}/v1/jobs", json={"prompt": "x" * 100_000}, headers=api.headers, timeout=30)
        chunks = requests.post(
            f"{api.url}/v1/jobs",
            data=iter([b'{"prompt": "'] + [b"x" * 1000] * 100),
            headers={**api.headers, "Content-Type": "application/json"},
            timeout=30,
        )

    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
    assert (chunks.status_code, chunks.json()["code"]) == (413, "body_too_large")


def test_callers_who_wait_leave_room_for_others(valkey_server, tmp_path):
    with running(valkey_server, tmp_path, WEB_THREADS="8") as api, ExitStack() as stack:
        uid = api.submit()
        for _ in range(5):
            next(iter(stack.enter_context(api.follow(uid))))

        refused = api.get(f"/v1/jobs/{uid}/events")
        began = time.monotonic()
        early = api.get(f"/v1/jobs/{uid}?wait=30")
        took = time.monotonic() - began

    assert (refused.status_code, refused.json()["code"]) == (503, "too_many_streams")
    assert early.json()["status"] == "queued"
    assert took < SOON_S


def test_callers_with_half_a_request_hold_no_thread(valkey_server, tmp_path):
    with running(valkey_server, tmp_path, WEB_THREADS="4") as api, ExitStack() as stack:
        address = ("127.0.0.1", api.port)
        halves = [stack.enter_context(socket.create_connection(address, timeout=60)) for _ in range(8)]
        for half in halves:
            half.sendall(b"GET /healthz HT")

        assert api.get("/healthz", timeout=60).ok
        halves[0].sendall(b"TP/1.1\r\nHost: x\r\n\r\nGET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answers = b"".join(iter(lambda: halves[0].recv(4096), b""))

    assert answers.count(b"HTTP/1.1 200") == 2  # the second came along with the first


def test_a_caller_who_does_not_hang_up_delays_nobody(api):
    with socket.create_connection(("127.0.0.1", api.port)) as idle:
        idle.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert idle.recv(4096)
        began = time.monotonic()

        api.get("/healthz")

    assert time.monotonic() - began < SOON_S


def test_several_processes_hear_of_the_same_events(valkey_server, tmp_path):
    with running(valkey_server, tmp_path, WEB_PROCESSES="2") as api:
        uid = api.submit()
        followers = [in_background(lambda: follow_to_end(api, uid)) for _ in range(12)]
        time.sleep(1)

        api.backlog.cancel(uid, account=Accounts(api.redis).create_key("alice").account)

        for follower in followers:
            assert follower()[0] == ["snapshot", "cancelled"]


def test_callers_who_wait_do_not_keep_the_process(valkey_server, tmp_path):
    with running(valkey_server, tmp_path) as api:
        uid = api.submit()
        followed = in_background(lambda: follow_to_end(api, uid))
        waited = in_background(lambda: api.get(f"/v1/jobs/{uid}?wait=60"))
        time.sleep(0.7)
        began = time.monotonic()

        api.service.stop()

        took = time.monotonic() - began
    assert took < STOP_S  # by itself, not killed
    assert followed()[0] == ["snapshot"]
    assert waited()[0].json()["status"] == "queued"


def test_streams_outlive_a_restart_of_redis(tmp_path):
    with valkey(aof=True) as server, running(server, tmp_path) as api:
        uid = api.submit()
        followed = in_background(lambda: follow_to_end(api, uid))
        time.sleep(0.7)

        server.stop()
        down = api.get(f"/v1/jobs/{uid}")
        server.start()
        time.sleep(1)
        api.finish(api.begin())

        assert down.status_code == 503
        assert down.headers["Retry-After"] == "2"
        assert followed()[0] == ["snapshot", "started", "succeeded"]


def test_the_api_starts_without_redis(tmp_path):
    with valkey() as server:
        server.stop()
        with running(server, tmp_path, key=False) as api:
            assert api.get("/readyz").json()["missing"] == ["redis", "storage", "worker", "courier"]
            server.start()
            assert wait_until(lambda: api.get("/readyz").json()["missing"] == ["worker", "courier"])


def commands(api) -> int:
    return api.redis.info("stats")["total_commands_processed"]
