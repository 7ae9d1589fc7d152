"""ControlNets in every task against diffusers' own pipelines for them, alone and in a mixed batch.

The reference is written out below: diffusers, numpy and the files themselves, nothing of ours.
"""

import json
from dataclasses import dataclass
from functools import cache

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image

from shared.catalog import Catalog
from shared.settings import Settings
from shared.spec import ControlNet, JobSpec, Task
from tests.controlnets import random_controlnet
from tests.covering import covering
from worker.demo_model.bundle import build_random_bundle
from worker.engine import Engine
from worker.pipelines import Shot
from worker.pipelines.inpaint import repaint
from worker.pipelines.tasks import DRAW

#: diffusers' own ways with numpy 2, and with options it will drop one day.
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.algorithm_type:FutureWarning"),
]

SIZE, STEPS, GUIDANCE = 64, 6, 7.5
#: One level of 255.
TOLERANCE = 1
STRENGTH = {"image_to_image": 0.7, "inpaint": 0.8, "outpaint": 1.0}
#: What is asked of the ControlNets: (name, scale, start, end) of each, and guess_mode.
ASKED = {
    "one": ([("canny", 1.0, 0.0, 1.0)], False),
    "weakly, in a window": ([("tile", 0.6, 0.3, 0.8)], False),
    "two": ([("canny", 0.8, 0.0, 0.5), ("tile", 1.2, 0.25, 1.0)], False),
    "guessing": ([("canny", 1.0, 0.0, 1.0)], True),
}


def drawn(kind):
    """Return an image of plain shapes."""
    across, down = np.meshgrid(np.arange(SIZE), np.arange(SIZE))
    ramp = np.stack([across * 4, down * 4, (across + down) * 2], axis=2)
    disc = (across - 20 - 8 * kind) ** 2 + (down - 32) ** 2 < 15**2
    return Image.fromarray(np.where(disc[..., None], [200, 40, 90 * kind], ramp).astype("uint8"))


def mask(kind):
    white = np.zeros((SIZE, SIZE), "uint8")
    white[8:40, 16 : 48 + 8 * kind] = 255
    return Image.fromarray(white)


def hint(kind, net):
    """Return a hint of white lines on black, another for each ControlNet."""
    lines = np.zeros((SIZE, SIZE, 3), "uint8")
    lines[:: 8 + 3 * net + kind] = 255
    lines[:, :: 16 - kind] = 255
    return Image.fromarray(lines)


@dataclass(frozen=True)
class Wanted:
    prompt: str
    negative: str
    seed: int
    kind: int


