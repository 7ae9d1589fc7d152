"""The worker as it is deployed: Celery's processes and Flower on a real Valkey, watched through Flower's HTTP API."""

import json
import os
import signal
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
import requests

from shared.accounts import Accounts
from shared.backlog import Backlog
from shared.celery_app import CeleryBell, make_celery, node_queue
from shared.job import Submission
from shared.settings import Settings
from shared.spec import JobSpec
from tests import services
from tests.services import Service, wait_until

ROOT = Path(__file__).parents[2]
NODE = "worker@test"
#: Time for a model to load on a machine under load.
LONG_S = 300.0


class Deployment:
    """A GPU worker, a courier and Flower, each a process of its own."""

    def __init__(self, server, folder, stack):
        self.server = server
        self.folder = folder
        self._stack = stack
        environment = {"REDIS_URL": server.url, "DARKROOM_DATA_DIR": str(folder / "data"), "DEVICE": "cpu"}
        self.settings = Settings.from_env(environment)
        self.redis = server.client()
        self.account = Accounts(self.redis).create_key("tests").account
        self.backlog = Backlog(self.redis, CeleryBell(make_celery(self.settings)))
        self._environment = {
            **environment,
            "FLOWER_UNAUTHENTICATED_API": "true",
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(ROOT),
        }
        options = ("--without-gossip", "--without-mingle")
        self.worker = self._start(
            "worker.app", "worker", "--pool=prefork", "--concurrency=1", f"--hostname={NODE}", *options
        )
        self.courier = self._start(
            "worker.courier_app", "worker", "--pool=threads", "--concurrency=2", "--hostname=courier@test", *options
        )
        port = services.free_port()
        self.flower_url = f"http://{services.HOST}:{port}"
        self._start(
            "worker.courier_app", "flower", f"--port={port}", f"--address={services.HOST}", ready=self._flower_answers
        )

    def _start(self, module, *args, ready=lambda: True):
        log = self.folder / f"{module}-{args[0]}.log"
        command = [sys.executable, "-m", "celery", "-A", module, *args]
        service = Service(command, ready=ready, log=log, env=self._environment)
        self._stack.callback(service.stop)
        service.start()
        return service

    def _flower_answers(self):
        try:
            return requests.get(f"{self.flower_url}/api/tasks", timeout=5).ok
        except requests.ConnectionError:
            return False

    def submit(self, **spec):
        defaults = {"model": "demo", "width": 64, "height": 64, "num_inference_steps": 2, "seed": 1}
        submission = Submission(spec=JobSpec(prompt="a secret prompt", **{**defaults, **spec}), track_id="order-7")
        return self.backlog.submit(submission, account=self.account, pool="default").uid

    def read(self, uid):
        return self.backlog.read(uid, account=self.account)

    def wait_for(self, uid, status):
        def ended():
            job = self.read(uid)
            return job if job.status == status else None

        return wait_until(ended, timeout_s=LONG_S, what=f"job {uid} {status}")

    def wait_for_step(self, uid):
        wait_until(lambda: self.read(uid).step > 0, timeout_s=LONG_S, what="a step")

    def row(self, uid, state):
        def seen():
            answer = requests.get(f"{self.flower_url}/api/task/info/{uid}", timeout=30)
            return answer.json() if answer.ok and answer.json()["state"] == state else None

        return wait_until(seen, timeout_s=LONG_S, what=f"{state} in Flower")

    def child(self):
        children = Path(f"/proc/{self.worker.process.pid}/task/{self.worker.process.pid}/children").read_text()
        return int(children.split()[0])


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
