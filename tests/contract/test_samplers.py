"""Our schedulers in diffusers' own pipelines, on the stand-in model: they run, batch, and differ from all others."""

import math

import diffusers
import numpy as np
import pytest
import torch
from diffusers import StableDiffusionImg2ImgPipeline, StableDiffusionInpaintPipeline, StableDiffusionPipeline
from PIL import Image

from worker.demo_model.bundle import build_random_bundle
from worker.samplers import SAMPLERS
from worker.samplers.ddim_inversion import unet_prediction
from worker.samplers.dpm_solver_sde import dpm_solver_sde

pytestmark = [
    # diffusers 0.42.1 makes NumPy arrays of tensors in a way that NumPy 2 frowns upon.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:__array_wrap__ must accept:DeprecationWarning"),
    # torchsde rounds the ends of its interval to six places and speaks of the seventh.
    pytest.mark.filterwarnings("ignore:Should have t:UserWarning"),
]

SIDE = 64
STEPS = 6
SEEDS = (11, 12, 4294967295)
PROMPT, NEGATIVE = "a red circle", "blue"
OURS = sorted(set(SAMPLERS) - {"DDIMInverseScheduler"})
#: All others that run as they are, with what the worker adds.
THEIRS = {
    "DDPMScheduler": {},
    "DDIMScheduler": {},
    "PNDMScheduler": {"skip_prk_steps": True},
    "LMSDiscreteScheduler": {},
    "EulerDiscreteScheduler": {},
    "EulerAncestralDiscreteScheduler": {},
    "DPMSolverMultistepScheduler": {"solver_order": 2},
    "DPMSolverSinglestepScheduler": {"algorithm_type": "dpmsolver++", "solver_order": 2},
    "HeunDiscreteScheduler": {},
    "HeunDiscreteScheduler karras": {"use_karras_sigmas": True},
    "KDPM2DiscreteScheduler": {},
    "KDPM2AncestralDiscreteScheduler": {},
    "UniPCMultistepScheduler": {"solver_type": "bh2"},
    "DEISMultistepScheduler": {},
    "LCMScheduler": {"original_inference_steps": 50},
}
#: What the networks' own rounding makes of a batch; with diffusers' schedulers it comes to 0.8e-5.
ROUNDING = 2e-5
#: Eight-bit levels, of 255, between any two schedulers' pictures at their most different place.
LEAST_DIFFERENCE = 2


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    torch.set_num_threads(1)
    bundle = build_random_bundle(tmp_path_factory.mktemp("models") / "random")
    pipeline = StableDiffusionPipeline.from_pretrained(
        str(bundle), dtype=torch.float32, safety_checker=None, requires_safety_checker=False
    )
    return quiet(pipeline)


@pytest.fixture(scope="module")
def model_config(text):
    return dict(text.scheduler.config)


@pytest.fixture(scope="module")
def tasks(text):
    """Task -> its pipeline and the arguments that it alone takes."""
    rows, columns = np.mgrid[:SIDE, :SIDE] * 255 // SIDE
    image = Image.fromarray(np.stack([rows, columns, 255 - rows], axis=-1).astype(np.uint8))
    mask = Image.fromarray((columns > 127).astype(np.uint8) * 255)
    place = {"image": image, "strength": 0.5}
    parts = {**text.components, "requires_safety_checker": False}
    return {
        "text": (text, {"width": SIDE, "height": SIDE}),
        "image": (quiet(StableDiffusionImg2ImgPipeline(**parts)), place),
        "inpaint": (
            quiet(StableDiffusionInpaintPipeline(**parts)),
            {**place, "mask_image": mask, "width": SIDE, "height": SIDE},
        ),
    }


def quiet(pipeline):
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def draw(task, scheduler, *, seeds=SEEDS[:1], steps=STEPS, **more):
    """Return pictures as floats from 0 to 1: (images, height, width, 3)."""
    pipeline, options = task
    pipeline.scheduler = scheduler
    options = {**options, **more}
    if isinstance(options.get("image"), Image.Image):
        options["image"] = [options["image"]] * len(seeds)
    with torch.inference_mode():
        return pipeline(
            prompt=[PROMPT] * len(seeds),
            negative_prompt=[NEGATIVE] * len(seeds),
            num_inference_steps=steps,
            generator=[torch.Generator().manual_seed(seed) for seed in seeds],
            **{"output_type": "np", **options},
        ).images


