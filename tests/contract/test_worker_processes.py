"""The worker as it is deployed: Celery's processes and Flower on a real Valkey."""

import json
import os
import signal
from contextlib import ExitStack
from pathlib import Path

import pytest

from shared.celery_app import node_queue
from tests import services
from tests.deployment import LONG_S, NODE, Deployment
from tests.services import wait_until


@pytest.fixture(scope="module")
def deployment(tmp_path_factory):
    with ExitStack() as stack:
        server = stack.enter_context(services.valkey(aof=True))
        yield Deployment(server, tmp_path_factory.mktemp("deployment"), stack, LOG_FORMAT="json")


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


def lines_of(path):
    """Return a log's lines, but for what Celery says on the spot when it is told to stop."""
    lines = path.read_text().splitlines()
    return [json.loads(line) for line in lines if line not in {"", "worker: Warm shutdown (MainProcess)"}]


def test_every_line_of_their_logs_is_json_and_jobs_lines_are_theirs(deployment):
    logs = {path.stem: lines_of(path) for path in deployment.folder.glob("*.log")}

    assert set(logs) == {"worker.app-worker", "worker.courier_app-worker", "worker.courier_app-flower"}
    for lines in logs.values():
        assert lines
        assert all({"event", "level", "logger", "timestamp"} <= line.keys() for line in lines)
    ended = [line for line in logs["worker.app-worker"] if line["event"] == "job.ended"]
    assert ended
    assert {line["account"] for line in ended} == {deployment.account}
    assert all(deployment.read(line["uid"]).status.is_terminal for line in ended)
    text = json.dumps(logs)
    assert "a secret prompt" not in text
    assert "order-7" not in text
