"""Image to image: diffusers' StableDiffusionImg2ImgPipeline with our prompts, schedulers and generators.

With ControlNets it is diffusers' StableDiffusionControlNetImg2ImgPipeline.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from PIL import Image

from worker.guidance import clip_guidance
from worker.pipelines import Shot, StepHook
from worker.pipelines.calls import arguments, init_image, paint_all, scheduler
from worker.pipelines.control import hints, networks, steering
from worker.pipelines.inversion import invert, inverts
from worker.pipelines.sharing import ControlledImageToImage, ImageToImage, pipeline_of

if TYPE_CHECKING:
    from shared.spec import JobSpec
    from worker.engine import Model


def draw(model: Model, spec: JobSpec, shots: Sequence[Shot], *, on_step: StepHook) -> list[Image.Image]:
    """Return one picture per shot, in order; raises what `paint_all` raises.

    At strength 0 no step runs, and the pictures are the init images.
    """
    if not spec.steps_used:
        return [init_image(shot).copy() for shot in shots]

    def paint(some: Sequence[Shot]) -> Any:
        fresh = scheduler(model, spec, some)
        image: Any = [init_image(shot) for shot in some]
        options = arguments(model, spec, some, on_step=on_step)
        pipeline: Any
        if spec.controlnets_used:
            nets = networks(model, spec)
            pipeline = pipeline_of(ControlledImageToImage, model, scheduler=fresh, controlnet=nets)
            options |= {"control_image": hints(some), **steering(spec)}
        else:
            pipeline = pipeline_of(ImageToImage, model, scheduler=fresh)
        if inverts(pipeline.scheduler):
            image = invert(pipeline, spec, image, options["prompt_embeds"], on_step=on_step)[0]
        with clip_guidance(model, spec, some, fresh):
            return pipeline(image=image, strength=spec.strength_used, **options).images

    return paint_all(model, shots, paint)
