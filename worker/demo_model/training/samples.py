"""A sample sheet of a UNet in training: held-out captions, drawn small and in few steps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from PIL import Image
from torch import Tensor

from worker.demo_model.architecture import LATENT_CHANNELS, SCHEDULER_CONFIG, VAE_FACTOR
from worker.demo_model.training.latents import latent_scale
from worker.demo_model.training.loop import half_precision
from worker.demo_model.training.text import load_text_tower
from worker.demo_model.training.text_table import encode
from worker.demo_model.training.vae import load_vae, to_pixels
from worker.demo_model.world.captions import held_out_basics

#: How many captions a sheet shows, in rows of eight; they are `held_out_basics(PICTURES, seed=SEED)`.
PICTURES = 24
SEED = 1
_ROW = 8
_SIDE = 256
_STEPS = 10
_GUIDANCE = 5.0


class Sheet:
    """Draws the same captions from the same noise each time."""

    def __init__(self, work_dir: Path) -> None:
        """Encode the captions with the text tower of `work_dir`."""
        captions = [basic.caption() for basic in held_out_basics(PICTURES, seed=SEED)]
        self._text = encode(["", *captions], load_text_tower(work_dir)).float()
        self._vae: AutoencoderKL = load_vae(work_dir)
        self._scale = latent_scale(work_dir)

    def draw(self, unet: UNet2DConditionModel, path: Path) -> None:
        """Write the sheet to `path`."""
        latents = denoise(unet, self._text[1:], empty=self._text[0], side=_SIDE // VAE_FACTOR)
        pictures = to_pixels(self._vae.to(latents.device).decode(latents / self._scale).sample)
        rows = [np.concatenate([*pictures[start : start + _ROW]], 1) for start in range(0, PICTURES, _ROW)]
        Image.fromarray(np.concatenate(rows)).save(path)


@torch.no_grad()
def denoise(unet: UNet2DConditionModel, text: Tensor, *, empty: Tensor, side: int) -> Tensor:
    """Latents (n, 4, side, side), scaled, for text (n, 77, 128); `empty`, (77, 128), is the empty caption's."""
    device = next(unet.parameters()).device
    keys = ("beta_start", "beta_end", "beta_schedule", "num_train_timesteps", "set_alpha_to_one", "steps_offset")
    scheduler = DDIMScheduler(**{key: SCHEDULER_CONFIG[key] for key in keys}, clip_sample=False)
    scheduler.set_timesteps(_STEPS)
    latents = torch.randn(len(text), LATENT_CHANNELS, side, side, generator=torch.Generator().manual_seed(SEED))
    latents = latents.to(device)
    both = torch.cat([empty.expand_as(text), text]).to(device)
    for time in scheduler.timesteps:
        with half_precision(device):
            without, given = unet(latents.repeat(2, 1, 1, 1), time, both).sample.float().chunk(2)
        latents = scheduler.step(without + _GUIDANCE * (given - without), time, latents).prev_sample
    return latents
