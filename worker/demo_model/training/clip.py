"""Stage 5: the vision tower, taught contrastively to find the captions of its pictures.

The text tower stays as it is, since the UNet has learnt to listen to it; only its projection learns along.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from random import Random

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional
from transformers import CLIPModel, CLIPTextModel, CLIPTokenizer

from worker.demo_model.architecture import CLIP_DEVIATION, CLIP_MEAN, VISION_SIDE, build_clip
from worker.demo_model.training.loop import Chance, Part, Plan, default_device, half_precision, load_average, train
from worker.demo_model.training.progress import note
from worker.demo_model.training.text import load_text_tower
from worker.demo_model.world.captions import Scene, sample_scene, vary
from worker.demo_model.world.draw import draw

#: Pictures that differ in little come in families, so that a batch holds each caption's hardest rivals.
_FAMILY = 4
_FAMILIES_PER_BATCH = 32
_MOST_FAMILIES = 1500
#: Families drawn for each step: a short run does not draw what it will not see.
_FAMILIES_PER_STEP = 8
_CHECKPOINT = "clip"


def train_clip(*, work_dir: Path, steps: int, seed: int = 0, learning_rate: float = 1e-3) -> None:
    """Train the vision tower and both projections; the checkpoint is `clip.pt`."""
    torch.manual_seed(seed)
    device = default_device()
    clip, tokenizer = _with_text_tower(work_dir)
    scenes, pictures = _pool(seed, families=min(_MOST_FAMILIES, max(_FAMILIES_PER_STEP * steps, _FAMILIES_PER_BATCH)))
    read = _read(clip.text_model, tokenizer, [scene.caption() for scene in scenes]).to(device)
    clip.to(device).train()

    def loss_of(step: int, rows: list[int]) -> Tensor:
        with half_precision(device):
            seen = clip.vision_model(vision_input(pictures[rows]).to(device)).pooler_output
            text, image = clip.text_projection(read[rows]), clip.visual_projection(seen)
        text, image = (functional.normalize(vectors.float(), dim=-1) for vectors in (text, image))
        if step % 50 == 0:
            found = (text @ image.T).argmax(1).cpu() == torch.arange(len(rows))
            note(f"clip {step}: {found.float().mean():.0%} of {len(rows)} captions find their picture")
        return contrastive_loss(text, image, clip.logit_scale.exp())

    def parts_of(step: int, chance: Chance) -> list[Part]:
        # One part: every caption of the batch is a rival of every other.
        families = chance.python.sample(range(len(scenes) // _FAMILY), _FAMILIES_PER_BATCH)
        rows = [family * _FAMILY + member for family in families for member in range(_FAMILY)]
        return [partial(loss_of, step, rows)]

    plan = Plan(name=_CHECKPOINT, steps=steps, learning_rate=learning_rate, seed=seed, warmup_steps=30, ema_decay=0.98)
    train(clip, parts_of, plan=plan, work_dir=work_dir)


def load_towers(work_dir: Path) -> tuple[CLIPModel, CLIPTokenizer]:
    """Read both trained towers, in float32, and build their tokenizer."""
    clip, tokenizer = _with_text_tower(work_dir)
    load_average(clip, work_dir / f"{_CHECKPOINT}.pt")
    return clip.eval(), tokenizer


def _with_text_tower(work_dir: Path) -> tuple[CLIPModel, CLIPTokenizer]:
    text_model, tokenizer = load_text_tower(work_dir)
    clip = build_clip()
    clip.text_model.load_state_dict(text_model.state_dict())
    clip.text_model.requires_grad_(requires_grad=False)
    return clip, tokenizer


@torch.no_grad()
def _read(tower: CLIPTextModel, tokenizer: CLIPTokenizer, captions: list[str]) -> Tensor:
    """Give the tower's pooled states, (captions, 128)."""
    states = []
    for start in range(0, len(captions), 100):
        # No attention mask: the towers are used on padded prompts without one.
        tokens = tokenizer(captions[start : start + 100], padding=True, return_tensors="pt")
        states.append(tower(tokens.input_ids).pooler_output)
    return torch.cat(states)


def contrastive_loss(text: Tensor, image: Tensor, scale: Tensor) -> Tensor:
    """CLIP's loss over a batch of paired unit vectors, (n, d) each.

    Captions may repeat within a batch; the few wrong rivals this makes are left in.
    """
    scores = scale * text @ image.T
    pairs = torch.arange(len(scores), device=scores.device)
    return (functional.cross_entropy(scores, pairs) + functional.cross_entropy(scores.T, pairs)) / 2


def vision_input(pictures: npt.NDArray[np.uint8]) -> Tensor:
    """(n, 128, 128, 3) bytes to the vision tower's (n, 3, 128, 128)."""
    scaled = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255
    mean, deviation = (torch.tensor(values).view(3, 1, 1) for values in (CLIP_MEAN, CLIP_DEVIATION))
    return (scaled - mean) / deviation


def _pool(seed: int, *, families: int) -> tuple[list[Scene], npt.NDArray[np.uint8]]:
    """Draw every family: the scenes, one family after another, and their pictures (n, 128, 128, 3)."""
    random = Random(seed)  # noqa: S311
    scenes: list[Scene] = []
    for _ in range(families):
        head = sample_scene(random)
        scenes += [head, *(vary(head, random) for _ in range(_FAMILY - 1))]
    side = VISION_SIDE
    return scenes, np.stack([draw(scene, width=side, height=side, random=random) for scene in scenes])
