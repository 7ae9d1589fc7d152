"""Every task and scheduler against diffusers itself, alone and in a mixed batch; all pairs of them in the slow tests.

The reference is written out below: diffusers, numpy and the model's own files, nothing of ours. How many values differ
at all is printed at the end (`pytest -s`).
"""

import json
from collections import Counter
from dataclasses import dataclass

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image

from shared.catalog import Catalog
from shared.schedulers import SCHEDULERS
from shared.settings import Settings
from shared.spec import JobSpec, Task
from tests.covering import covering
from worker.demo_model.bundle import build_random_bundle
from worker.engine import Engine
from worker.pipelines import Shot
from worker.pipelines.inpaint import repaint
from worker.pipelines.tasks import DRAW
from worker.samplers import SAMPLERS

#: diffusers' own ways with numpy 2, and with options it will drop one day.
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.algorithm_type:FutureWarning"),
    pytest.mark.filterwarnings("ignore:Should have t:UserWarning"),
]

SIZE, STEPS, GUIDANCE = 64, 4, 7.5
#: One level of 255.
TOLERANCE = 1
#: What the reference asks of diffusers beyond the model's own scheduler_config.json.
OPTIONS = {
    "PNDMScheduler": {"skip_prk_steps": True},
    "DPMSolverMultistepScheduler": {"solver_order": 2},
    "DPMSolverSinglestepScheduler": {"algorithm_type": "dpmsolver++", "solver_order": 2},
    "UniPCMultistepScheduler": {"solver_type": "bh2"},
    "LCMScheduler": {"original_inference_steps": 50},
}
#: Those of the contract's names that are diffusers' own classes.
NAMES = [name for name in SCHEDULERS if name not in SAMPLERS]
STRENGTH = {"image_to_image": 0.6, "inpaint": 0.8, "outpaint": 1.0}


def drawn(kind):
    """Return an image of plain shapes."""
    across, down = np.meshgrid(np.arange(SIZE), np.arange(SIZE))
    ramp = np.stack([across * 4, down * 4, (across + down) * 2], axis=2)
    disc = (across - 20 - 8 * kind) ** 2 + (down - 32) ** 2 < 15**2
    return Image.fromarray(np.where(disc[..., None], [200, 40, 90 * kind], ramp).astype("uint8"))


