"""Inpainting: diffusers' StableDiffusionInpaintPipeline, whose picture is then pasted under the mask.

The network keeps what the mask leaves black in its latents at every step, so what it paints goes with the rest; but it
decodes all of the picture anew. So black pixels are put back as they were, and every white one is the network's: no
soft seam takes from either.

With ControlNets it is diffusers' StableDiffusionControlNetInpaintPipeline. They look at what is painted: where that is
a part of the picture at full size, at the same part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from PIL import Image

from worker.guidance import clip_guidance
from worker.pipelines import Shot, StepHook
from worker.pipelines.calls import arguments, init_image, paint_all, scheduler
from worker.pipelines.control import hints, networks, steering
from worker.pipelines.inversion import invert, inverts
from worker.pipelines.regions import Box, region, zoomed_in, zoomed_out
from worker.pipelines.sharing import ControlledInpaint, Inpaint, pipeline_of

if TYPE_CHECKING:
    from shared.spec import JobSpec
    from worker.engine import Model


def draw(model: Model, spec: JobSpec, shots: Sequence[Shot], *, on_step: StepHook) -> list[Image.Image]:
    """Return one picture per shot, in order; raises what `paint_all` raises.

    At strength 0 no step runs, and the pictures are the init images.
    """
    if not spec.steps_used:
        return [pair(shot)[0].copy() for shot in shots]
    boxes = [_region(shot, spec) for shot in shots]
    closer = [_zoomed(shot, box) for shot, box in zip(shots, boxes, strict=True)]
    painted = repaint(model, spec, closer, on_step=on_step)
    return [_pasted(shot, picture, box) for shot, picture, box in zip(shots, painted, boxes, strict=True)]


def repaint(model: Model, spec: JobSpec, shots: Sequence[Shot], *, on_step: StepHook) -> list[Image.Image]:
    """Return whole pictures as the pipeline gives them, nothing pasted."""

    def paint(some: Sequence[Shot]) -> Any:
        fresh = scheduler(model, spec, some)
        options = arguments(model, spec, some, on_step=on_step) | {"image": [shot.image for shot in some]}
        pipeline: Any
        if spec.controlnets_used:
            nets = networks(model, spec)
            pipeline = pipeline_of(ControlledInpaint, model, scheduler=fresh, controlnet=nets)
            options |= {"control_image": hints(some), **steering(spec)}
        else:
            pipeline = pipeline_of(Inpaint, model, scheduler=fresh)
        if inverts(fresh):
            latents, options["latents"] = invert(
                pipeline, spec, options["image"], options["prompt_embeds"], on_step=on_step
            )
            if spec.controlnets_used:
                pipeline.known_latents = latents
            else:
                options |= {"image": latents, "masked_image_latents": latents}
        masks = [shot.mask for shot in some]
        size = {"width": spec.width, "height": spec.height}
        with clip_guidance(model, spec, some, fresh):
            return pipeline(mask_image=masks, strength=spec.strength_used, **size, **options).images

    return paint_all(model, shots, paint)


def pair(shot: Shot) -> tuple[Image.Image, Image.Image]:
    """Return a shot's image and mask; both must be there."""
    if shot.mask is None:
        raise ValueError("this task needs a mask")
    return init_image(shot), shot.mask


def _region(shot: Shot, spec: JobSpec) -> Box:
    image, mask = pair(shot)
    if spec.inpaint_full_res:
        return region(mask, spec.inpaint_full_res_padding)
    return (0, 0, *image.size)


def _zoomed(shot: Shot, box: Box) -> Shot:
    image, mask = pair(shot)
    return replace(
        shot,
        image=zoomed_in(image, box, resample=Image.Resampling.LANCZOS),
        mask=zoomed_in(mask, box, resample=Image.Resampling.NEAREST),
    )


def _pasted(shot: Shot, painted: Image.Image, box: Box) -> Image.Image:
    image, mask = pair(shot)
    return Image.composite(zoomed_out(painted, box, over=image), image, mask)