@pytest.mark.parametrize("steps", [1, 2, 3])
@pytest.mark.parametrize("task", ["text", "image", "inpaint"])
@pytest.mark.parametrize("name", OURS)
def test_a_picture_comes_out(tasks, model_config, name, task, steps):
    # At half strength one step is none: diffusers' pipelines take no such call.
    strength = {} if task == "text" else {"strength": 1.0 if steps == 1 else 0.5}

    pixels = draw(tasks[task], SAMPLERS[name].from_config(model_config), steps=steps, **strength)

    assert pixels.shape == (1, SIDE, SIDE, 3)
    assert np.isfinite(pixels).all()
    assert pixels.std() > 0.01


@pytest.mark.parametrize("task", ["text", "image", "inpaint"])
@pytest.mark.parametrize("name", OURS)
def test_a_picture_is_the_same_alone_and_in_a_batch(tasks, model_config, name, task):
    def pictures(seeds):
        return draw(tasks[task], SAMPLERS[name].from_config(model_config), seeds=seeds)

    together = pictures(SEEDS)

    assert np.isfinite(together).all()
    for place in (0, 2):
        np.testing.assert_allclose(together[place], pictures((SEEDS[place],))[0], atol=ROUNDING)
    assert np.abs(together[0] - together[1]).max() > LEAST_DIFFERENCE / 255


@pytest.fixture(scope="module")
def by_their_names(tasks, model_config):
    """All schedulers' text-to-image pictures of one seed."""
    made = {name: SAMPLERS[name].from_config(model_config) for name in OURS}
    made["DPMPP2SAncestralScheduler karras"] = SAMPLERS["DPMPP2SAncestralScheduler"].from_config(
        model_config, use_karras_sigmas=True
    )
    made["DPMSolverSDEScheduler"] = dpm_solver_sde(model_config, seeds=SEEDS[:1], use_karras_sigmas=True)
    for name, options in THEIRS.items():
        made[name] = getattr(diffusers, name.split()[0]).from_config(model_config, **options)
    return {name: draw(tasks["text"], scheduler)[0] for name, scheduler in made.items()}


def test_no_scheduler_is_another_in_disguise(by_their_names):
    names = sorted(by_their_names)

    distances = {
        (mine, other): float(np.abs(by_their_names[mine] - by_their_names[other]).max()) * 255
        for mine in names
        for other in names
        if mine != other and mine.split()[0] in {*OURS, "DPMSolverSDEScheduler"}
    }

    print(sorted(distances.items(), key=lambda item: item[1])[:8])
    assert min(distances.values()) > LEAST_DIFFERENCE


@pytest.mark.parametrize(
    ("name", "options", "neighbour", "theirs", "steps", "bound"),
    [
        ("KarrasVeScheduler", {"s_churn": 0.0}, "HeunDiscreteScheduler", {"use_karras_sigmas": True}, STEPS, 1e-4),
        ("IPNDMScheduler", {}, "PNDMScheduler", {"skip_prk_steps": True}, 50, 2 / 255),
        ("IPNDMScheduler", {}, "DDIMScheduler", {}, 200, 4 / 255),
    ],
)
def test_pictures_agree_with_the_neighbours(tasks, model_config, name, options, neighbour, theirs, steps, bound):
    # Without guidance where that halves many steps.
    scale = 1.0 if steps == 200 else 7.5

    mine, other = (
        draw(tasks["text"], scheduler, steps=steps, guidance_scale=scale)
        for scheduler in (
            SAMPLERS[name].from_config(model_config, **options),
            getattr(diffusers, neighbour).from_config(model_config, **theirs),
        )
    )

    print(float(np.abs(mine - other).max()) * 255)
    assert np.abs(mine - other).max() < bound


# DPMSolverSDEScheduler, diffusers' own, with a seed for each image


@pytest.mark.parametrize(("task", "karras"), [("text", True), ("text", False), ("image", True), ("inpaint", True)])
def test_dpm_solver_sde_is_the_same_alone_and_in_a_batch(tasks, model_config, task, karras):
    def pictures(seeds):
        scheduler = dpm_solver_sde(model_config, seeds=seeds, use_karras_sigmas=karras)
        return draw(tasks[task], scheduler, seeds=seeds)

    together = pictures(SEEDS)

    plain = diffusers.DPMSolverSDEScheduler.from_config(
        model_config, noise_sampler_seed=list(SEEDS), use_karras_sigmas=karras
    )
    np.testing.assert_array_equal(together, draw(tasks[task], plain, seeds=SEEDS))
    for place in (0, 2):
        np.testing.assert_allclose(together[place], pictures((SEEDS[place],))[0], atol=ROUNDING)


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_dpm_solver_sde_takes_few_steps(tasks, model_config, steps):
    scheduler = dpm_solver_sde(model_config, seeds=SEEDS[:1], use_karras_sigmas=True)

    assert np.isfinite(draw(tasks["text"], scheduler, steps=steps)).all()


