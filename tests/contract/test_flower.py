"""Flower as it is deployed, beside a worker and a courier: what it shows of jobs, and what its buttons do."""

import json
import os
import signal
from contextlib import ExitStack
from pathlib import Path

import pytest
import requests

from shared.keys import job_key
from tests import services
from tests.deployment import LONG_S, NODE, Deployment
from tests.services import HOST, free_port, wait_until

LONG_JOB = {"num_inference_steps": 200, "width": 512, "height": 512}


class Flower:
    """A deployment, and its dashboard's HTTP API and pages."""

    def __init__(self, deployment):
        self.deployment = deployment

    def get(self, path, **query):
        return requests.get(self.deployment.flower_url + path, params=query, timeout=60)

    def post(self, path, json=None, **query):
        return requests.post(self.deployment.flower_url + path, params=query, json=json, timeout=60)

    def found(self, search):
        """Return the uids that the search field of the page of tasks finds."""
        columns = {"order[0][column]": 0, "columns[0][data]": "name"}
        answer = self.get("/tasks/datatable", draw=1, start=0, length=100, **{"search[value]": search}, **columns)
        return {int(row["uuid"]) for row in answer.json()["data"]}

    def done(self, **spec):
        uid = self.deployment.submit(**spec)
        self.deployment.wait_for(uid, "succeeded")
        return uid


@pytest.fixture(scope="module")
def flower(tmp_path_factory):
    with ExitStack() as stack:
        server = stack.enter_context(services.valkey(aof=True))
        yield Flower(Deployment(server, tmp_path_factory.mktemp("flower"), stack))


@pytest.fixture
def deployment(flower):
    return flower.deployment


def test_a_row_is_a_job_and_tells_whose(flower, deployment):
    uid = deployment.submit(dialect="octoai", track_id="order-8")
    job = deployment.wait_for(uid, "succeeded")
    row = deployment.row(uid, "SUCCESS")

    assert row["name"] == "octoai.text_to_image"
    assert row["worker"] == NODE
    assert row["runtime"] == pytest.approx(sum(job.result.timings.values()), abs=0.01)
    assert row["received"] <= row["started"] <= row["succeeded"]
    assert f"'account': '{deployment.account}', 'track_id': 'order-8'" in row["kwargs"]
    assert 'data-column="kwargs"' in flower.get("/tasks").text
    assert flower.found("order-8") == {uid}
    rows = flower.get("/api/tasks").json()
    assert all(name.isdigit() for name in rows)
    assert "secret" not in json.dumps(rows)
    counts = flower.get("/metrics").text  # open without the password
    assert "octoai.text_to_image" in counts
    assert not [word for word in (str(uid), "order-8", "secret") if word in counts]


def test_a_waiting_job_is_not_listed(flower, deployment):
    running = deployment.submit(**LONG_JOB)
    deployment.row(running, "STARTED")
    waiting = deployment.submit()

    assert flower.get(f"/api/task/info/{waiting}").status_code == 404
    deployment.backlog.cancel(waiting, account=deployment.account)
    deployment.backlog.cancel(running, account=deployment.account)
    deployment.row(running, "REVOKED")
    assert flower.get(f"/api/task/info/{waiting}").status_code == 404


def test_a_failure_tells_the_jobs_error(flower, deployment):
    uid = deployment.submit(image="inputs/none/image")
    job = deployment.wait_for(uid, "failed")

    row = deployment.row(uid, "FAILURE")
    assert row["name"] == "native.image_to_image"
    assert row["exception"] == job.result.error["message"]


def test_a_job_that_fails_with_its_workers_is_told_as_failed(flower, deployment):
    uid = deployment.submit(**LONG_JOB)
    deployment.row(uid, "STARTED")
    deployment.redis.hset(job_key(uid), "lost", 2)
    os.kill(deployment.child(), signal.SIGKILL)  # whoever comes after it tells
    job = deployment.wait_for(uid, "failed")

    assert job.result.error["code"] == "worker_lost"
    assert deployment.row(uid, "FAILURE")["exception"] == job.result.error["message"]


