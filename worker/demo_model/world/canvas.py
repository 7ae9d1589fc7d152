"""A picture being painted: pixel coordinates, layers and the ways to lay one on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from worker.demo_model.world.shapes import Distance, Field

#: (3,), sRGB in 0..1.
Colour = npt.NDArray[np.float32]

BLACK: Colour = np.array([0.07, 0.07, 0.09], np.float32)
WHITE: Colour = np.array([1, 1, 1], np.float32)


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One shape to lay on the picture."""

    #: (h, w), signed distance to the outline in pixels, negative inside.
    distance: Field
    colour: Colour
    #: (h, w) each: coordinates relative to the shape's centre in units of its radius.
    x: Field
    y: Field
    #: Radius of the bounding circle in pixels.
    radius: float
    pattern: str | None = None
    #: False for land, clouds and the like, which styles do not outline or shade as an object.
    solid: bool = True


class Canvas:
    """The picture, (h, w, 3) in 0..1, with its coordinate grid; `unit` is the shorter side in pixels."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self.unit = min(width, height)
        self.px, self.py = np.meshgrid(
            np.arange(width, dtype=np.float32) + 0.5, np.arange(height, dtype=np.float32) + 0.5
        )
        self.pixels: npt.NDArray[np.float32] = np.zeros((height, width, 3), np.float32)

    def fill(self, colour: Colour) -> None:
        """Paint the whole picture in one colour."""
        self.pixels[:] = colour

    def blend(self, colour: Colour | npt.NDArray[np.float32], alpha: Field) -> None:
        """Lay `colour`, (3,) or (h, w, 3), over the picture as opaque as `alpha`, (h, w) in 0..1."""
        self.pixels += alpha[..., None] * (colour - self.pixels)

    def layer(
        self, shape: Distance, colour: Colour, *, centre: tuple[float, float], radius: float,
        pattern: str | None = None, solid: bool = True,
    ) -> Layer:  # fmt: skip
        """Place a shape of `radius` (fraction of the shorter side) at `centre` (fractions of width and height)."""
        pixels = radius * self.unit
        x = (self.px - centre[0] * self.width) / np.float32(pixels)
        y = (self.py - centre[1] * self.height) / np.float32(pixels)
        return Layer(
            distance=shape(x, y) * np.float32(pixels), colour=colour, x=x, y=y, radius=pixels, pattern=pattern,
            solid=solid,
        )  # fmt: skip


def coverage(distance: Field) -> Field:
    """How much of each pixel lies inside the outline, 0..1: antialiasing over one pixel."""
    return np.asarray(np.clip(0.5 - distance, 0, 1), np.float32)


def shift(field: Field, *, right: float, down: float) -> Field:
    """Move the field by whole pixels; what comes in repeats the edge."""
    dx, dy = round(right), round(down)
    rows = np.clip(np.arange(field.shape[0]) - dy, 0, field.shape[0] - 1)
    columns = np.clip(np.arange(field.shape[1]) - dx, 0, field.shape[1] - 1)
    return field[rows][:, columns]


def mix(first: Colour, second: Colour, amount: float) -> Colour:
    """`amount` of the second colour in the first."""
    return first + np.float32(amount) * (second - first)
