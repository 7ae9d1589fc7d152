"""The pipelines: one file per task, all of one signature.

    draw(model, spec, shots, on_step=…) -> one PIL image per shot

`spec` gives what the shots share, each shot what is its own. `on_step` is called after every evaluation of the
network; what it raises ends the call at once. `tasks.DRAW` maps each task to its function, `calls` is what they share.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.Image import Image

StepHook = Callable[[], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Shot:
    """One image to draw."""

    prompt: str
    negative_prompt: str
    seed: int
    #: How the prompts' brackets are read, and how many layers of the text encoder are skipped.
    weighting: str = "none"
    clip_skip: int = 0
    #: RGB, of the spec's width and height; all tasks but text to image need it.
    image: Image | None = None
    #: L, of the same size: 255 where to paint, 0 where to keep.
    mask: Image | None = None
    #: What each of the spec's `controlnets_used` looks at: float32 of shape (height, width, 3), see `controlnet.hints`.
    hints: tuple[Any, ...] = ()
    #: Told, after each evaluation of the network, how many there were and the latents of this image.
    watch: Callable[[int, Any], None] | None = None


class DeviceBroken(Exception):
    """The device answers nothing any more in this process; another process may fare better."""


class Interrupted(Exception):
    """Raised by `on_step` to end a call: nobody wants its pictures any more."""
