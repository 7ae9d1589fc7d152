"""What draws, replaced by what draws plain pictures: no torch, and a process is there within a second.

A picture's colour tells its seed.
"""

import os
import signal
import sys
import time
from contextlib import nullcontext
from types import ModuleType, SimpleNamespace

from PIL import Image

from tests.chaos.wishes import POISON

#: What a step takes, whatever the batch, as on a GPU that is not full.
STEP_S = float(os.environ.get("STUB_STEP_S", "0.01"))


def colour_of(seed: int) -> tuple[int, int, int]:
    """Return the colour of the picture that a seed draws."""
    return (seed >> 16) % 256, (seed >> 8) % 256, seed % 256


def draw(_model, spec, shots, *, on_step):
    """Return one plain picture per shot, after as many steps as were asked for."""
    for _ in range(spec.num_inference_steps):
        time.sleep(STEP_S)
        on_step()
    if any(shot.prompt.startswith(POISON) for shot in shots):
        os.kill(os.getpid(), signal.SIGKILL)
    return [Image.new("RGB", (spec.width, spec.height), colour_of(shot.seed)) for shot in shots]


class Model:
    """Stands in for a loaded checkpoint."""

    checker = None
    controlnets = SimpleNamespace(hint_kind=str)

    def __init__(self, name):
        self.name = name
        self.fingerprint = {"device": "stub", "model_hash": "stub"}

    def check_prompt(self, _submission):
        """Every prompt will do."""

    def scheduler(self, spec, _seeds=()):
        """Return the scheduler's name; nothing else of it is asked for."""
        return spec.scheduler or "DDIMScheduler"


class Engine:
    """Stands in for the engine; any model is there at once."""

    def __init__(self, _settings, _catalog):
        self.device = SimpleNamespace(one_by_one=False)
        self.loaded_model = ""

    def model(self, name):
        """Return a model, loaded in no time."""
        self.loaded_model = name
        return Model(name), 0.0

    def dressed(self, _model, _spec):
        """Wear nothing."""
        return nullcontext(0.0)


class _Tasks(dict):
    def __missing__(self, _task):
        return draw


REPLACED = {
    "worker.engine": {"Engine": Engine},
    "worker.schedulers": {
        "effective": lambda scheduler: {"scheduler": scheduler},
        "evaluations_of": lambda spec, _scheduler: spec.num_inference_steps,
    },
    "worker.pipelines.calls": {"token_length": lambda _model, _shot: 77},
    "worker.pipelines.tasks": {"DRAW": _Tasks()},
    "worker.preview": {"decode": lambda _model, _latents: Image.new("RGB", (64, 64))},
    "worker.safety": {
        "checked": lambda _model, _spec: "unchecked",
        "screened": lambda _model, _spec, image: SimpleNamespace(image=image, flagged=False),
    },
    "worker.token_merging": {"token_merging": lambda _model, _spec: nullcontext()},
}


def install():
    """Put the stand-ins in the places of the worker's own modules; to be called before those are imported."""
    for name, members in REPLACED.items():
        if name in sys.modules:
            raise RuntimeError(f"{name} is imported already")
        sys.modules[name] = module = ModuleType(name)
        module.__dict__.update(members)