def mask(kind):
    white = np.zeros((SIZE, SIZE), "uint8")
    if kind:
        white[8:40, 16:48] = 255
    else:
        white[:, SIZE // 2 :] = 255
    return Image.fromarray(white)


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
def model(bundle, tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    (folder / "models.toml").write_text(f'[models.tiny]\nsource = "{bundle}"\n')
    settings = Settings(data_dir=folder, device="cpu", models_catalog=folder / "models.toml")
    return Engine(settings, Catalog.load(settings)).model("tiny")[0]


@pytest.fixture(scope="module")
def plain(bundle):
    """Return diffusers' own pipelines, by task, each loaded by itself."""
    kinds = {
        "text_to_image": diffusers.StableDiffusionPipeline,
        "image_to_image": diffusers.StableDiffusionImg2ImgPipeline,
        "inpaint": diffusers.StableDiffusionInpaintPipeline,
    }
    options = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    found = {
        task: kind.from_pretrained(bundle, dtype=torch.float32, image_encoder=None, **options)
        for task, kind in kinds.items()
    }
    for pipeline in found.values():
        pipeline.set_progress_bar_config(disable=True)
    return {**found, "outpaint": found["inpaint"]}


@pytest.fixture(scope="module")
def tally():
    values, differ = Counter(), Counter()
    yield values, differ
    for task, how in sorted(values):
        seen, other = values[task, how], differ[task, how]
        print(f"\n{task}, {how}: {other} of {seen:,} values differ ({other / seen:.1e})", end="")


def filled(image, seed):
    """Return the left half kept, the right half filled from its edge and with noise: what outpainting starts from."""
    pixels = np.asarray(image).astype(float)
    distance = np.clip(np.arange(SIZE) - SIZE // 2 + 1, 0, None)
    edge = np.repeat(pixels[:, SIZE // 2 - 1 : SIZE // 2], SIZE, axis=1)
    extended = np.where(distance[None, :, None] > 0, edge, pixels)
    ramp = np.clip(distance / 16, 0, 1)
    depth = (ramp * ramp * (3 - 2 * ramp))[None, :, None]
    noise = np.random.default_rng(seed).normal(scale=24, size=pixels.shape)
    return Image.fromarray(np.clip((extended + depth * noise).round(), 0, 255).astype("uint8"))


def reference(plain, bundle, task, name, wanted):
    own = json.loads((bundle / "scheduler" / "scheduler_config.json").read_text())
    options = OPTIONS.get(name, {})
    if name == "DPMSolverSDEScheduler":
        options = {"noise_sampler_seed": [wanted.seed]}
    pipeline = plain[task]
    pipeline.scheduler = getattr(diffusers, name).from_config(own, **options)
    call = {"width": SIZE, "height": SIZE} if task != "image_to_image" else {}
    if task != "text_to_image":
        call |= {"image": drawn(wanted.kind), "strength": STRENGTH[task]}
    if task == "inpaint":
        call |= {"mask_image": mask(wanted.kind)}
    if task == "outpaint":
        call |= {"mask_image": mask(0), "image": filled(drawn(wanted.kind), wanted.seed)}
    picture = pipeline(
        wanted.prompt,
        negative_prompt=wanted.negative,
        num_inference_steps=STEPS,
        guidance_scale=GUIDANCE,
        generator=torch.Generator("cpu").manual_seed(wanted.seed),
        **call,
    ).images[0]
    return np.asarray(picture)


def spec_of(task, name):
    found = JobSpec(
        prompt="-", width=SIZE, height=SIZE, num_inference_steps=STEPS, guidance_scale=GUIDANCE, scheduler=name
    )
    if task == "text_to_image":
        return found
    found = found.evolve(image="inputs/a.png", strength=STRENGTH[task])
    if task == "image_to_image":
        return found
    return found.evolve(mask_image="inputs/b.png", outpainting=task == "outpaint")


def shots_of(task, *mates):
    def shot(wanted):
        image = drawn(wanted.kind)
        if task == "outpaint":
            image = filled(image, wanted.seed)
        white = mask(0 if task == "outpaint" else wanted.kind)
        return Shot(prompt=wanted.prompt, negative_prompt=wanted.negative, seed=wanted.seed, image=image, mask=white)

    return [shot(wanted) for wanted in mates]


def ours(model, task, name, *mates):
    """Return our pictures as the network gave them: `repaint` is inpainting before anything is pasted."""
    draw = repaint if task in {"inpaint", "outpaint"} else DRAW[Task(task)]
    return [np.asarray(p) for p in draw(model, spec_of(task, name), shots_of(task, *mates), on_step=lambda: None)]


@pytest.mark.parametrize(("name", "task"), covering(NAMES, Task, always=[Task.TEXT_TO_IMAGE]))
def test_equals_a_plain_diffusers_call_alone_and_in_a_mixed_batch(model, plain, bundle, tally, task, name):
    expected = [reference(plain, bundle, task, name, wanted) for wanted in MATES]
    alone = [ours(model, task, name, wanted)[0] for wanted in MATES]
    together = ours(model, task, name, *MATES)
    values, differ = tally
    for how, pictures in (("alone", alone), ("in a batch", together)):
        difference = np.abs(np.stack(pictures).astype(int) - np.stack(expected).astype(int))
        values[task, how] += difference.size
        differ[task, how] += np.count_nonzero(difference)
        assert difference.max() <= TOLERANCE
    assert not np.array_equal(expected[0], expected[1])


@pytest.mark.parametrize("wanted", MATES)
def test_inpainting_pastes_under_the_mask_and_nowhere_else(model, plain, bundle, wanted):
    name = "DDIMScheduler"
    (picture,) = DRAW[Task.INPAINT](model, spec_of("inpaint", name), shots_of("inpaint", wanted), on_step=lambda: None)
    theirs = reference(plain, bundle, "inpaint", name, wanted)
    white = np.asarray(mask(wanted.kind))[..., None] == 255
    expected = np.where(white, theirs, np.asarray(drawn(wanted.kind)))
    assert np.abs(np.asarray(picture).astype(int) - expected.astype(int)).max() <= TOLERANCE


def test_outpainting_starts_from_the_filled_picture(model):
    spec = spec_of("outpaint", "DDIMScheduler").evolve(strength=0)
    wanted = MATES[0]
    shot = Shot(prompt="", negative_prompt="", seed=wanted.seed, image=drawn(0), mask=mask(0))
    (prepared,) = DRAW[Task.OUTPAINT](model, spec, [shot], on_step=lambda: None)
    assert np.array_equal(np.asarray(prepared), np.asarray(filled(drawn(0), wanted.seed)))
