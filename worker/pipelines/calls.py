"""What all tasks share: a call of one of diffusers' pipelines, and what is done where it fails."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import structlog
import torch
from PIL import Image

from shared.errors import GenerationFailed, OutOfMemory
from worker.pipelines import DeviceBroken, Shot, StepHook

if TYPE_CHECKING:
    from shared.spec import JobSpec
    from worker.engine import Model
    from worker.prompt import Embeddings

#: Shots to floats from 0 to 1 of shape (shots, height, width, 3).
Paint = Callable[[Sequence[Shot]], Any]

log = structlog.get_logger(__name__)


def paint_all(model: Model, shots: Sequence[Shot], paint: Paint) -> list[Image.Image]:
    """Return one picture per shot, in order. Only shots of equal `token_length` may come together.

    Half precision ends where numbers exceed 65,504: shots whose result is not a number are painted once more in single
    precision.

    Raises `GenerationFailed` where the result is not a number even then, `OutOfMemory` where even half of the shots at
    a time do not fit the device, and `DeviceBroken` where it fails for good, as CUDA does after one illegal access.
    """
    painted = _paint_in_halves(shots, paint)
    lost = [index for index, pixels in enumerate(painted) if not np.isfinite(pixels).all()]
    if lost and model.can_be_more_precise:
        log.warning("pipeline.not_a_number", seeds=[shots[index].seed for index in lost])
        again = _paint_precisely(model, [shots[index] for index in lost], paint)
        for index, pixels in zip(lost, again, strict=True):
            painted[index] = pixels
    if not all(np.isfinite(pixels).all() for pixels in painted):
        raise GenerationFailed("the model's output is not a number; try another scheduler or more steps")
    # Rounded as diffusers rounds for PIL.
    return [Image.fromarray((pixels * 255).round().astype("uint8")) for pixels in painted]


def token_length(model: Model, shot: Shot) -> int:
    """Return the length of a shot's text embedding; longer prompts have more chunks."""
    with torch.inference_mode():
        return embeddings(model, shot).tokens


def embeddings(model: Model, shot: Shot) -> Embeddings:
    """Return a shot's prompts as the network takes them."""
    return model.embeddings(shot.prompt, shot.negative_prompt, weighting=shot.weighting, clip_skip=shot.clip_skip)


def init_image(shot: Shot) -> Image.Image:
    """Return the image a shot starts from; `ValueError` where it has none."""
    if shot.image is None:
        raise ValueError("this task needs an image")
    return shot.image


def arguments(model: Model, spec: JobSpec, shots: Sequence[Shot], *, on_step: StepHook) -> dict[str, Any]:
    """Return what every one of diffusers' pipelines is called with."""
    encoded = [embeddings(model, shot) for shot in shots]

    def stepped(_pipeline: Any, index: int, _timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        on_step()
        for place, shot in enumerate(shots):
            if shot.watch is not None:
                shot.watch(index + 1, tensors["latents"][place])
        return tensors

    return {
        "prompt_embeds": torch.cat([one.positive for one in encoded]),
        "negative_prompt_embeds": torch.cat([one.negative for one in encoded]),
        "num_inference_steps": spec.num_inference_steps,
        "guidance_scale": spec.guidance_scale,
        # On the CPU whatever the device: a seed means the same noise everywhere.
        "generator": [torch.Generator("cpu").manual_seed(shot.seed) for shot in shots],
        "output_type": "np",
        "callback_on_step_end": stepped,
    }


def scheduler(model: Model, spec: JobSpec, shots: Sequence[Shot]) -> Any:
    """Return a new scheduler for one call with these shots."""
    return model.scheduler(spec, [shot.seed for shot in shots])


def _paint_precisely(model: Model, shots: Sequence[Shot], paint: Paint) -> list[Any]:
    try:
        with model.single_precision():
            return _paint_in_halves(shots, paint)
    except torch.OutOfMemoryError as error:  # the weights alone are too large
        raise OutOfMemory from error


def _paint_in_halves(shots: Sequence[Shot], paint: Paint) -> list[Any]:
    """Paint all shots in one call or, where memory does not suffice, in two."""
    try:
        return _paint(shots, paint)
    except torch.OutOfMemoryError as error:
        if len(shots) == 1:
            raise OutOfMemory from error
    torch.cuda.empty_cache()
    middle = (len(shots) + 1) // 2
    try:
        return _paint(shots[:middle], paint) + _paint(shots[middle:], paint)
    except torch.OutOfMemoryError as error:
        raise OutOfMemory from error


def _paint(shots: Sequence[Shot], paint: Paint) -> list[Any]:
    try:
        with torch.inference_mode():
            return list(paint(shots))
    except torch.AcceleratorError as error:
        raise DeviceBroken from error
