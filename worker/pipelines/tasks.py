"""Which function draws which task."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from shared.spec import Task
from worker.pipelines import image_to_image, inpaint, outpaint, text_to_image

#: task -> draw(model, spec, shots, on_step=…)
DRAW: Final[dict[Task, Callable[..., Any]]] = {
    Task.TEXT_TO_IMAGE: text_to_image.draw,
    Task.IMAGE_TO_IMAGE: image_to_image.draw,
    Task.INPAINT: inpaint.draw,
    Task.OUTPAINT: outpaint.draw,
}
