"""Pictures on the way: what the latents of a running job would give, decoded by the model's own VAE.

A decoding costs about as much as one and a half evaluations of the network with guidance, so previews are made only
where a job asks for them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from PIL import Image

if TYPE_CHECKING:
    from worker.engine import Model


def decode(model: Model, latents: Any) -> Image.Image:
    """Return the picture that latents of shape (4, height / 8, width / 8) stand for."""
    vae = model.pipeline.vae
    with torch.inference_mode():
        pixels = vae.decode(latents[None].to(vae.dtype) / vae.config.scaling_factor, return_dict=False)[0][0]
    scaled = (pixels / 2 + 0.5).clamp(0, 1).nan_to_num() * 255
    return Image.fromarray(scaled.round().to(torch.uint8).permute(1, 2, 0).cpu().numpy())
