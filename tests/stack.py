"""A whole running Darkroom for tests: `darkroom up` as its own processes, and a client that speaks HTTP to it."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import requests

from tests.services import HOST, free_port, wait_until

#: Generous: the machine may be busy with other tests.
READY_S = 600.0
JOB_S = 900.0
#: What would lead a stack under test to services that are not its own.
FOREIGN = ("REDIS_URL", "S3_ENDPOINT_URL", "S3_BUCKET", "DARKROOM_DATA_DIR", "DARKROOM_URL", "DARKROOM_KEY")


@dataclass
class Stack:
    """A running stack. `url` and `key` are its API's."""

    process: subprocess.Popen
    data_dir: Path
    url: str
    flower_url: str
    key: str = ""
    session: requests.Session = field(default_factory=requests.Session)

    def describe(self) -> dict:
        return json.loads((self.data_dir / "stack.json").read_text())

    def call(self, method: str, path: str, **options) -> requests.Response:
        headers = {"Authorization": f"Bearer {self.key}", **options.pop("headers", {})}
        return self.session.request(method, self.url + path, headers=headers, timeout=90, **options)

    def submit(self, prompt="a red circle on a blue background", **fields) -> int:
        answer = self.call("POST", "/v1/jobs", json={"prompt": prompt, **fields})
        assert answer.status_code == 202, answer.text
        return answer.json()["uid"]

    def job(self, uid: int, **params) -> dict:
        answer = self.call("GET", f"/v1/jobs/{uid}", params=params)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def finished(self, uid: int) -> dict:
        """Wait for a job's end."""
        deadline = time.monotonic() + JOB_S
        while time.monotonic() < deadline:
            job = self.job(uid, wait=20)
            if job["status"] not in ("queued", "running"):
                return job
        raise TimeoutError(f"job {uid} did not end within {JOB_S:g} s: {job}")

    def image(self, uid: int, index: int = 0) -> bytes:
        answer = self.call("GET", f"/v1/jobs/{uid}/images/{index}")
        assert answer.status_code == 200, answer.text
        return answer.content

    def pid(self, program: str) -> int:
        return self.describe()["processes"][program]

    def pool_child(self) -> psutil.Process:
        """The GPU worker's child, where jobs run."""
        (child,) = wait_until(lambda: psutil.Process(self.pid("worker")).children(), what="the worker's child")
        return child

    def descendants(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def logs(self) -> str:
        return "\n".join(f"--- {p.name}\n{p.read_text()[-4000:]}" for p in sorted((self.data_dir / "logs").iterdir()))

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(60)


def launch(data_dir: Path, **environment: str) -> Stack:
    """Start a stack and wait until it is ready; the caller stops it."""
    port, flower_port = free_port(), free_port()
    own = {name: value for name, value in os.environ.items() if name not in FOREIGN}
    log = (data_dir.parent / f"{data_dir.name}.log").open("ab")
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "shared.cli", "up", "--port", str(port), "--flower-port", str(flower_port)),
            *("--data-dir", str(data_dir)),
        ],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        env={**own, "OUTBOUND_ALLOW": "127.0.0.0/8", **environment},
    )
    log.close()
    stack = Stack(process, data_dir, f"http://{HOST}:{port}", f"http://{HOST}:{flower_port}")
    try:
        wait_until(lambda: _ready(stack), timeout_s=READY_S, what="a stack that is ready")
    except (TimeoutError, AssertionError):
        stack.stop()
        print(Path(log.name).read_text()[-8000:])
        raise
    stack.key = json.loads((data_dir / "credentials.json").read_text())["account"]["key"]
    return stack


@contextmanager
def running(data_dir: Path | None = None, **environment: str) -> Iterator[Stack]:
    """A stack that is stopped at the end."""
    with tempfile.TemporaryDirectory(prefix="darkroom-stack-") as folder:
        stack = launch(data_dir or Path(folder) / "data", **environment)
        try:
            yield stack
        except BaseException:
            print(stack.logs())
            raise
        finally:
            if stack.process.poll() is None:
                stack.stop()
            stack.session.close()


def _ready(stack: Stack) -> bool:
    assert stack.process.poll() is None, "the stack ended at once"
    try:
        described = stack.describe()
    except (FileNotFoundError, json.JSONDecodeError):
        return False
    # A killed stack leaves its own description behind until the next one writes another.
    return described["pid"] == stack.process.pid and described["ready"]
