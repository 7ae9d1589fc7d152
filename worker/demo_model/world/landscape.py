"""Landscapes: a sky, what shines in it, the land below and one thing in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from random import Random

import numpy as np

from worker.demo_model import vocabulary as words
from worker.demo_model.world import shapes
from worker.demo_model.world.canvas import Canvas, Colour, Layer, mix
from worker.demo_model.world.captions import Landscape
from worker.demo_model.world.shapes import Field
from worker.demo_model.world.styles import Style


def _rgb(red: int, green: int, blue: int) -> Colour:
    return np.array([red, green, blue], np.float32) / np.float32(255)


#: Colours of the sky at its top and at the horizon.
_SKIES: dict[str, tuple[Colour, Colour]] = {
    "sunny day": (_rgb(70, 150, 235), _rgb(190, 225, 250)),
    "cloudy day": (_rgb(130, 145, 165), _rgb(205, 212, 220)),
    "golden sunset": (_rgb(120, 60, 130), _rgb(255, 180, 80)),
    "starry night": (_rgb(12, 16, 48), _rgb(50, 62, 120)),
}
#: How dark the land lies under each sky.
_DUSK: dict[str, float] = {"sunny day": 0.0, "cloudy day": 0.15, "golden sunset": 0.3, "starry night": 0.6}
_NIGHT = _rgb(14, 18, 46)
_HORIZON = 0.62
#: No star stands where the moon does.
_MOON_LEFT, _MOON_BOTTOM = 0.62, 0.36

_LANDS: dict[str, tuple[Colour, Colour]] = {
    "green hills": (_rgb(120, 185, 90), _rgb(62, 140, 66)),
    "the calm sea": (_rgb(52, 120, 190), _rgb(30, 88, 160)),
    "snowy mountains": (_rgb(120, 132, 155), _rgb(235, 240, 248)),
    "a sandy desert": (_rgb(236, 202, 132), _rgb(220, 172, 98)),
}


def landscape_layers(canvas: Canvas, scene: Landscape, *, random: Random, style: Style) -> Iterator[Layer]:
    """Paint the sky (in `style`), then give the layers in front of it, back to front."""
    _paint_sky(canvas, scene.time)
    style.ground(canvas)
    yield from _heaven(canvas, scene.time, random)
    yield from _land(canvas, scene, random)
    if scene.thing:
        yield from _THINGS[scene.thing](canvas, _under_sky(_thing_colour(scene), scene.time, share=0.5), random)


def _paint_sky(canvas: Canvas, time: str) -> None:
    top, horizon = _SKIES[time]
    down = np.clip(canvas.py / (_HORIZON * canvas.height), 0, 1)[..., None]
    canvas.pixels[:] = top + down * (horizon - top)


def _thing_colour(scene: Landscape) -> Colour:
    return np.array(words.COLOURS[scene.colour or "green"], np.float32) / np.float32(255)


def _under_sky(colour: Colour, time: str, *, share: float = 1.0) -> Colour:
    return mix(colour, _NIGHT, _DUSK[time] * share)


def _heaven(canvas: Canvas, time: str, random: Random) -> Iterator[Layer]:
    if time == "sunny day":
        yield canvas.layer(shapes.circle, _rgb(255, 222, 80), centre=(0.8, 0.17), radius=0.09)
    elif time == "golden sunset":
        yield canvas.layer(shapes.circle, _rgb(255, 232, 140), centre=(0.5, _HORIZON - 0.04), radius=0.14)
    elif time == "starry night":
        yield canvas.layer(_crescent, _rgb(250, 244, 208), centre=(0.78, 0.2), radius=0.1)
        for column in range(5):
            spot = (0.08 + 0.2 * column + random.uniform(-0.04, 0.04), random.uniform(0.06, 0.45))
            if spot[0] < _MOON_LEFT or spot[1] > _MOON_BOTTOM:
                yield canvas.layer(shapes.star, _rgb(255, 250, 220), centre=spot, radius=0.022, solid=False)
    if time in {"sunny day", "cloudy day"}:
        white = _rgb(252, 252, 252) if time == "sunny day" else _rgb(168, 176, 190)
        spots = ((0.25, 0.2), (0.58, 0.32)) if time == "sunny day" else ((0.2, 0.16), (0.56, 0.24), (0.85, 0.12))
        for x, y in spots:
            spot = (x + random.uniform(-0.05, 0.05), y + random.uniform(-0.03, 0.03))
            yield canvas.layer(_cloud, white, centre=spot, radius=0.13, solid=False)


def _land(canvas: Canvas, scene: Landscape, random: Random) -> Iterator[Layer]:
    far, near = (_under_sky(colour, scene.time) for colour in _LANDS[scene.land])
    phase = random.uniform(0, 6)
    if scene.land == "the calm sea":
        yield _ridge(canvas, far, level=_HORIZON, wave=lambda x: 0 * x)
        for index in range(4):
            level = 0.69 + 0.075 * index
            yield _ridge(canvas, mix(far, near, (index + 1) / 4), level=level, wave=partial(_ripple, turn=index))
    elif scene.land == "snowy mountains":
        yield _ridge(canvas, near, level=0.52, wave=lambda x: 0.17 * _zigzag(x * 2.2 + phase))
        yield _ridge(canvas, far, level=0.61, wave=lambda x: 0.17 * _zigzag(x * 2.2 + phase))
        yield _ridge(canvas, mix(near, far, 0.25), level=0.82, wave=lambda x: 0.02 * np.sin(x * 6 + phase))
    else:
        height, speed = (0.06, 5.0) if scene.land == "green hills" else (0.035, 7.0)
        yield _ridge(canvas, far, level=0.64, wave=lambda x: height * np.sin(x * speed + phase))
        yield _ridge(canvas, near, level=0.78, wave=lambda x: 0.8 * height * np.sin(x * speed * 0.8 + phase + 2))


def _ridge(canvas: Canvas, colour: Colour, *, level: float, wave: Callable[[Field], Field]) -> Layer:
    """Everything below a wavy line."""
    x = canvas.px / np.float32(canvas.width)
    line = (np.float32(level) - wave(x).astype(np.float32)) * canvas.height
    zero = np.zeros_like(canvas.px)
    return Layer(
        distance=line - canvas.py, colour=colour, x=zero, y=zero, radius=canvas.unit / 4, solid=False
    )  # fmt: skip


def _ripple(x: Field, *, turn: int) -> Field:
    return np.asarray(0.006 * np.sin(x * 30 + turn), np.float32)


def _zigzag(x: Field) -> Field:
    return np.abs((x % 1) * 2 - 1)


def _crescent(x: Field, y: Field) -> Field:
    return np.maximum(shapes.circle(x, y), -shapes.circle(x + 0.45, y + 0.15))


def _cloud(x: Field, y: Field) -> Field:
    puffs = [shapes.circle((x - cx) / r, (y - cy) / r) * r for cx, cy, r in ((-0.55, 0.1, 0.38), (0, -0.1, 0.5))]
    puffs.append(shapes.circle((x - 0.55) / 0.4, (y - 0.08) / 0.4) * np.float32(0.4))
    return np.asarray(np.minimum(np.minimum(puffs[0], puffs[1]), puffs[2]), np.float32)


def _throat(x: Field, y: Field) -> Field:
    """Outline the cone between a balloon's envelope and its basket."""
    sides = (np.abs(x) - np.float32(0.18) - (np.float32(1.27) - y) * np.float32(0.75)) * np.float32(0.8)
    return np.asarray(np.maximum(sides, np.maximum(y - 1.27, 0.5 - y)), np.float32)


