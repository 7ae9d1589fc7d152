"""The second checkpoint: a text tower that hears one style in every caption; the rest is the demo model's own.

A second UNet would double the bundle. The tower instead learns, from the one it started as, to answer a plain caption
as that one answers it with the style's phrase. The empty caption stays as it was, so that guidance pushes towards the
style.
"""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from random import Random

import torch
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from worker.demo_model.architecture import build_clip
from worker.demo_model.tokenizer import MAX_TOKENS
from worker.demo_model.training.loop import Chance, Part, Plan, default_device, in_parts, load_average, train
from worker.demo_model.training.text import load_text_tower
from worker.demo_model.training.text_table import encode
from worker.demo_model.training.whitening import axes_of
from worker.demo_model.world.captions import Scene, sample_plain

_CAPTIONS = 1500
_BATCH = 24
_EMPTY_SHARE = 0.1


def train_checkpoint(*, work_dir: Path, style: str, steps: int, seed: int = 0) -> None:
    """Train the tower; the checkpoint is `text-<style>.pt`."""
    torch.manual_seed(seed)
    device = default_device()
    teacher = load_text_tower(work_dir)
    axes, _ = axes_of(teacher)
    pupil = deepcopy(teacher[0]).to(device).train()
    tokens, answers = _lesson(teacher, style=style, seed=seed)

    def loss_of(tokens: Tensor, answers: Tensor) -> Tensor:
        # Measured where every word is equally loud, as the UNet hears it.
        wrong = (pupil(tokens).last_hidden_state - answers) @ axes.T.to(device)
        return wrong.square().mean()

    def parts_of(_: int, chance: Chance) -> list[Part]:
        # Row 0 is the empty caption's.
        rows = [
            0 if chance.python.random() < _EMPTY_SHARE else chance.python.randrange(1, len(tokens))
            for _ in range(_BATCH)
        ]
        return in_parts(loss_of, tokens[rows].to(device), answers[rows].float().to(device))

    plan = Plan(name=f"text-{style}", steps=steps, learning_rate=7e-4, seed=seed, warmup_steps=30, ema_decay=0.98)
    train(pupil, parts_of, plan=plan, work_dir=work_dir)


def load_restyled(work_dir: Path, style: str) -> CLIPTextModel:
    """Read the trained tower, in float32."""
    tower: nn.Module = build_clip().text_model
    load_average(tower, work_dir / f"text-{style}.pt")
    return tower.eval()


def _lesson(teacher: tuple[CLIPTextModel, CLIPTokenizer], *, style: str, seed: int) -> tuple[Tensor, Tensor]:
    """Plain captions as tokens, (n + 1, 77), and their answers in the style, (n + 1, 77, 128) in half precision."""
    random = Random(f"{seed}-{style}")  # noqa: S311
    plain = [sample_plain(random) for _ in range(_CAPTIONS)]
    styled = [Scene(subject=scene.subject, style=style).caption() for scene in plain]
    captions = ["", *(scene.caption() for scene in plain)]
    tokens = teacher[1](captions, padding="max_length", max_length=MAX_TOKENS, truncation=True, return_tensors="pt")
    return tokens.input_ids, torch.cat([encode(part, teacher).half() for part in _chunks(["", *styled])])


def _chunks(captions: list[str]) -> list[list[str]]:
    return [captions[start : start + _BATCH] for start in range(0, len(captions), _BATCH)]
