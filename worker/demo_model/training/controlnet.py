"""The sample ControlNet: edges, white on black, that the picture is to follow.

A copy of the UNet's first half learns to add to the frozen UNet's skip connections, from the edges that the service
itself finds in pictures (`worker/controlnet/hints.py`). Half of the captions are left out: what is not said must be
seen in the edges.
"""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from torch import Tensor, nn

from worker.controlnet.hints import canny
from worker.demo_model.training.latents import latent_scale
from worker.demo_model.training.loop import Chance, Part, Plan, default_device, half_precision, load_average, train
from worker.demo_model.training.text import load_text_tower
from worker.demo_model.training.text_table import encode
from worker.demo_model.training.unet import Noising, load_unet
from worker.demo_model.training.vae import load_vae, to_tensor
from worker.demo_model.world.captions import is_held_out, sample_scene
from worker.demo_model.world.draw import draw

NAME = "controlnet-canny"
#: Side in pixels, pictures, batch.
_SIDE, _PICTURES, _BATCH = 256, 400, 10
_EMPTY_SHARE = 0.5
#: Of the layers that bring the edges down to the latents' size.
_EYE_CHANNELS = (8, 16, 32, 48)


class Steered(nn.Module):
    """The UNet with the ControlNet at its side; called as the UNet is, and with the edges."""

    def __init__(self, unet: UNet2DConditionModel, net: ControlNetModel) -> None:
        super().__init__()
        self.unet = unet
        self.net = net

    def forward(self, noisy: Tensor, times: Tensor, text: Tensor, edges: Tensor) -> Any:
        """Give what the UNet gives; `edges` (n, 3, 8 h, 8 w) in 0..1."""
        down, middle = self.net(
            noisy, times, encoder_hidden_states=text, controlnet_cond=edges, return_dict=False
        )  # fmt: skip
        return self.unet(noisy, times, text, down_block_additional_residuals=down, mid_block_additional_residual=middle)


def build_controlnet(unet: UNet2DConditionModel) -> ControlNetModel:
    """Copy the UNet's first half; what it adds is nothing at first."""
    return ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=_EYE_CHANNELS)


def train_controlnet(*, work_dir: Path, steps: int, seed: int = 0) -> None:
    """Train it beside the UNet of `work_dir`; the checkpoint is `controlnet-canny.pt`."""
    torch.manual_seed(seed)
    device = default_device()
    unet = load_unet(work_dir).to(device, memory_format=torch.channels_last).requires_grad_(requires_grad=False)
    net = build_controlnet(unet).to(device, memory_format=torch.channels_last).train()
    steered = Steered(unet, net)
    noising = Noising(scale=latent_scale(work_dir), device=device)
    latents, edges, text = _lesson(work_dir, seed=seed)

    def parts_of(_: int, chance: Chance) -> list[Part]:
        picked = chance.python.sample(range(_PICTURES), _BATCH)
        # Row 0 is the empty caption's.
        rows = [0 if chance.python.random() < _EMPTY_SHARE else index + 1 for index in picked]
        return noising.parts(steered, latents[picked], text[rows], chance, edges[picked])

    plan = Plan(name=NAME, steps=steps, learning_rate=1e-3, seed=seed, warmup_steps=30, ema_decay=0.98)
    train(net, parts_of, plan=plan, work_dir=work_dir)


def load_controlnet(work_dir: Path) -> ControlNetModel:
    """Read the trained ControlNet, in float32."""
    net = build_controlnet(load_unet(work_dir))
    load_average(net, work_dir / f"{NAME}.pt")
    return net.eval()


def _lesson(work_dir: Path, *, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Latents (n, 4, 32, 32), edges (n, 3, 256, 256) in 0..1 and text (n + 1, 77, 128), the empty caption's first."""
    random = Random(f"{seed}-{NAME}")  # noqa: S311
    scenes = [scene for scene in (sample_scene(random) for _ in range(2 * _PICTURES)) if not is_held_out(scene.subject)]
    scenes = scenes[:_PICTURES]
    vae = load_vae(work_dir)
    latents, edges = [], []
    with torch.no_grad(), half_precision(torch.device("cpu")):
        for scene in scenes:
            picture = draw(scene, width=_SIDE, height=_SIDE, random=random)
            latents.append(vae.encode(to_tensor(np.asarray([picture]))).latent_dist.mean.float())
            edges.append(torch.from_numpy(canny(picture)).permute(2, 0, 1).float() / 255)
        text = encode(["", *(scene.caption() for scene in scenes)], load_text_tower(work_dir))
    return torch.cat(latents), torch.stack(edges), text.float()
