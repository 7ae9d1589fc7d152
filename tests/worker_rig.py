"""A worker's parts on a real backlog, with stand-ins for model, storage and dashboard."""

import threading
from contextlib import nullcontext
from types import SimpleNamespace
from typing import ClassVar

import diffusers
import numpy as np
import torch

from shared.accounts import Accounts
from shared.backlog import Backlog
from shared.celery_app import SilentBell
from shared.errors import ModelLoadFailed, StorageUnavailable
from shared.job import Submission
from shared.settings import Settings
from shared.spec import JobSpec
from shared.storage import StoredObject
from worker.delivery import Delivery
from worker.heartbeat import Heartbeat
from worker.prompt import Embeddings
from worker.run import Runner
from worker.watchdogs import StallWatchdog

NODE = "worker@test"
POISON = "poison"


class StubPipeline:
    """Takes what diffusers' pipeline takes; the picture depends on the seed alone."""

    def __init__(self):
        self.calls = []
        self.on_step = lambda _step: None

    def __call__(self, *, prompt_embeds, generator, num_inference_steps, callback_on_step_end, width, height, **_):
        self.calls.append(len(generator))
        for step in range(num_inference_steps):
            self.on_step(step)
            callback_on_step_end(self, step, 0, {})
        if (prompt_embeds == -1).any():
            raise ValueError("/secret/path: this prompt is poison")
        return SimpleNamespace(
            images=np.stack([torch.rand(height, width, 3, generator=one).numpy() for one in generator])
        )


class StubModel:
    name = "demo"
    can_be_more_precise = False
    checker = None
    fingerprint: ClassVar = {"device": "stub", "model_hash": "stub"}
    #: Each ControlNet's name is the kind of its hints.
    controlnets = SimpleNamespace(hint_kind=str)

    def __init__(self):
        self.pipeline = StubPipeline()

    def embeddings(self, prompt, negative, **_):
        chunks = 1 + max(len(prompt), len(negative)) // 100
        embedding = torch.full((1, 77 * chunks, 4), -1.0 if prompt == POISON else 1.0)
        return Embeddings(embedding, embedding)

    def check_prompt(self, submission):
        pass

    def scheduler(self, spec, _seeds=()):
        return getattr(diffusers, spec.scheduler or "DDIMScheduler")()


class StubEngine:
    loaded_model = "demo"

    def __init__(self, *, one_by_one=True):
        self.device = SimpleNamespace(one_by_one=one_by_one)
        self.stub = StubModel()

    def dressed(self, _model, _spec):
        return nullcontext(0.0)

    def model(self, name):
        if name != "demo":
            raise ModelLoadFailed(f"the model {name!r} could not be loaded")
        return self.stub, 0.0


class MemoryStorage:
    def __init__(self):
        self.objects = {}
        self.failures = 0
        self.well = True

    def check(self):
        if not self.well:
            raise StorageUnavailable

    def put(self, key, data, *, content_type):
        if self.failures:
            self.failures -= 1
            raise StorageUnavailable
        self.objects[key] = StoredObject(data, content_type)

    def delete_prefix(self, prefix):
        gone = [key for key in self.objects if key.startswith(f"{prefix}/")]
        for key in gone:
            del self.objects[key]
        return len(gone)

    def get(self, key):
        if self.failures:
            self.failures -= 1
            raise StorageUnavailable
        return self.objects[key]


class Recorder:
    """Stands in for the dashboard."""

    def __init__(self):
        self.told = []

    def started(self, lease):
        self.told.append((lease.uid, "started"))

    def ended(self, uid, status, **_):
        self.told.append((uid, str(status)))


class Rig:
    """A worker's parts on a real backlog."""

    def __init__(self, redis, *, one_by_one=True, engine=None, storage=None, **delivery):
        self.redis = redis
        self.backlog = Backlog(redis, SilentBell())
        self.account = Accounts(redis).create_key("tests").account
        self.engine = engine or StubEngine(one_by_one=one_by_one)
        self.pipeline = self.engine.model("demo")[0].pipeline
        self.storage = storage or MemoryStorage()
        self.events = Recorder()
        self.stopping = threading.Event()
        self.woken = []
        self.hello("first")
        self.heartbeat = Heartbeat(self.backlog, NODE, introduce=lambda: None)
        self.delivery = Delivery(
            NODE,
            backlog=self.backlog,
            storage=self.storage,
            heartbeat=self.heartbeat,
            events=self.events,
            stopping=self.stopping,
            **delivery,
        )
        self.runner = Runner(
            node=NODE,
            settings=Settings(),
            backlog=self.backlog,
            engine=self.engine,
            storage=self.storage,
            heartbeat=self.heartbeat,
            delivery=self.delivery,
            events=self.events,
            stall=StallWatchdog(1000),
            stopping=self.stopping,
            wake=lambda: self.woken.append(NODE),
        )

    def hello(self, incarnation):
        self.backlog.hello(NODE, incarnation, pool="default", models=["demo", "missing"])

    def submit(self, prompt="a red circle", **spec):
        defaults = {"model": "demo", "width": 64, "height": 64, "num_inference_steps": 3, "seed": 1}
        submission = Submission(spec=JobSpec(prompt=prompt, **{**defaults, **spec}))
        return self.backlog.submit(submission, account=self.account, pool="default").uid

    def read(self, uid):
        return self.backlog.read(uid, account=self.account)

    def statuses(self, *uids):
        return [str(self.read(uid).status) for uid in uids]

    def cancel(self, uid):
        self.backlog.cancel(uid, account=self.account)
        self.heartbeat._renewed_at = 0
        self.heartbeat.beat()

    def claim(self, jobs=8):
        return self.backlog.claim(NODE, max_jobs=jobs, max_images=16).leases