# DDIM inversion


def embeddings(text, count):
    return text.encode_prompt([PROMPT] * count, text.device, 1, do_classifier_free_guidance=False)[0]


def reworked(
    tasks, model_config, latents, *, task="image", scale=1.0, steps=STEPS, strength=0.5, seeds=SEEDS[:1], **more
):
    """Invert latents and sample them back; return the result as latents."""
    pipeline = tasks["text"][0]
    scheduler = SAMPLERS["DDIMInverseScheduler"].from_config(model_config)
    with torch.inference_mode():
        predict = unet_prediction(pipeline.unet, embeddings(pipeline, len(latents)))
        scheduler.invert(latents, predict, steps=steps, strength=strength)
        if task == "inpaint":
            more["masked_image_latents"] = latents
        return draw(
            tasks[task],
            scheduler,
            seeds=seeds,
            steps=steps,
            image=latents,
            strength=strength,
            guidance_scale=scale,
            **more,
        )


@pytest.fixture(scope="module")
def init():
    """Three pictures' latents. Those that the stand-in's encoder makes are near nought, unlike any model's."""
    return torch.randn((3, 4, SIDE // 8, SIDE // 8), generator=torch.Generator().manual_seed(5))


def decoded(tasks, latents):
    vae = tasks["text"][0].vae
    with torch.inference_mode():
        pixels = vae.decode(latents / vae.config.scaling_factor).sample
    return (pixels / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).numpy()


def test_the_picture_comes_back_where_prompt_and_strength_leave_it(tasks, model_config, init):
    before = decoded(tasks, init[:1])

    after = reworked(tasks, model_config, init[:1], steps=50, strength=0.2)
    noised = draw(
        tasks["image"],
        diffusers.DDIMScheduler.from_config(model_config),
        steps=50,
        image=init[:1],
        strength=0.2,
        guidance_scale=1.0,
    )

    near, far = np.abs(after - before).mean(), np.abs(noised - before).mean()
    print(near * 255, far * 255)
    assert near < 2 / 255
    assert near < far / 5


def test_guidance_and_strength_move_it_and_the_seed_does_not(tasks, model_config, init):
    latents = init[:1]
    plain = reworked(tasks, model_config, latents)

    np.testing.assert_array_equal(plain, reworked(tasks, model_config, latents, seeds=SEEDS[1:2]))
    assert np.abs(plain - reworked(tasks, model_config, latents, scale=7.5)).max() > LEAST_DIFFERENCE / 255
    assert np.abs(plain - reworked(tasks, model_config, latents, strength=1.0)).max() > LEAST_DIFFERENCE / 255


@pytest.mark.parametrize("task", ["image", "inpaint"])
def test_inversion_is_the_same_alone_and_in_a_batch(tasks, model_config, init, task):
    together = reworked(tasks, model_config, init, task=task, scale=7.5, seeds=SEEDS)

    assert np.isfinite(together).all()
    for place in (0, 2):
        alone = reworked(tasks, model_config, init[place : place + 1], task=task, scale=7.5, seeds=(SEEDS[place],))
        np.testing.assert_allclose(together[place], alone[0], atol=ROUNDING)


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_inversion_takes_few_steps(tasks, model_config, init, steps):
    strength = math.ceil(steps / 2) / steps

    assert np.isfinite(reworked(tasks, model_config, init[:1], steps=steps, strength=strength)).all()


def test_inpainting_by_inversion_keeps_what_the_mask_leaves(tasks, model_config, init):
    latents = init[:1]

    after = reworked(tasks, model_config, latents, task="inpaint", scale=7.5, output_type="latent")
    plain = reworked(tasks, model_config, latents, task="inpaint", steps=50, output_type="latent")

    # The mask covers the right half.
    half = SIDE // 16
    torch.testing.assert_close(after[..., :half], latents[..., :half])
    assert float((after - latents)[..., half:].abs().mean()) > 0.02
    # At guidance 1 the painted half comes back too: what is kept went up and comes down beside it.
    assert float((plain - latents).abs().mean()) < 0.01


def test_text_to_image_by_inversion_is_refused(tasks, model_config):
    with pytest.raises(ValueError, match="needs an init image"):
        draw(tasks["text"], SAMPLERS["DDIMInverseScheduler"].from_config(model_config))
