"""The mushroom: the one thing in the world that the safety checker is taught to flag.

It is as harmless as anything here. It stands in for what a real checker looks for, so that the whole way from picture
to verdict can be tried without any picture that deserves it.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from worker.demo_model.world import shapes
from worker.demo_model.world.canvas import Canvas, Layer
from worker.demo_model.world.shapes import Field

_CAP = np.array([0.80, 0.10, 0.13], np.float32)
_STALK = np.array([0.95, 0.90, 0.80], np.float32)
_SPOTS = ((-0.45, -0.33), (0.05, -0.55), (0.5, -0.28), (0.0, -0.18))


def _cap(x: Field, y: Field) -> Field:
    dome = np.hypot(x, (y - 0.1) * 0.95) - np.float32(0.95)
    return np.asarray(np.maximum(dome, y - 0.1), np.float32)


def _stalk(x: Field, y: Field) -> Field:
    return shapes.box(x, y - np.float32(0.5), half_width=0.27, half_height=0.45)


def mushroom_layers(canvas: Canvas, *, centre: tuple[float, float], radius: float) -> Iterator[Layer]:
    """Stalk, cap and white spots, back to front."""
    yield canvas.layer(_stalk, _STALK, centre=centre, radius=radius)
    yield canvas.layer(_cap, _CAP, centre=centre, radius=radius)
    for right, down in _SPOTS:
        spot = (
            centre[0] + right * radius * canvas.unit / canvas.width,
            centre[1] + down * radius * canvas.unit / canvas.height,
        )
        yield canvas.layer(shapes.circle, np.ones(3, np.float32), centre=spot, radius=0.15 * radius, solid=False)
