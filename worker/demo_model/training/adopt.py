"""A bundle taken apart into checkpoints, so that training goes on from it when the work directory was lost.

Only the optimizers' memories are missing then; a stage that goes on warms up anew.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import nn
from transformers import CLIPModel, CLIPTextModel, CLIPTokenizer

from worker.demo_model.bundle import MODEL_CARD
from worker.demo_model.tokenizer import build_tokenizer
from worker.demo_model.training.latents import SCALE_FILE
from worker.demo_model.training.loop import save_adopted
from worker.demo_model.training.text import Reader
from worker.demo_model.training.whitening import whiten


def adopt(bundle: Path, *, work_dir: Path) -> None:
    """Write the checkpoints of `vae`, `text`, `clip` and `unet` that `work_dir` does not have yet.

    A part that the bundle lacks is left out: it starts from nothing.
    """
    steps: dict[str, int] = json.loads((bundle / MODEL_CARD).read_text())["steps"]
    for name, (folder, load) in _PARTS.items():
        if (bundle / folder).is_dir():
            part = load(bundle / folder).to(torch.float32)
            if name == "unet":
                whiten(part, _encoder(bundle, work_dir))
            save_adopted(work_dir / f"{name}.pt", part, step=steps[name])
    scale = json.loads((bundle / "vae" / "config.json").read_text())["scaling_factor"]
    if not (work_dir / SCALE_FILE).is_file():
        (work_dir / SCALE_FILE).write_text(f"{scale}\n")


def _encoder(bundle: Path, work_dir: Path) -> tuple[CLIPTextModel, CLIPTokenizer] | None:
    folder = bundle / "text_encoder"
    if not folder.is_dir():
        return None
    return CLIPTextModel.from_pretrained(folder).float().eval(), build_tokenizer(work_dir / "tokenizer")


def _reader(folder: Path) -> Reader:
    """Load the text tower with new heads, which serve training alone."""
    return Reader(CLIPTextModel.from_pretrained(folder))


#: Checkpoint -> its folder in a bundle, and what reads that.
_PARTS: dict[str, tuple[str, Callable[[Path], nn.Module]]] = {
    "vae": ("vae", AutoencoderKL.from_pretrained),
    "text": ("text_encoder", _reader),
    "clip": ("clip", CLIPModel.from_pretrained),
    "unet": ("unet", UNet2DConditionModel.from_pretrained),
}
