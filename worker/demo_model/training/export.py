"""The last stage: what was trained, written as a bundle."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from diffusers import AutoencoderKL

from worker.demo_model.bundle import MODEL_CARD, Parts, atomic_directory, write_bundle
from worker.demo_model.training.assets import write_assets
from worker.demo_model.training.clip import load_towers
from worker.demo_model.training.latents import latent_scale
from worker.demo_model.training.loop import steps_done
from worker.demo_model.training.safety import train_safety_checker
from worker.demo_model.training.text import load_text_tower
from worker.demo_model.training.unet import load_unet
from worker.demo_model.training.vae import load_vae

#: The checkpoints that a whole bundle is made of.
_CHECKPOINTS = ("vae", "text", "unet", "clip")


def export_bundle(*, work_dir: Path, to: Path, seed: int = 0) -> None:
    """Write the bundle of the checkpoints in `work_dir` to `to`, in place of one that is there.

    Where a checkpoint is missing, what was trained so far is written without `model_index.json`: nothing to draw with,
    but training goes on from it elsewhere (`adopt.py`).
    """
    with atomic_directory(to) as temporary:
        if all((work_dir / f"{name}.pt").is_file() for name in _CHECKPOINTS):
            _write_whole(work_dir, temporary, seed=seed)
        else:
            _write_parts(work_dir, temporary)
        steps = {name: steps_done(work_dir / f"{name}.pt") for name in (*_CHECKPOINTS, "decoder")}
        (temporary / MODEL_CARD).write_text(json.dumps({"steps": steps}, indent=2) + "\n")
        shutil.rmtree(to, ignore_errors=True)


def _write_whole(work_dir: Path, directory: Path, *, seed: int) -> None:
    clip, tokenizer = load_towers(work_dir)
    vae = _scaled_vae(work_dir)
    write_assets(work_dir=work_dir, vae=vae, clip=clip, tokenizer=tokenizer, to=directory / "assets")
    safety_checker = train_safety_checker(clip, seed=seed)
    write_bundle(Parts(clip=clip, vae=vae, unet=load_unet(work_dir), safety_checker=safety_checker), directory)


def _write_parts(work_dir: Path, directory: Path) -> None:
    _scaled_vae(work_dir).half().save_pretrained(directory / "vae")
    if (work_dir / "text.pt").is_file():
        tower, _ = load_text_tower(work_dir)
        tower.half().save_pretrained(directory / "text_encoder")
    if (work_dir / "unet.pt").is_file():
        load_unet(work_dir).half().save_pretrained(directory / "unet")


def _scaled_vae(work_dir: Path) -> AutoencoderKL:
    vae = load_vae(work_dir)
    vae.register_to_config(scaling_factor=latent_scale(work_dir))
    return vae
