"""Text to image: diffusers' StableDiffusionPipeline with our prompts, schedulers and generators.

With ControlNets it is diffusers' StableDiffusionControlNetPipeline.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from diffusers import StableDiffusionControlNetPipeline
from PIL import Image

from worker.guidance import clip_guidance
from worker.pipelines import Shot, StepHook
from worker.pipelines.calls import arguments, paint_all, scheduler, token_length
from worker.pipelines.control import hints, networks, steering
from worker.pipelines.sharing import pipeline_of

if TYPE_CHECKING:
    from shared.spec import JobSpec
    from worker.engine import Model

__all__ = ["draw", "token_length"]


def draw(model: Model, spec: JobSpec, shots: Sequence[Shot], *, on_step: StepHook) -> list[Image.Image]:
    """Return one picture per shot, in order; raises what `paint_all` raises."""

    def paint(some: Sequence[Shot]) -> Any:
        options = {"width": spec.width, "height": spec.height, **arguments(model, spec, some, on_step=on_step)}
        fresh = scheduler(model, spec, some)
        if not spec.controlnets_used:
            model.pipeline.scheduler = fresh
            with clip_guidance(model, spec, some, fresh):
                return model.pipeline(**options).images
        pipeline: Any = pipeline_of(
            StableDiffusionControlNetPipeline,
            model,
            scheduler=fresh,
            controlnet=networks(model, spec),
        )
        with clip_guidance(model, spec, some, fresh):
            return pipeline(image=hints(some), **steering(spec), **options).images

    return paint_all(model, shots, paint)
