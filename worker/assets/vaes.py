"""VAEs that take the place of a model's own: folders in diffusers' format, and single files in the original one's."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from diffusers import AutoencoderKL
from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint
from safetensors.torch import load_file

from worker.assets import AssetIncompatible
from worker.loading.accounting import modern

#: What names in files of whole checkpoints begin with.
_PREFIX: Final = "first_stage_model."
#: A pixel's block is so many pixels wide; diffusers' pipelines take it from the model once.
_SAME: Final = ("latent_channels", "in_channels", "out_channels")


@dataclass(frozen=True, eq=False, slots=True)
class Vae:
    """A VAE as loaded."""

    digest: str
    network: Any

    @property
    def size(self) -> int:
        """Bytes of its weights."""
        return sum(weight.nbytes for weight in self.network.state_dict().values())


def read_vae(place: Path, pipeline: Any, *, name: str, digest: str, device: Any, variant: str = "") -> Vae:
    """Read a VAE onto a device.

    Raises `AssetIncompatible` where it makes other latents than the pipeline's own, or where a tensor is left over,
    missing or of another shape.
    """
    if place.is_file():
        config, weights = dict(pipeline.vae.config), _diffusers_names(load_file(place), pipeline.vae.config, name=name)
    else:
        folder = place if (place / "config.json").is_file() else place / "vae"
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        weights = load_file(folder / f"diffusion_pytorch_model{variant and f'.{variant}'}.safetensors")
    network: Any = AutoencoderKL.from_config(config)
    own = pipeline.vae.config
    if any(network.config[key] != own[key] for key in _SAME) or _factor(network.config) != _factor(own):
        raise AssetIncompatible(f"the VAE {name!r} makes other latents than the model's")
    try:
        network.load_state_dict({modern(key): tensor for key, tensor in weights.items()}, strict=True)
    except RuntimeError as error:
        raise AssetIncompatible(f"the VAE {name!r} does not fit: {str(error)[:300]}") from error
    network.to(device.torch_name, device.dtype).eval().requires_grad_(requires_grad=False)
    return Vae(digest, network.to(memory_format=torch.channels_last))


def _factor(config: Any) -> int:
    return len(config["block_out_channels"])


def _diffusers_names(weights: dict[str, Any], config: Any, *, name: str) -> dict[str, Any]:
    """Return a single file's tensors by diffusers' names."""
    plain = {key.removeprefix(_PREFIX): tensor for key, tensor in weights.items()}
    if any(key.startswith("encoder.down_blocks.") for key in plain):
        return plain
    converted: dict[str, Any] = convert_ldm_vae_checkpoint(dict(plain), dict(config))
    if len(converted) != len(plain):
        raise AssetIncompatible(f"the VAE {name!r} has tensors that belong to no layer: {len(plain) - len(converted)}")
    return converted
