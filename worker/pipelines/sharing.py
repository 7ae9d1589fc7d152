"""diffusers' pipelines for tasks with an image, around the networks that are loaded already.

Made anew for each call: that takes 0.3 ms, and whatever is swapped in the model meanwhile is seen. `from_pipe`, which
does the same, casts every network on the way: 10 ms, and a line in the log for each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from diffusers import (
    StableDiffusionControlNetImg2ImgPipeline,
    StableDiffusionControlNetInpaintPipeline,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionInpaintPipeline,
)

if TYPE_CHECKING:
    from worker.engine import Model

Kind = TypeVar("Kind")


class AtLeastOneStep:
    """Runs one step where strength leaves none: diffusers runs int(steps * strength), and fails at 0."""

    def get_timesteps(self, num_inference_steps: int, strength: float, device: Any) -> tuple[Any, int]:
        """Return the timesteps that run, and how many steps they are."""
        # One and a half, for 49 * (1 / 49) is less than 1.
        least = min(1.0, 1.5 / num_inference_steps)
        found: tuple[Any, int] = super().get_timesteps(  # type: ignore[misc]
            num_inference_steps, max(strength, least), device
        )
        return found


class ImageToImage(AtLeastOneStep, StableDiffusionImg2ImgPipeline):
    """diffusers' image-to-image, with at least one step."""


class Inpaint(AtLeastOneStep, StableDiffusionInpaintPipeline):
    """diffusers' inpainting, with at least one step."""


class ControlledImageToImage(AtLeastOneStep, StableDiffusionControlNetImg2ImgPipeline):
    """diffusers' image-to-image with ControlNets, with at least one step."""


class ControlledInpaint(AtLeastOneStep, StableDiffusionControlNetInpaintPipeline):
    """diffusers' inpainting with ControlNets, with at least one step."""

    #: The image's latents where they are known: unlike its sibling, the pipeline takes none.
    known_latents: Any = None

    def _encode_vae_image(self, image: Any, generator: Any) -> Any:
        if self.known_latents is not None:
            return self.known_latents
        return super()._encode_vae_image(image, generator)


def pipeline_of(kind: type[Kind], model: Model, *, scheduler: Any, **more: Any) -> Kind:
    """Return a pipeline of that class around the model's own networks and `more`, none of them copied."""
    components = {**model.pipeline.components, **more}
    pipeline: Any = kind(**components, requires_safety_checker=False)  # type: ignore[call-arg]
    # Not given to the class, which would change the configuration of some.
    pipeline.scheduler = scheduler
    pipeline.set_progress_bar_config(disable=True)
    found: Kind = pipeline
    return found
