"""The sample assets that lie beside the bundle, each with a visible effect.

The second VAE and the textual inversion are made, not learnt: the one is the decoder with more contrast, the other a
single word that stands for a style's whole phrase.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from safetensors.torch import save_file
from transformers import CLIPModel, CLIPTokenizer

from worker.demo_model.training.controlnet import NAME as CONTROLNET
from worker.demo_model.training.controlnet import load_controlnet
from worker.demo_model.training.loras import to_kohya, train_lora
from worker.demo_model.training.restyled import load_restyled
from worker.demo_model.vocabulary import STYLES

#: The style of the second checkpoint, and of each LoRA.
CHECKPOINT_STYLE = "3d-model"
LORA_STYLE = "comic-book"
KOHYA_LORA_STYLE = "anime"
INVERTED_STYLE = "neon-punk"
#: The word that stands for the inverted style.
TRIGGER = "<neon>"
_CONTRAST = 1.3


def train_loras(*, work_dir: Path, steps: int, seed: int = 0) -> None:
    """Train both LoRAs."""
    for style in (LORA_STYLE, KOHYA_LORA_STYLE):
        train_lora(work_dir=work_dir, style=style, steps=steps, seed=seed)


def write_assets(*, work_dir: Path, vae: AutoencoderKL, clip: CLIPModel, tokenizer: CLIPTokenizer, to: Path) -> None:
    """Write what can be made from the checkpoints in `work_dir`; what was not trained is left out.

    One folder for each kind, as the catalog's `[[folders]]` have it.
    """
    for kind in ("checkpoints", "loras", "textual_inversions", "vaes", "controlnets"):
        (to / kind).mkdir(parents=True)
    contrast_vae(vae).half().save_pretrained(to / "vaes" / "contrast")
    save_file({TRIGGER: inversion(clip, tokenizer)}, to / "textual_inversions" / "neon.safetensors")
    if (work_dir / f"text-{CHECKPOINT_STYLE}.pt").is_file():
        tower = load_restyled(work_dir, CHECKPOINT_STYLE)
        tower.half().save_pretrained(to / "checkpoints" / CHECKPOINT_STYLE / "text_encoder")
    lora = work_dir / f"lora-{LORA_STYLE}.safetensors"
    if lora.is_file():
        shutil.copy(lora, to / "loras" / f"{LORA_STYLE}.safetensors")
    lora = work_dir / f"lora-{KOHYA_LORA_STYLE}.safetensors"
    if lora.is_file():
        to_kohya(lora, to / "loras" / f"{KOHYA_LORA_STYLE}.safetensors")
    if (work_dir / f"{CONTROLNET}.pt").is_file():
        load_controlnet(work_dir).half().save_pretrained(to / "controlnets" / "canny")
    for folder in to.iterdir():
        if not any(folder.iterdir()):
            folder.rmdir()


@torch.no_grad()
def contrast_vae(vae: AutoencoderKL) -> AutoencoderKL:
    """Copy the autoencoder and raise the contrast of what it decodes."""
    copy = AutoencoderKL.from_config(vae.config)
    copy.load_state_dict(vae.state_dict())
    copy.decoder.conv_out.weight *= _CONTRAST
    copy.decoder.conv_out.bias *= _CONTRAST
    return copy


@torch.no_grad()
def inversion(clip: CLIPModel, tokenizer: CLIPTokenizer) -> torch.Tensor:
    """Gather the embeddings of the style's words, (words, 128): the vectors of one multi-vector token."""
    ids = tokenizer(STYLES[INVERTED_STYLE]).input_ids[1:-1]
    table = clip.text_model.embeddings.token_embedding.weight
    return table[ids].half().clone()
