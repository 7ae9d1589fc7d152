"""The API as it is deployed, gunicorn in processes of its own, and a worker that does as told."""

import json
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests

from shared.accounts import Accounts
from shared.backlog import Backlog
from shared.celery_app import SilentBell
from shared.job import Result, Status
from tests.services import Service, free_port

ROOT = Path(__file__).parents[1]
NODE = "worker@live"


class LiveApi:
    """gunicorn in its own process group, a key, and a worker that does as told."""

    def __init__(self, server, folder, **environment) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.service = Service(
            [sys.executable, "-m", "gunicorn", "--config", "deploy/gunicorn.conf.py", "api.wsgi:app"],
            ready=self._answers,
            log=folder / "gunicorn.log",
            env={
                "PYTHONPATH": str(ROOT),
                "REDIS_URL": server.url,
                "PORT": str(self.port),
                "DARKROOM_DATA_DIR": str(folder),
                "PYTHONWARNINGS": "default",
                **environment,
            },
        )
        self.redis = server.client()
        self.backlog = Backlog(self.redis, SilentBell())
        self.headers: dict[str, str] = {}

    def start(self) -> None:
        self.service.start()

    def make_key(self) -> None:
        self.headers = {"Authorization": f"Bearer {Accounts(self.redis).create_key('alice').key}"}

    def get(self, path, timeout=30, **options):
        headers = {**self.headers, **options.pop("headers", {})}
        return requests.get(self.url + path, headers=headers, timeout=timeout, **options)

    def submit(self, **fields) -> int:
        answer = requests.post(
            f"{self.url}/v1/jobs", json={"prompt": "a red circle", **fields}, headers=self.headers, timeout=30
        )
        assert answer.status_code == 202, answer.text
        return answer.json()["uid"]

    def begin(self):
        self.backlog.hello(NODE, "1", pool="default", models=["demo"])
        (lease,) = self.backlog.claim(NODE, max_jobs=1, max_images=16).leases
        return lease

    def finish(self, lease, status=Status.SUCCEEDED) -> None:
        assert self.backlog.finish(NODE, lease, status, Result())

    @contextmanager
    def follow(self, uid, last_event_id=None) -> Iterator["Events"]:
        headers = {"Last-Event-ID": last_event_id} if last_event_id else {}
        with self.get(f"/v1/jobs/{uid}/events", stream=True, headers=headers) as answer:
            yield Events(answer)

    def _answers(self) -> bool:
        try:
            return requests.get(f"{self.url}/healthz", timeout=1).ok
        except requests.RequestException:
            return False


class Events:
    """Server-Sent Events as they come."""

    def __init__(self, answer) -> None:
        self.answer = answer
        self._lines = answer.iter_lines(chunk_size=1, decode_unicode=True)

    def __iter__(self):
        event = {}
        for line in self._lines:
            name, _, value = line.partition(": ")
            if name in ("id", "event", "data"):
                event[name] = json.loads(value) if name == "data" else value
            elif not line and "event" in event:
                yield event
                event = {}

    def names(self):
        return [event["event"] for event in self]


@contextmanager
def running(server, folder, *, key=True, **environment):
    """The API on a server, stopped at the end; its log must be clean."""
    api = LiveApi(server, folder, **environment)
    try:
        api.start()
        if key:
            api.make_key()
        yield api
    finally:
        api.service.stop()
        api.redis.close()
    log = (folder / "gunicorn.log").read_text()
    assert "Traceback" not in log, log
    assert "GET /" not in log, log


def follow_to_end(api, uid):
    """Return the names of a job's events until its stream ends."""
    with api.follow(uid) as events:
        return events.names()


def in_background(call):
    """Run a call in a thread; the returned function waits for its result and the seconds it took."""
    result = []

    def run():
        began = time.monotonic()
        result.append((call(), time.monotonic() - began))

    thread = threading.Thread(target=run)
    thread.start()

    def wait():
        thread.join(60)
        return result[0]

    return wait
