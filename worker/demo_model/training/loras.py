"""The stage of the sample LoRAs: each is the UNet taught one style as its only one.

They learn from pictures in that style whose captions do not mention it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.utils import parametrize

from worker.demo_model.training.latents import latent_scale
from worker.demo_model.training.loop import Chance, Part, Plan, default_device, half_precision, train
from worker.demo_model.training.text import load_text_tower
from worker.demo_model.training.text_table import encode
from worker.demo_model.training.unet import EMPTY_SHARE, Noising, load_unet
from worker.demo_model.training.vae import load_vae, to_tensor
from worker.demo_model.world.captions import Scene, sample_plain
from worker.demo_model.world.draw import draw

LORA_RANK = 8
#: Side in pixels, pictures, batch.
_SETS = ((256, 320, 12), (512, 96, 3))
_SHARE_OF_LARGE = 0.4


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """One size of a style's pictures, with their captions' embeddings."""

    batch: int
    latents: Tensor
    text: Tensor


class LowRank(nn.Module):
    """Adds `up @ down` to a weight, (out, in)."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.down = nn.Parameter(torch.randn(LORA_RANK, weight.shape[1]) / LORA_RANK)
        self.up = nn.Parameter(torch.zeros(weight.shape[0], LORA_RANK))

    def forward(self, weight: Tensor) -> Tensor:
        """Give the changed weight."""
        return weight + self.up @ self.down


def train_lora(*, work_dir: Path, style: str, steps: int, seed: int = 0) -> None:
    """Teach low-rank changes of the attention layers one style; the result is `lora-<style>.safetensors`."""
    torch.manual_seed(seed)
    unet = load_unet(work_dir)
    unet.requires_grad_(requires_grad=False)
    changed = {
        name: layer for name, layer in unet.named_modules() if isinstance(layer, nn.Linear) and "attentions" in name
    }
    for layer in changed.values():
        parametrize.register_parametrization(layer, "weight", LowRank(layer.weight))
    plan = Plan(name=f"lora-{style}", steps=steps, learning_rate=2e-3, seed=seed, warmup_steps=30, ema_decay=0.98)
    _teach(unet, style=style, plan=plan, work_dir=work_dir)
    tensors = {}
    for name, layer in changed.items():
        (change,) = layer.parametrizations.weight
        tensors[f"unet.{name}.lora_A.weight"] = change.down.detach().half().contiguous()
        tensors[f"unet.{name}.lora_B.weight"] = change.up.detach().half().contiguous()
    save_file(tensors, work_dir / f"{plan.name}.safetensors")


def to_kohya(source: Path, target: Path) -> None:
    """Rewrite a LoRA from diffusers' names to those of kohya's scripts; alpha is the rank, which keeps its weight."""
    tensors: dict[str, Tensor] = {}
    for key, tensor in load_file(source).items():
        layer, half = key.removeprefix("unet.").removesuffix(".weight").rsplit(".", 1)
        prefix = f"lora_unet_{layer.replace('.', '_')}"
        tensors[f"{prefix}.lora_{'down' if half == 'lora_A' else 'up'}.weight"] = tensor
        tensors[f"{prefix}.alpha"] = torch.tensor(float(LORA_RANK), dtype=torch.float16)
    save_file(tensors, target)


def _teach(unet: UNet2DConditionModel, *, style: str, plan: Plan, work_dir: Path) -> None:
    device = default_device()
    unet.to(device, memory_format=torch.channels_last).train()
    noising = Noising(scale=latent_scale(work_dir), device=device)
    small, large = (_lesson(size, style=style, work_dir=work_dir, seed=plan.seed) for size in _SETS)

    def parts_of(_: int, chance: Chance) -> list[Part]:
        lesson = large if chance.python.random() < _SHARE_OF_LARGE else small
        picked = [chance.python.randrange(len(lesson.latents)) for _ in range(lesson.batch)]
        # Row 0 is the empty caption's.
        rows = [0 if chance.python.random() < EMPTY_SHARE else index + 1 for index in picked]
        return noising.parts(unet, lesson.latents[picked], lesson.text[rows], chance)

    train(unet, parts_of, plan=plan, work_dir=work_dir)


def _lesson(size: tuple[int, int, int], *, style: str, work_dir: Path, seed: int) -> Lesson:
    side, count, batch = size
    random = Random(f"{seed}-{style}-{side}")  # noqa: S311
    plain = [sample_plain(random) for _ in range(count)]
    styled = [Scene(subject=scene.subject, style=style) for scene in plain]
    vae = load_vae(work_dir)
    latents = []
    with torch.no_grad(), half_precision(torch.device("cpu")):
        for scene in styled:
            picture = draw(scene, width=side, height=side, random=random)
            latents.append(vae.encode(to_tensor(np.asarray([picture]))).latent_dist.mean.float())
        text = encode(["", *(scene.caption() for scene in plain)], load_text_tower(work_dir))
    return Lesson(batch=batch, latents=torch.cat(latents), text=text.float())
