"""The model as a folder in diffusers' layout, safetensors only: written here, found here.

`bundle_path` is what the worker asks for. It answers the trained bundle that lies beside this file or, where that is
missing, a bundle of seeded random weights: the same files and shapes, but its pictures are noise.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker
from transformers import CLIPConfig, CLIPModel

from worker.demo_model.architecture import FEATURE_EXTRACTOR_CONFIG, SCHEDULER_CONFIG, build_clip, build_unet, build_vae
from worker.demo_model.tokenizer import build_tokenizer

#: The committed, trained bundle.
TRAINED_BUNDLE = Path(__file__).parent / "bundle"
#: In a trained bundle: the steps of each stage, and the figures that were measured (`tests/demo_model/evaluate.py`).
MODEL_CARD = "model_card.json"

_MODEL_INDEX: dict[str, Any] = {
    "_class_name": "StableDiffusionPipeline",
    "_diffusers_version": "0.6.0",
    "feature_extractor": ["transformers", "CLIPImageProcessor"],
    "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
    "scheduler": ["diffusers", "PNDMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The networks of one bundle."""

    #: Text and vision tower with their projections; also written whole, for CLIP guidance.
    clip: CLIPModel
    vae: AutoencoderKL
    unet: UNet2DConditionModel
    safety_checker: StableDiffusionSafetyChecker


def is_shipped() -> bool:
    """Whether the trained bundle is there, and whole; parts of it alone are for training to go on from."""
    return (TRAINED_BUNDLE / "model_index.json").is_file()


def bundle_path(fallback: Path) -> Path:
    """Find the trained bundle if it was shipped, else a random one, built once inside the folder `fallback`."""
    if is_shipped():
        return TRAINED_BUNDLE
    random_bundle = fallback / "random-bundle"
    if not (random_bundle / "model_index.json").is_file():
        build_random_bundle(random_bundle)
    return random_bundle


def build_random_bundle(directory: Path, *, seed: int = 0) -> Path:
    """Write a bundle of random weights drawn from `seed` to `directory` and return it.

    `directory` appears whole or not at all; one that is already there is left as it is.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        clip = build_clip()
        parts = Parts(clip=clip, vae=build_vae(), unet=build_unet(), safety_checker=untrained_safety_checker(clip))
    with atomic_directory(directory) as temporary:
        write_bundle(parts, temporary)
    return directory


def untrained_safety_checker(clip: CLIPModel) -> StableDiffusionSafetyChecker:
    """Build a checker on the vision tower of `clip` whose thresholds no picture can pass: it flags nothing."""
    # A fresh config: the towers' own remembers an attention kernel that the checker's class refuses.
    checker = StableDiffusionSafetyChecker(CLIPConfig.from_dict(clip.config.to_dict()))
    checker.vision_model.load_state_dict(clip.vision_model.state_dict())
    checker.visual_projection.load_state_dict(clip.visual_projection.state_dict())
    checker.concept_embeds_weights.data.fill_(2.0)
    checker.special_care_embeds_weights.data.fill_(2.0)
    return checker


def write_bundle(parts: Parts, directory: Path) -> None:
    """Write every file of the bundle, weights in fp16, into an existing `directory`."""
    build_tokenizer(directory / "tokenizer")
    parts.clip.text_model.half().save_pretrained(directory / "text_encoder")
    parts.clip.half().save_pretrained(directory / "clip")
    parts.safety_checker.half().save_pretrained(directory / "safety_checker")
    parts.vae.half().save_pretrained(directory / "vae", safe_serialization=True)
    parts.unet.half().save_pretrained(directory / "unet", safe_serialization=True)
    _write_json(directory / "feature_extractor" / "preprocessor_config.json", FEATURE_EXTRACTOR_CONFIG)
    _write_json(directory / "scheduler" / "scheduler_config.json", SCHEDULER_CONFIG)
    _write_json(directory / "model_index.json", _MODEL_INDEX)


@contextmanager
def atomic_directory(directory: Path) -> Iterator[Path]:
    """Make a temporary sibling that becomes `directory` when the block ends well.

    Loses a race gracefully: if another process put `directory` there meanwhile, that one stays.
    """
    directory.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
    try:
        yield temporary
        # The temporary folder and the weights in it are their writer's alone; a bundle is for everyone to read.
        temporary.chmod(0o755)
        for file in temporary.rglob("*.safetensors"):
            file.chmod(0o644)
        try:
            temporary.rename(directory)
        except OSError:
            if not directory.is_dir():
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n")
