"""What a picture service is asked to do besides drawing from words has its effect on the trained bundle's pictures."""

import numpy as np
import pytest
import torch
from diffusers import (
    ControlNetModel,
    StableDiffusionControlNetPipeline,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionInpaintPipeline,
)
from diffusers.models import AutoencoderKL
from PIL import Image

from tests.demo_model.drawing import draw_prompts, load
from tests.demo_model.judge import look
from worker.controlnet.hints import canny
from worker.demo_model.bundle import TRAINED_BUNDLE, is_shipped
from worker.demo_model.training.assets import CHECKPOINT_STYLE, KOHYA_LORA_STYLE, LORA_STYLE, TRIGGER

pytestmark = pytest.mark.skipif(not is_shipped(), reason="no trained bundle was shipped")

ASSETS = TRAINED_BUNDLE / "assets"
PROMPT = "a large red circle in the middle on a white background"
SIDE, STEPS = 256, 10


@pytest.fixture(scope="module")
def pipeline():
    return load(TRAINED_BUNDLE)


@pytest.fixture(scope="module")
def plain(pipeline):
    return drawn(pipeline)


@pytest.fixture(scope="module")
def start():
    """A green square at the left of a blue picture."""
    pixels = np.full((SIDE, SIDE, 3), (38, 86, 204), np.uint8)
    pixels[90:160, 40:110] = (48, 156, 76)
    return Image.fromarray(pixels)


def drawn(pipeline, prompt=PROMPT):
    return draw_prompts(pipeline, [prompt], width=SIDE, height=SIDE, steps=STEPS)[0]


def apart(one, other) -> float:
    """Mean difference, as a share of the whole scale."""
    return float(np.abs(np.asarray(one, float) - np.asarray(other, float)).mean() / 255)


def like(pipeline, kind, **more):
    """Another pipeline of the same parts."""
    parts = {**pipeline.components, **more}
    made = kind(**parts, requires_safety_checker=False)
    made.set_progress_bar_config(disable=True)
    return made


def shipped(path):
    if not path.exists():
        pytest.skip(f"{path.name} was not shipped")
    return path


def test_a_picture_changes_more_the_stronger_it_is_changed(pipeline, start):
    change = like(pipeline, StableDiffusionImg2ImgPipeline)

    distances = [
        apart(
            start,
            change(
                PROMPT, image=start, strength=strength, num_inference_steps=STEPS,
                generator=torch.Generator().manual_seed(1),
            ).images[0],
        )
        for strength in (0.2, 0.5, 0.8, 1.0)
    ]  # fmt: skip

    assert distances == sorted(distances)
    assert distances[-1] > 2 * distances[0]


def test_outside_the_mask_a_picture_stays(pipeline, start):
    paint = like(pipeline, StableDiffusionInpaintPipeline)
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[:, SIDE // 2 :] = 255
    request = {"mask_image": Image.fromarray(mask), "height": SIDE, "width": SIDE, "num_inference_steps": STEPS}

    painted = paint(
        "a large red circle on the right on a blue background", image=start, strength=1.0,
        generator=torch.Generator().manual_seed(1), **request,
    ).images[0]  # fmt: skip
    kept = paint.image_processor.apply_overlay(Image.fromarray(mask), start, painted)

    outside = np.s_[:, : SIDE // 2 - 16]
    assert apart(np.asarray(kept)[outside], np.asarray(start)[outside]) < 0.02
    # The decoder alone is what changes it before the overlay.
    assert apart(np.asarray(painted)[outside], np.asarray(start)[outside]) < 0.06
    assert apart(np.asarray(painted)[:, SIDE // 2 :], np.asarray(start)[:, SIDE // 2 :]) > 0.06


@pytest.mark.parametrize("style", [LORA_STYLE, KOHYA_LORA_STYLE])
def test_a_lora_changes_more_the_more_it_weighs(style, plain):
    file = shipped(ASSETS / "loras" / f"{style}.safetensors")
    pipeline = load(TRAINED_BUNDLE)
    pipeline.load_lora_weights(file, adapter_name="style")

    distances = []
    for weight in (0.0, 0.5, 1.0):
        pipeline.set_adapters("style", weight)
        distances.append(apart(drawn(pipeline), plain))

    assert distances[0] < 1e-3
    assert distances == sorted(distances)
    assert distances[-1] > 0.01


def test_the_textual_inversion_stands_for_its_style(plain):
    file = shipped(ASSETS / "textual_inversions" / "neon.safetensors")
    pipeline = load(TRAINED_BUNDLE)
    pipeline.load_textual_inversion(file, token=TRIGGER)

    assert apart(drawn(pipeline, f"{PROMPT}, {TRIGGER}"), plain) > 0.02


def test_the_second_vae_has_more_contrast(pipeline, plain):
    folder = shipped(ASSETS / "vaes" / "contrast")
    own = pipeline.vae
    pipeline.vae = AutoencoderKL.from_pretrained(folder)
    try:
        stronger = drawn(pipeline, "a small gray circle in the middle on a gray background")
    finally:
        pipeline.vae = own
    usual = drawn(pipeline, "a small gray circle in the middle on a gray background")

    assert apart(stronger, 127.5) > apart(usual, 127.5)
    assert apart(stronger, usual) > 0.005


def test_the_second_checkpoint_draws_another_way(plain):
    folder = shipped(ASSETS / "checkpoints" / CHECKPOINT_STYLE / "text_encoder")
    pipeline = load(TRAINED_BUNDLE)
    pipeline.text_encoder = type(pipeline.text_encoder).from_pretrained(folder).float()

    assert apart(drawn(pipeline), plain) > 0.02


def test_edges_decide_where_things_are(pipeline):
    folder = shipped(ASSETS / "controlnets" / "canny")
    steer = like(pipeline, StableDiffusionControlNetPipeline, controlnet=ControlNetModel.from_pretrained(folder))
    pixels = np.full((SIDE, SIDE, 3), 255, np.uint8)
    y, x = np.ogrid[:SIDE, :SIDE]
    found = []
    for middle in (70, 186):
        pixels[:] = 255
        pixels[(x - middle) ** 2 + (y - 128) ** 2 < 50**2] = 0
        (picture,) = steer(
            "a red circle on a white background", image=Image.fromarray(canny(pixels)), num_inference_steps=STEPS,
            generator=torch.Generator().manual_seed(2),
        ).images  # fmt: skip
        found.append(look(np.asarray(picture)).position)

    assert found == ["on the left", "on the right"]


@pytest.mark.parametrize(("width", "height"), [(320, 320), (512, 320), (320, 640)])
def test_other_sizes_give_one_composition(pipeline, width, height):
    prompt = "a large red circle in the middle on a white background"
    (picture,) = draw_prompts(pipeline, [prompt], width=width, height=height, steps=STEPS)
    seen = look(picture)

    assert (seen.background, seen.colour, seen.position) == ("white", "red", "in the middle")
