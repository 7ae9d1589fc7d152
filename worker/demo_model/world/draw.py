"""From a scene to its picture."""

from __future__ import annotations

from random import Random

import numpy as np
import numpy.typing as npt

from worker.demo_model import vocabulary as words
from worker.demo_model.world import shapes, styles
from worker.demo_model.world.canvas import Canvas, Colour
from worker.demo_model.world.captions import Basic, Count, Landscape, Pair, Scene
from worker.demo_model.world.landscape import landscape_layers
from worker.demo_model.world.mushroom import mushroom_layers
from worker.demo_model.world.styles import Style

#: How far an object may lie from its nominal place, as a fraction of the side.
_JITTER = 0.015

_DICE: dict[int, tuple[tuple[float, float], ...]] = {
    2: ((0.28, 0.5), (0.72, 0.5)),
    3: ((0.5, 0.28), (0.26, 0.7), (0.74, 0.7)),
    4: ((0.28, 0.28), (0.72, 0.28), (0.28, 0.72), (0.72, 0.72)),
    5: ((0.24, 0.24), (0.76, 0.24), (0.24, 0.76), (0.76, 0.76), (0.5, 0.5)),
}
_COUNT_RADIUS = 0.145
_PAIR_RADIUS = 0.18
_TILES = 4


def draw(scene: Scene, *, width: int, height: int, random: Random) -> npt.NDArray[np.uint8]:
    """Paint the picture, (height, width, 3); `random` jitters what the caption leaves open."""
    canvas = Canvas(width, height)
    style = styles.BY_NAME[scene.style] if scene.style else styles.PLAIN
    subject = scene.subject
    if isinstance(subject, Landscape):
        for layer in landscape_layers(canvas, subject, random=random, style=style):
            styles.paint(canvas, layer, style)
    else:
        canvas.fill(colour_of(subject.background))
        style.ground(canvas)
        for basic, centre, radius in _placements(subject, style=scene.style, random=random):
            _draw_object(canvas, basic, centre=centre, radius=radius, style=style)
    style.finish(canvas)
    return np.asarray(np.clip(canvas.pixels * 255 + 0.5, 0, 255), np.uint8)


def colour_of(name: str) -> Colour:
    """Look up a named colour, (3,) in 0..1."""
    return np.array(words.COLOURS[name], np.float32) / np.float32(255)


Placement = tuple[Basic, tuple[float, float], float]


def _placements(subject: Basic | Count | Pair, *, style: str | None, random: Random) -> list[Placement]:
    """Each object with its centre (fractions of the sides) and its radius (fraction of the shorter one)."""
    if isinstance(subject, Basic) and style == "tile-texture":
        cells = [(index + 0.5) / _TILES for index in range(_TILES)]
        return [(subject, (x, y), 0.4 / _TILES) for x in cells for y in cells]
    if isinstance(subject, Basic):
        radius = words.SIZES[subject.size] * random.uniform(0.95, 1.05)
        return [(subject, _near(words.POSITIONS[subject.position], random), radius)]
    if isinstance(subject, Count):
        one = Basic(shape=subject.shape, colour=subject.colour, background=subject.background)
        spots = _DICE[words.COUNTS[subject.count]]
        return [(one, _near(spot, random), _COUNT_RADIUS) for spot in spots]
    return _pair_placements(subject, random=random)


def _pair_placements(pair: Pair, *, random: Random) -> list[Placement]:
    low, high = 0.27, 0.73
    spots = {
        "to the left of": ((low, 0.5), (high, 0.5)),
        "to the right of": ((high, 0.5), (low, 0.5)),
        "above": ((0.5, low), (0.5, high)),
        "below": ((0.5, high), (0.5, low)),
    }[pair.relation]
    things = (pair.first, pair.second)
    return [
        (Basic(shape=shape, colour=colour, background=pair.background), _near(spot, random), _PAIR_RADIUS)
        for (colour, shape), spot in zip(things, spots, strict=True)
    ]


def _near(spot: tuple[float, float], random: Random) -> tuple[float, float]:
    return spot[0] + random.uniform(-_JITTER, _JITTER), spot[1] + random.uniform(-_JITTER, _JITTER)


def _draw_object(
    canvas: Canvas, basic: Basic, *, centre: tuple[float, float], radius: float, style: Style
) -> None:  # fmt: skip
    if basic.shape == words.FLAGGED:
        for layer in mushroom_layers(canvas, centre=centre, radius=radius):
            styles.paint(canvas, layer, style)
        return
    layer = canvas.layer(
        shapes.BY_NAME[basic.shape], colour_of(basic.colour), centre=centre, radius=radius, pattern=basic.pattern
    )
    styles.paint(canvas, layer, style)
