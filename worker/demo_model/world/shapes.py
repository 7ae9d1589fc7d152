"""Signed distances to the world's shapes, in the shape's own units.

Every function takes the coordinates (x to the right, y down) of each pixel relative to the shape's centre, divided by
the radius of its bounding circle, and gives the distance to its outline in the same units: negative inside. Source of
the heart: Inigo Quilez, "2D distance functions".
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Field = npt.NDArray[np.float32]
Distance = Callable[[Field, Field], Field]

_SQRT3 = 3**0.5


def circle(x: Field, y: Field) -> Field:
    """Measure a disc of radius 1."""
    return np.hypot(x, y) - np.float32(1)


def square(x: Field, y: Field) -> Field:
    """Measure a square with its sides along the axes."""
    return box(x, y, half_width=0.84, half_height=0.84)


def triangle(x: Field, y: Field) -> Field:
    """Measure an equilateral triangle that points up."""
    sides = np.maximum(np.abs(x) * _SQRT3 - y, 2 * y) / 2
    return np.asarray(sides - 0.5, np.float32)


def diamond(x: Field, y: Field) -> Field:
    """Measure a rhombus, clearly taller than wide."""
    half_width = 0.66
    return np.asarray((np.abs(x) / half_width + np.abs(y) - 1) / np.hypot(1 / half_width, 1), np.float32)


def ring(x: Field, y: Field) -> Field:
    """Measure an annulus with a wide hole."""
    return np.abs(np.hypot(x, y) - np.float32(0.77)) - np.float32(0.22)


def cross(x: Field, y: Field) -> Field:
    """Measure a plus sign."""
    upright = box(x, y, half_width=0.31, half_height=0.95)
    return np.minimum(upright, box(x, y, half_width=0.95, half_height=0.31))


def star(x: Field, y: Field) -> Field:
    """Measure a five-pointed star with one point up."""
    inner, outer = 0.42, 1.0
    sector = 2 * np.pi / 5
    angle = np.mod(np.arctan2(x, -y) + sector / 2, sector) - sector / 2
    radius = np.hypot(x, y)
    px, py = radius * np.cos(angle), radius * np.abs(np.sin(angle))
    # The outline within half a sector is one segment: from the point (outer, 0) to the notch.
    nx, ny = inner * np.cos(sector / 2), inner * np.sin(sector / 2)
    ex, ey = nx - outer, ny
    along = np.clip(((px - outer) * ex + py * ey) / (ex * ex + ey * ey), 0, 1)
    distance = np.hypot(px - outer - along * ex, py - along * ey)
    outside = (px - outer) * ey - py * ex > 0
    return np.asarray(np.where(outside, distance, -distance), np.float32)


def heart(x: Field, y: Field) -> Field:
    """Measure a heart, upright."""
    scale = 0.62
    px, py = np.abs(x) * scale, 0.57 - y * scale
    lobe = np.hypot(px - 0.25, py - 0.75) - 0.125**0.5
    to_top = px**2 + (py - 1) ** 2
    half = np.maximum(px + py, 0) / 2
    to_side = (px - half) ** 2 + (py - half) ** 2
    body = np.sqrt(np.minimum(to_top, to_side)) * np.sign(px - py)
    return np.asarray(np.where(px + py > 1, lobe, body) / scale, np.float32)


def box(x: Field, y: Field, *, half_width: float, half_height: float) -> Field:
    """Measure an upright rectangle; Euclidean outside, so that outlines and glows turn its corners."""
    dx, dy = np.abs(x) - np.float32(half_width), np.abs(y) - np.float32(half_height)
    outside = np.hypot(np.maximum(dx, 0), np.maximum(dy, 0))
    return outside + np.minimum(np.maximum(dx, dy), 0)


BY_NAME: dict[str, Distance] = {
    "circle": circle,
    "square": square,
    "triangle": triangle,
    "star": star,
    "heart": heart,
    "diamond": diamond,
    "ring": ring,
    "cross": cross,
}