def test_revoke_cancels_the_job_and_ends_no_process(flower, deployment):
    child = deployment.child()
    uid = deployment.submit(**LONG_JOB)
    deployment.wait_for_step(uid)
    deployment.row(uid, "STARTED")

    assert flower.post(f"/api/task/revoke/{uid}", terminate="true").ok

    deployment.wait_for(uid, "cancelled")
    deployment.row(uid, "REVOKED")
    flower.done()
    assert deployment.child() == child


def test_a_busy_worker_answers_for_its_page(flower, deployment):
    uid = deployment.submit(**LONG_JOB)
    deployment.wait_for_step(uid)

    def busy():
        workers = flower.get("/api/workers", refresh="true", workername=NODE).json()
        return [task["name"] for task in workers.get(NODE, {}).get("active", ())] == ["generate"]

    wait_until(busy, timeout_s=LONG_S, what="the busy worker's answer")
    page = flower.get(f"/worker/{NODE}")
    assert f"w.{NODE}" in page.text
    deployment.backlog.cancel(uid, account=deployment.account)
    deployment.wait_for(uid, "cancelled")


@pytest.mark.parametrize(
    ("path", "query"),
    [
        (f"/api/worker/pool/grow/{NODE}", {"n": 1}),
        (f"/api/worker/pool/shrink/{NODE}", {"n": 1}),
        (f"/api/worker/pool/autoscale/{NODE}", {"min": 2, "max": 3}),
        (f"/api/worker/pool/restart/{NODE}", {}),
        (f"/api/worker/queue/add-consumer/{NODE}", {"queue": "courier"}),
        (f"/api/worker/queue/cancel-consumer/{NODE}", {"queue": f"w.{NODE}"}),
        ("/api/task/rate-limit/generate", {"workername": NODE, "ratelimit": 1}),
        ("/api/task/timeout/generate", {"workername": NODE, "hard": 1}),
    ],
)
def test_buttons_that_would_do_harm_are_refused_with_a_reason(flower, deployment, path, query):
    child = deployment.child()
    answer = flower.post(path, **query)

    assert answer.status_code == 403, answer.text
    assert "Traceback" not in answer.text
    flower.done()
    assert deployment.child() == child


def test_wake_ups_by_hand_do_no_harm_and_are_not_listed(flower, deployment):
    before = set(flower.get("/api/tasks").json())
    for task, arguments in (("generate", []), ("deliver", ["no such entry"])):
        assert flower.post(f"/api/task/async-apply/{task}", json={"args": arguments}).ok
    uid = flower.done()
    deployment.row(uid, "SUCCESS")

    assert set(flower.get("/api/tasks").json()) == before | {str(uid)}


def test_history_outlives_a_restart(flower, deployment):
    uid = flower.done()
    row = deployment.row(uid, "SUCCESS")
    deployment.flower.stop()
    deployment.flower.start()

    again = deployment.row(uid, "SUCCESS")
    assert (again["kwargs"], again["runtime"]) == (row["kwargs"], row["runtime"])
    deployment.row(flower.done(), "SUCCESS")
    assert [path.name for path in Path(deployment.settings.data_dir).glob("flower*")]


def test_it_asks_for_its_password_and_lives_under_a_prefix(deployment):
    url = f"http://{HOST}:{(port := free_port())}"

    def answers():
        try:
            return requests.get(f"{url}/flower/healthcheck", timeout=5).ok
        except requests.ConnectionError:
            return False

    auth = {"FLOWER_BASIC_AUTH": "ops:a-password", "FLOWER_URL_PREFIX": "flower"}
    deployment.start_flower(port, ready=answers, **auth, FLOWER_UNAUTHENTICATED_API="false")

    for path in ("/flower/tasks", "/flower/api/tasks", "/flower/worker/worker@test"):
        assert requests.get(url + path, timeout=30).status_code in {401, 403}, path
        assert requests.get(url + path, auth=("ops", "wrong"), timeout=30).status_code in {401, 403}, path
    page = requests.get(f"{url}/flower/tasks", auth=("ops", "a-password"), timeout=30)
    assert page.status_code == 200
    assert 'href="/flower/' in page.text
