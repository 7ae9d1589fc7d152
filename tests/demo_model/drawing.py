"""Pictures from a bundle, for the tests and the evaluation: diffusers' own pipeline, nothing of Darkroom's engine."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionPipeline

from tests.demo_model.judge import Picture


def load(bundle: Path) -> StableDiffusionPipeline:
    """The bundle's pipeline in float32, without its safety checker."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipeline = StableDiffusionPipeline.from_pretrained(bundle, safety_checker=None, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def draw_prompts(
    pipeline: StableDiffusionPipeline, prompts: Sequence[str], *, width: int = 512, height: int = 512,
    guidance: float = 7.5, steps: int = 20, seed: int = 0, batch: int = 4,
) -> list[Picture]:  # fmt: skip
    """One RGB picture, (h, w, 3), for each prompt; prompt i is drawn with seed + i, whatever the batch."""
    pictures: list[Picture] = []
    for start in range(0, len(prompts), batch):
        part = list(prompts[start : start + batch])
        generators = [torch.Generator().manual_seed(seed + start + index) for index in range(len(part))]
        drawn = pipeline(
            part, width=width, height=height, num_inference_steps=steps, guidance_scale=guidance, generator=generators,
        )  # fmt: skip
        pictures += [np.asarray(image.convert("RGB")) for image in drawn.images]
    return pictures


def sheet(pictures: Sequence[Picture], *, columns: int, side: int = 192) -> Picture:
    """The pictures shrunk and laid out in rows on white, with a thin gap."""
    from PIL import Image

    gap = 6
    rows = -(-len(pictures) // columns)
    page = Image.new("RGB", (columns * (side + gap) + gap, rows * (side + gap) + gap), "white")
    for index, picture in enumerate(pictures):
        thumbnail = Image.fromarray(picture)
        thumbnail.thumbnail((side, side), Image.Resampling.LANCZOS)
        row, column = divmod(index, columns)
        page.paste(thumbnail, (gap + column * (side + gap), gap + row * (side + gap)))
    return np.asarray(page)