MATES = (Wanted("a red circle", "blue", 7, 0), Wanted("a green square left of a tree", "", 4_294_967_295, 1))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    torch.set_num_threads(1)
    return build_random_bundle(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def nets(bundle, tmp_path_factory):
    """Return the folders of two ControlNets of random weights, by name."""
    folder = tmp_path_factory.mktemp("controlnets")
    return {name: random_controlnet(bundle, folder / name, seed=seed) for seed, name in enumerate(("canny", "tile"))}


@pytest.fixture(scope="module")
def model(bundle, nets, tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    entries = [f'[controlnets.{name}]\nsource = "{place}"\n' for name, place in nets.items()]
    (folder / "models.toml").write_text(f'[models.tiny]\nsource = "{bundle}"\n' + "".join(entries))
    settings = Settings(data_dir=folder, device="cpu", models_catalog=folder / "models.toml")
    return Engine(settings, Catalog.load(settings)).model("tiny")[0]


@pytest.fixture(scope="module")
def plain(bundle, nets):
    """Return a maker of diffusers' own pipelines, by task and the names of the ControlNets."""
    kinds = {
        "text_to_image": diffusers.StableDiffusionControlNetPipeline,
        "image_to_image": diffusers.StableDiffusionControlNetImg2ImgPipeline,
        "inpaint": diffusers.StableDiffusionControlNetInpaintPipeline,
        "outpaint": diffusers.StableDiffusionControlNetInpaintPipeline,
    }
    options = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    loaded = {name: diffusers.ControlNetModel.from_pretrained(place) for name, place in nets.items()}

    @cache
    def pipeline(task, *names):
        chosen = [loaded[name] for name in names]
        made = kinds[task].from_pretrained(
            bundle,
            controlnet=chosen[0] if len(chosen) == 1 else chosen,
            dtype=torch.float32,
            image_encoder=None,
            **options,
        )
        made.set_progress_bar_config(disable=True)
        return made

    return pipeline


def reference(plain, bundle, task, asked, wanted, scheduler):
    nets, guess_mode = ASKED[asked]
    names, scales, starts, ends = (list(column) for column in zip(*nets, strict=True))
    pipeline = plain(task, *names)
    own = json.loads((bundle / "scheduler" / "scheduler_config.json").read_text())
    pipeline.scheduler = getattr(diffusers, scheduler).from_config(own)
    hints = [hint(wanted.kind, net) for net in range(len(names))]
    if len(names) == 1:
        (hints,), (scales,), (starts,), (ends,) = hints, scales, starts, ends
    call = {"image": hints} if task == "text_to_image" else {"control_image": hints, "image": drawn(wanted.kind)}
    if task != "text_to_image":
        call |= {"strength": STRENGTH[task]}
    if task in {"inpaint", "outpaint"}:
        call |= {"mask_image": mask(wanted.kind)}
    picture = pipeline(
        wanted.prompt,
        negative_prompt=wanted.negative,
        width=SIZE,
        height=SIZE,
        num_inference_steps=STEPS,
        guidance_scale=GUIDANCE,
        controlnet_conditioning_scale=scales,
        control_guidance_start=starts,
        control_guidance_end=ends,
        guess_mode=guess_mode,
        generator=torch.Generator("cpu").manual_seed(wanted.seed),
        **call,
    ).images[0]
    return np.asarray(picture)


def spec_of(task, asked, scheduler="DDIMScheduler"):
    nets, guess_mode = ASKED[asked]
    found = JobSpec(
        prompt="-",
        width=SIZE,
        height=SIZE,
        num_inference_steps=STEPS,
        guidance_scale=GUIDANCE,
        scheduler=scheduler,
        controlnets=tuple(ControlNet(name, "inputs/c.png", scale, start, end) for name, scale, start, end in nets),
        guess_mode=guess_mode,
    )
    if task == "text_to_image":
        return found
    found = found.evolve(image="inputs/a.png", strength=STRENGTH[task])
    if task == "image_to_image":
        return found
    return found.evolve(mask_image="inputs/b.png", outpainting=task == "outpaint")


def ours(model, task, asked, *mates, scheduler="DDIMScheduler", **changes):
    """Return our pictures as the network gave them: `repaint` is inpainting before anything is pasted."""
    spec = spec_of(task, asked, scheduler).evolve(**changes)
    shots = [
        Shot(
            prompt=wanted.prompt,
            negative_prompt=wanted.negative,
            seed=wanted.seed,
            image=drawn(wanted.kind),
            mask=mask(wanted.kind),
            hints=tuple(
                np.asarray(hint(wanted.kind, net)).astype("float32") / 255
                for net, asked in enumerate(spec.controlnets)
                if asked.works
            ),
        )
        for wanted in mates
    ]
    draw = repaint if task in {"inpaint", "outpaint"} else DRAW[Task(task)]
    return [np.asarray(picture) for picture in draw(model, spec, shots, on_step=lambda: None)]


def distance(pictures, others):
    return np.abs(np.stack(pictures).astype(int) - np.stack(others).astype(int)).max()


@pytest.mark.parametrize(("asked", "task"), covering(ASKED, Task, always=[Task.TEXT_TO_IMAGE]))
def test_equals_a_plain_diffusers_call_alone_and_in_a_mixed_batch(model, plain, bundle, task, asked):
    expected = [reference(plain, bundle, task, asked, wanted, "DDIMScheduler") for wanted in MATES]
    assert distance([ours(model, task, asked, wanted)[0] for wanted in MATES], expected) <= TOLERANCE
    assert distance(ours(model, task, asked, *MATES), expected) <= TOLERANCE
    assert not np.array_equal(expected[0], expected[1])
    without = ours(model, task, asked, *MATES, controlnets=())
    assert distance(without, expected) > 10 * TOLERANCE


@pytest.mark.parametrize(
    ("scheduler", "task"),
    covering(
        ["HeunDiscreteScheduler", "PNDMScheduler", "EulerAncestralDiscreteScheduler"],
        ["text_to_image", "image_to_image", "inpaint"],
        always=["text_to_image"],
    ),
)
def test_windows_count_evaluations_as_diffusers_does(model, plain, bundle, task, scheduler):
    asked = "two"
    expected = [reference(plain, bundle, task, asked, wanted, scheduler) for wanted in MATES]
    assert distance(ours(model, task, asked, *MATES, scheduler=scheduler), expected) <= TOLERANCE


@pytest.mark.parametrize("task", list(Task))
def test_one_without_effect_changes_nothing_and_is_not_asked(model, task):
    without = ours(model, task, "one", MATES[0], controlnets=())
    still = [ControlNet("canny", "inputs/c.png", scale=0), ControlNet("nowhere", "inputs/c.png", start=0.5, end=0.5)]
    assert distance(ours(model, task, "one", MATES[0], controlnets=tuple(still)), without) == 0
    beside = (*still, ControlNet("canny", "inputs/c.png"))
    assert distance(ours(model, task, "one", MATES[0], controlnets=beside), without) > 10 * TOLERANCE
