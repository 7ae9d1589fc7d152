"""The worker as it is deployed: Celery's processes and Flower, on a Redis that the test brings."""

import sys
from pathlib import Path

import requests

from shared.accounts import Accounts
from shared.backlog import Backlog
from shared.celery_app import CeleryBell, make_celery
from shared.job import Submission
from shared.redis_client import connect
from shared.settings import Settings
from shared.spec import JobSpec
from tests import services
from tests.services import Service, wait_until

ROOT = Path(__file__).parents[1]
NODE = "worker@test"
#: Time for a model to load on a machine under load.
LONG_S = 300.0


class Deployment:
    """A GPU worker, a courier and Flower, each a process of its own."""

    def __init__(self, server, folder, stack, *, flower=True, **more):
        self.server = server
        self.folder = folder
        self._stack = stack
        environment = {"REDIS_URL": server.url, "DARKROOM_DATA_DIR": str(folder / "data"), "DEVICE": "cpu", **more}
        self.settings = Settings.from_env(environment)
        self.redis = connect(self.settings)
        self.account = Accounts(self.redis).create_key("tests").account
        Path(self.settings.data_dir).mkdir(parents=True, exist_ok=True)
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
        if flower:
            self._start_flower()

    def _start_flower(self):
        port = services.free_port()
        self.flower_url = f"http://{services.HOST}:{port}"
        self.flower = self.start_flower(port, ready=self._flower_answers)

    def start_flower(self, port, *, ready, **environment):
        """Start one more Flower, or the first."""
        options = ("--conf=deploy/flower.conf.py", f"--port={port}", f"--address={services.HOST}")
        return self._start("worker.courier_app", "flower", *options, ready=ready, **environment)

    def _start(self, module, *args, ready=lambda: True, **environment):
        log = self.folder / f"{module}-{args[0]}.log"
        command = [sys.executable, "-m", "celery", "--quiet", "-A", module, *args]
        service = Service(command, ready=ready, log=log, env={**self._environment, **environment})
        self._stack.callback(service.stop)
        service.start()
        return service

    def _flower_answers(self):
        try:
            return requests.get(f"{self.flower_url}/api/tasks", timeout=5).ok
        except requests.ConnectionError:
            return False

    def submit(self, *, dialect="native", track_id="order-7", **spec):
        defaults = {"model": "demo", "width": 64, "height": 64, "num_inference_steps": 2, "seed": 1}
        submission = Submission(
            spec=JobSpec(prompt="a secret prompt", **{**defaults, **spec}), dialect=dialect, track_id=track_id
        )
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