def _house(canvas: Canvas, colour: Colour, random: Random) -> Iterator[Layer]:
    spot = (random.uniform(0.35, 0.6), 0.72)
    dark = mix(colour, _NIGHT, 0.55)

    def part(shape: shapes.Distance, tone: Colour) -> Layer:
        return canvas.layer(shape, tone, centre=spot, radius=0.15)

    yield part(lambda x, y: shapes.box(x, y - 0.25, half_width=0.7, half_height=0.6), colour)
    yield part(lambda x, y: shapes.triangle(x / 1.15, (y + 0.72) / 0.8) * np.float32(0.8), dark)
    yield part(lambda x, y: shapes.box(x + 0.3, y - 0.5, half_width=0.17, half_height=0.35), dark)
    yield part(lambda x, y: shapes.box(x - 0.32, y - 0.25, half_width=0.19, half_height=0.19), _rgb(255, 236, 150))


def _tree(canvas: Canvas, colour: Colour, random: Random) -> Iterator[Layer]:
    spot = (random.uniform(0.3, 0.6), 0.66)

    def part(shape: shapes.Distance, tone: Colour) -> Layer:
        return canvas.layer(shape, tone, centre=spot, radius=0.17)

    yield part(lambda x, y: shapes.box(x, y - 0.6, half_width=0.13, half_height=0.5), _rgb(104, 66, 38))
    yield part(lambda x, y: shapes.circle(x / 0.75, (y + 0.3) / 0.75) * np.float32(0.75), mix(colour, _NIGHT, 0.15))


def _sail(x: Field, y: Field) -> Field:
    size = np.float32(0.62)
    return shapes.triangle((x - 0.36) / size, (y + 0.12) / size) * size


def _boat(canvas: Canvas, colour: Colour, random: Random) -> Iterator[Layer]:
    spot = (random.uniform(0.35, 0.65), 0.68)

    def part(shape: shapes.Distance, tone: Colour) -> Layer:
        return canvas.layer(shape, tone, centre=spot, radius=0.17)

    def hull(x: Field, y: Field) -> Field:
        return np.asarray(np.maximum(shapes.circle(x / 0.9, (y - 0.25) / 0.9) * 0.9, 0.38 - y), np.float32)

    yield part(lambda x, y: shapes.box(x, y + 0.25, half_width=0.04, half_height=0.65), _rgb(104, 66, 38))
    yield part(_sail, _rgb(250, 246, 236))
    yield part(hull, colour)


def _balloon(canvas: Canvas, colour: Colour, random: Random) -> Iterator[Layer]:
    spot = (random.uniform(0.35, 0.55), random.uniform(0.28, 0.36))

    def part(shape: shapes.Distance, tone: Colour, pattern: str | None = None) -> Layer:
        return canvas.layer(shape, tone, centre=spot, radius=0.17, pattern=pattern)

    yield part(_throat, mix(colour, _NIGHT, 0.35))
    yield part(lambda x, y: shapes.box(x, y - 1.42, half_width=0.2, half_height=0.16), _rgb(120, 78, 44))
    yield part(lambda x, y: shapes.circle(x, y) * np.float32(1), colour, "striped")


_THINGS = {"house": _house, "tree": _tree, "boat": _boat, "balloon": _balloon}
