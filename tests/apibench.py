"""The API on a test's own Redis and folder, with short words for what tests do."""

import io
from unittest import mock

from flask import Flask
from PIL import Image
from werkzeug.routing import Map

from api import create_app
from api.services import Services
from shared.accounts import Accounts
from shared.celery_app import SilentBell
from shared.job import Artifact, Result, Status
from shared.settings import Settings

NODE = "worker@bench"


def png(colour="red", size=(64, 64)) -> bytes:
    """Return a small picture."""
    out = io.BytesIO()
    Image.new("RGB", size, colour).save(out, "PNG")
    return out.getvalue()


class _Routes(Map):
    """The routes of every app of a test process: compiling them is most of what it takes to make one."""

    def __init__(self) -> None:
        super().__init__()
        self._known = set()

    def add(self, rulefactory) -> None:
        """Add a rule, unless an app before had it."""
        known = (rulefactory.rule, rulefactory.endpoint, frozenset(rulefactory.methods))
        if known not in self._known:
            self._known.add(known)
            super().add(rulefactory)


_ROUTES = _Routes()


class ApiBench:
    """An app, its client with a key, and a worker that does as told."""

    def __init__(self, redis, data_dir, **settings) -> None:
        self.redis = redis
        self.settings = Settings(redis_url="redis://unused", data_dir=data_dir, **settings)
        self.parts = Services(self.settings, redis=redis, bell=SilentBell())
        with mock.patch.object(Flask, "url_map_class", staticmethod(lambda **_options: _ROUTES)):
            self.app = create_app(self.settings, parts=self.parts)
        self.client = self.app.test_client()
        self.backlog = self.parts.backlog
        self.credentials = Accounts(redis).create_key("alice")
        self.headers = {"Authorization": f"Bearer {self.credentials.key}"}

    def key_of(self, name: str) -> dict[str, str]:
        """Return the headers of another account."""
        return {"Authorization": f"Bearer {Accounts(self.redis).create_key(name).key}"}

    def get(self, path: str, **headers):
        return self.client.get(path, headers={**self.headers, **headers})

    def post(self, path: str, json=None, **headers):
        return self.client.post(path, json=json, headers={**self.headers, **headers})

    def delete(self, path: str, **headers):
        return self.client.delete(path, headers={**self.headers, **headers})

    def submit(self, **fields) -> int:
        """Submit a job and return its uid."""
        answer = self.post("/v1/jobs", {"prompt": "a red circle", **fields})
        assert answer.status_code == 202, answer.text
        return answer.json["uid"]

    def job_count(self) -> int:
        return len(list(self.redis.scan_iter("{dr}:j:*")))

    def begin(self):
        """Let a worker claim one job and return its lease."""
        self.backlog.hello(NODE, "1", pool="default", models=["demo"])
        (lease,) = self.backlog.claim(NODE, max_jobs=1, max_images=16).leases
        return lease

    def finish(self, lease, status=Status.SUCCEEDED, error=None) -> None:
        """End a claimed job; one that succeeds leaves its images in the storage."""
        artifacts = ()
        if status is Status.SUCCEEDED:
            artifacts = tuple(self._store(lease, i, s) for i, s in enumerate(lease.submission.spec.image_seeds()))
        result = Result(
            artifacts=artifacts,
            parameters={"prompt": lease.submission.spec.prompt},
            timings={"generate": 0.5},
            error=error,
        )
        assert self.backlog.finish(NODE, lease, status, result)

    def draw(self, status=Status.SUCCEEDED, error=None) -> None:
        """Let a worker do the next job."""
        self.finish(self.begin(), status, error)

    def _store(self, lease, index: int, seed: int) -> Artifact:
        data = png()
        key = f"results/{lease.handle}/{lease.fence}/{index}.png"
        self.parts.storage.put(key, data, content_type="image/png")
        return Artifact(key=key, seed=seed, width=64, height=64, content_type="image/png", bytes=len(data))
