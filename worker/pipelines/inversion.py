"""What DDIM inversion asks of the tasks with an image: init latents walked up to noise before the pipeline runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from worker.pipelines import StepHook
from worker.samplers.ddim_inversion import DDIMInverseScheduler, unet_prediction

if TYPE_CHECKING:
    from PIL.Image import Image

    from shared.spec import JobSpec


def inverts(scheduler: Any) -> bool:
    """Whether `invert` has to come before the pipeline's call."""
    return isinstance(scheduler, DDIMInverseScheduler)


def invert(
    pipeline: Any, spec: JobSpec, images: Sequence[Image], embeddings: Any, *, on_step: StepHook
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the images' latents and what they are once inverted, each of shape (images, 4, height / 8, width / 8).

    The latents are the mean that the VAE encodes to, not a sample around it: the seed has no effect.
    """
    vae = pipeline.vae
    pixels = pipeline.image_processor.preprocess(list(images)).to(device=vae.device, dtype=vae.dtype)
    encoded = [vae.encode(pixels[index : index + 1]).latent_dist.mode() for index in range(len(pixels))]
    latents = torch.cat(encoded) * vae.config.scaling_factor
    predict = unet_prediction(pipeline.unet, embeddings)

    def counted(sample: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        output = predict(sample, timestep)
        on_step()
        return output

    noisy = pipeline.scheduler.invert(latents, counted, steps=spec.num_inference_steps, strength=spec.strength_used)
    return latents, noisy
