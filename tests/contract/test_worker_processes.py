"""The worker as it is deployed: Celery's processes and Flower on a real Valkey, watched through Flower's HTTP API."""

import json
import os
import signal
from contextlib import ExitStack
from pathlib import Path

import pytest
import requests

from shared.celery_app import node_queue
from tests import services
from tests.deployment import LONG_S, NODE, Deployment
from tests.services import wait_until


@pytest.fixture(scope="module")
def deployment(tmp_path_factory):
    with ExitStack() as stack:
        server = stack.enter_context(services.valkey(aof=True))
        yield Deployment(server, tmp_path_factory.mktemp("deployment"), stack)


def test_flower_shows_jobs_and_nothing_else(deployment):
    uid = deployment.submit()
    job = deployment.wait_for(uid, "succeeded")
    row = deployment.row(uid, "SUCCESS")
    assert row["name"] == "native.text_to_image"
    assert row["worker"] == NODE
    assert row["runtime"] == pytest.approx(sum(job.result.timings.values()), abs=0.01)
    assert "order-7" in row["kwargs"]
    assert deployment.account in row["kwargs"]
    assert row["received"] <= row["started"] <= row["succeeded"]
    rows = requests.get(f"{deployment.flower_url}/api/tasks", timeout=30).json()
    assert set(rows) == {str(uid)}
    assert "secret" not in json.dumps(rows)


def test_flowers_revoke_button_cancels_the_job(deployment):
    uid = deployment.submit(num_inference_steps=200, width=512, height=512)
    deployment.wait_for_step(uid)
    deployment.row(uid, "STARTED")
    answer = requests.post(f"{deployment.flower_url}/api/task/revoke/{uid}", params={"terminate": True}, timeout=30)
    assert answer.ok
    deployment.wait_for(uid, "cancelled")
    deployment.row(uid, "REVOKED")
    assert deployment.wait_for(deployment.submit(), "succeeded")


def test_a_killed_child_is_replaced_and_its_job_runs_again(deployment):
    uid = deployment.submit(num_inference_steps=100, width=128, height=128)
    deployment.wait_for_step(uid)
    os.kill(deployment.child(), signal.SIGKILL)
    job = deployment.wait_for(uid, "succeeded")
    assert job.attempts == 2
    assert len(job.result.artifacts) == 1
    assert deployment.row(uid, "SUCCESS")["retried"]


def test_work_goes_on_after_valkey_was_away(deployment):
    running = deployment.submit(num_inference_steps=60, width=128, height=128)
    deployment.wait_for_step(running)
    deployment.server.restart()
    wait_until(deployment.redis.ping, what="Valkey")
    waiting = deployment.submit()
    for uid in (running, waiting):
        deployment.wait_for(uid, "succeeded")


def test_shutdown_is_clean(deployment):
    uid = deployment.submit()
    deployment.wait_for(uid, "succeeded")
    child = deployment.child()
    worker = deployment.worker.process
    worker.terminate()
    assert worker.wait(LONG_S) == 0
    assert not Path(f"/proc/{child}").exists()
    assert not deployment.redis.exists(node_queue(NODE))
    assert set(deployment.backlog.pools()) <= {"ingest"}
    assert "Traceback" not in deployment.worker.log.read_text().rpartition("Warm shutdown")[2]
    deployment.courier.process.terminate()
    assert deployment.courier.process.wait(LONG_S) == 0
    assert deployment.backlog.pools() == {}
