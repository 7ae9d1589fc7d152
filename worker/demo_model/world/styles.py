"""How each style preset is drawn: the same scene, painted another way.

A style is four hooks, each optional: the ground before anything is laid on it, what lies beneath a solid layer, how a
layer is filled (and lined), and what is done to the finished picture.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

from worker.demo_model.world.canvas import BLACK, WHITE, Canvas, Layer, coverage, mix, shift
from worker.demo_model.world.shapes import Field

#: Mean of a colour above which its pattern is darker, not lighter.
_BRIGHT = 0.6
#: Where the darker of the two flat tones begins, along the diagonal, in radii.
_ANIME_SHADE_FROM = 0.25

Pixels = npt.NDArray[np.float32]


def _nothing(canvas: Canvas) -> None:
    pass


def _no_underlay(canvas: Canvas, layer: Layer) -> None:
    pass


def pattern_fill(layer: Layer) -> Pixels:
    """Give the layer's colour, (h, w, 3) or (3,), with its stripes, dots or checks in a lighter or darker tone."""
    if layer.pattern is None:
        return layer.colour
    u, v = layer.x * 2.5, layer.y * 2.5
    if layer.pattern == "striped":
        wave = np.sin(np.pi * 2 * u)
    elif layer.pattern == "checkered":
        wave = np.sin(np.pi * u) * np.sin(np.pi * v) * 4
    else:
        wave = 0.3 - np.hypot((u * 1.2) % 1 - 0.5, (v * 1.2) % 1 - 0.5)
        wave *= 8
    other = mix(layer.colour, WHITE if layer.colour.mean() < _BRIGHT else BLACK, 0.75)
    amount = np.clip(0.5 + wave * layer.radius / 12, 0, 1).astype(np.float32)
    return np.asarray(layer.colour + amount[..., None] * (other - layer.colour), np.float32)


def _flat(canvas: Canvas, layer: Layer) -> None:
    canvas.blend(pattern_fill(layer), coverage(layer.distance))


@dataclass(frozen=True, kw_only=True)
class Style:
    """The hooks of one style; the defaults draw flat."""

    ground: Callable[[Canvas], None] = _nothing
    beneath: Callable[[Canvas, Layer], None] = _no_underlay
    fill: Callable[[Canvas, Layer], None] = _flat
    finish: Callable[[Canvas], None] = _nothing


def paint(canvas: Canvas, layer: Layer, style: Style) -> None:
    """Lay one layer on the canvas in the given style."""
    if layer.solid:
        style.beneath(canvas, layer)
    style.fill(canvas, layer)


def _shade(canvas: Canvas, layer: Layer, tone: Field) -> None:
    """Fill with the colour made darker (tone < 0) or lighter (> 0)."""
    base = np.broadcast_to(pattern_fill(layer), canvas.pixels.shape)
    target = np.where(tone[..., None] > 0, WHITE, BLACK)
    amount = np.clip(np.abs(tone), 0, 1)[..., None]
    canvas.blend((base + amount * (target - base)).astype(np.float32), coverage(layer.distance))


def _outline(canvas: Canvas, layer: Layer, *, width: float, colour: Pixels = BLACK) -> None:
    """Draw a line of `width` (fraction of the shorter side) on the shape's edge."""
    canvas.blend(colour, coverage(np.abs(layer.distance) - np.float32(width * canvas.unit / 2)))


def _shadow(canvas: Canvas, layer: Layer, *, reach: float, softness: float, strength: float) -> None:
    moved = shift(layer.distance, right=reach * layer.radius, down=reach * layer.radius)
    soft = np.clip(0.5 - moved / np.float32(max(softness * layer.radius, 1)), 0, 1)
    canvas.blend(BLACK, soft * np.float32(strength))


def _vertical(canvas: Canvas) -> Field:
    """0 at the top edge, 1 at the bottom."""
    return np.asarray(canvas.py / canvas.height, np.float32)


def _from_centre(canvas: Canvas) -> Field:
    """0 at the centre, about 1 at the corners."""
    x, y = canvas.px / canvas.width - 0.5, canvas.py / canvas.height - 0.5
    return np.asarray(np.hypot(x, y) * 2**0.5, np.float32)


def _model_fill(canvas: Canvas, layer: Layer) -> None:
    light = -(layer.x + layer.y) * np.float32(0.35)
    spot = np.exp(-((layer.x + 0.32) ** 2 + (layer.y + 0.36) ** 2) / 0.05) * np.float32(0.55)
    _shade(canvas, layer, np.clip(light, -0.55, 0.3) + spot)


def _clay_fill(canvas: Canvas, layer: Layer) -> None:
    edge = np.clip(-layer.distance / np.float32(0.35 * layer.radius), 0, 1)
    marks = np.sin(layer.x * 7) * np.sin(layer.y * 7 + 1) * np.float32(0.12)
    _shade(canvas, layer, (edge - 1) * np.float32(0.5) + marks - (layer.x + layer.y) * np.float32(0.12))


def _anime_fill(canvas: Canvas, layer: Layer) -> None:
    _shade(canvas, layer, np.where(layer.x + layer.y > _ANIME_SHADE_FROM, np.float32(-0.3), np.float32(0)))
    _outline(canvas, layer, width=0.012)


def _comic_fill(canvas: Canvas, layer: Layer) -> None:
    _flat(canvas, layer)
    _outline(canvas, layer, width=0.024)


def _halftone(canvas: Canvas) -> None:
    step = canvas.unit / 20
    x, y = canvas.px + canvas.py, canvas.px - canvas.py
    dots = np.hypot(x % (2 * step) - step, y % (2 * step) - step) / 2**0.5
    radius = step * (0.2 + 0.5 * _vertical(canvas))
    canvas.blend(BLACK, coverage(dots.astype(np.float32) - radius.astype(np.float32)) * np.float32(0.45))


def _painting_fill(canvas: Canvas, layer: Layer) -> None:
    base = pattern_fill(layer)
    turned = np.roll(base, 1, axis=-1)
    down = np.clip(layer.y / 2 + 0.5, 0, 1)[..., None]
    canvas.blend((base + down * np.float32(0.6) * (turned - base)).astype(np.float32), coverage(layer.distance))


def _painting_ground(canvas: Canvas) -> None:
    canvas.blend(WHITE, (1 - _vertical(canvas)) * np.float32(0.4))
    canvas.blend(BLACK, _vertical(canvas) * np.float32(0.35))


def _contrast(canvas: Canvas) -> None:
    canvas.pixels[:] = np.clip((canvas.pixels - 0.5) * 1.5 + 0.5, 0, 1)


def _crisp_fill(canvas: Canvas, layer: Layer) -> None:
    _outline(canvas, layer, width=0.03, colour=WHITE)
    _flat(canvas, layer)


def _glow(canvas: Canvas, layer: Layer) -> None:
    halo = np.exp(-np.maximum(layer.distance, 0) / np.float32(0.35 * layer.radius))
    canvas.blend(np.array([1, 0.97, 0.8], np.float32), halo * np.float32(0.85))


def _mist(canvas: Canvas) -> None:
    haze = np.clip(_vertical(canvas) * 1.6 - 0.7, 0, 1) * np.float32(0.65)
    canvas.blend(np.array([0.88, 0.86, 0.96], np.float32), haze.astype(np.float32))


def _extrude(canvas: Canvas, layer: Layer) -> None:
    steps = max(round(layer.radius * 0.4), 2)
    right = [(step, step * 0.5) for step in range(steps)]
    for index, (dx, dy) in enumerate(reversed(right)):
        tone = mix(layer.colour, BLACK, 0.6 if index < steps * 0.5 else 0.4)
        canvas.blend(tone, coverage(shift(layer.distance, right=dx, down=dy)))


def _line_fill(canvas: Canvas, layer: Layer) -> None:
    _outline(canvas, layer, width=0.02, colour=layer.colour)


def _facets(canvas: Canvas) -> None:
    size = canvas.unit / 8
    u, v = canvas.px / size, canvas.py / size
    half = (u % 1 + v % 1 > 1).astype(np.float32)
    key = np.floor(u) * 12.9898 + np.floor(v) * 78.233 + half * 37.719
    tone = ((np.sin(key) * 43758.5453) % 1 - 0.5).astype(np.float32) * np.float32(0.45)
    target = np.where(tone[..., None] > 0, WHITE, BLACK)
    canvas.pixels += np.abs(tone)[..., None] * (target - canvas.pixels)


def _neon_ground(canvas: Canvas) -> None:
    canvas.blend(np.array([0.03, 0.02, 0.07], np.float32), np.full_like(canvas.px, 0.9))


def _neon_fill(canvas: Canvas, layer: Layer) -> None:
    away = np.abs(layer.distance)
    bright = mix(layer.colour, WHITE, 0.25)
    canvas.blend(bright, np.exp(-away / np.float32(0.045 * canvas.unit)) * np.float32(0.75))
    canvas.blend(mix(layer.colour, WHITE, 0.75), coverage(away - np.float32(0.008 * canvas.unit)))


def _folded_fill(canvas: Canvas, layer: Layer) -> None:
    sector = np.floor(np.arctan2(layer.y, layer.x) / (np.pi / 4) + 0.5)
    _shade(canvas, layer, np.where(sector % 2 == 0, np.float32(0.22), np.float32(-0.22)))


def _film(canvas: Canvas) -> None:
    faded = canvas.pixels * np.array([0.72, 0.66, 0.52], np.float32) + np.array([0.2, 0.16, 0.12], np.float32)
    canvas.pixels[:] = faded
    canvas.blend(BLACK, np.clip(_from_centre(canvas) - 0.35, 0, 1) * np.float32(0.8))
    grain = (np.sin(canvas.px * 12.9898 + canvas.py * 78.233) * 43758.5453) % 1 - 0.5
    canvas.pixels += grain[..., None].astype(np.float32) * np.float32(0.08)


def _film_still(canvas: Canvas) -> None:
    canvas.blend(np.array([0.02, 0.07, 0.12], np.float32), np.clip(_from_centre(canvas) - 0.15, 0, 0.75))
    bars = np.abs(_vertical(canvas) - 0.5) - np.float32(0.37)
    canvas.blend(np.zeros(3, np.float32), coverage(-bars * canvas.height))


def _photo_finish(canvas: Canvas) -> None:
    canvas.blend(WHITE, np.clip(0.35 - _vertical(canvas) * 0.7, 0, 1))
    canvas.blend(BLACK, np.clip(_from_centre(canvas) - 0.4, 0, 1) * np.float32(0.5))
    sigma = canvas.unit / 256
    canvas.pixels[:] = gaussian_filter(canvas.pixels, sigma=(sigma, sigma, 0))


def _blocks(canvas: Canvas) -> None:
    block = max(canvas.unit // 32, 1)
    rows = np.minimum(np.arange(canvas.height) // block * block + block // 2, canvas.height - 1)
    columns = np.minimum(np.arange(canvas.width) // block * block + block // 2, canvas.width - 1)
    canvas.pixels[:] = canvas.pixels[rows][:, columns]


PLAIN = Style()

BY_NAME: dict[str, Style] = {
    "3d-model": Style(
        beneath=lambda canvas, layer: _shadow(canvas, layer, reach=0.28, softness=0.5, strength=0.5), fill=_model_fill
    ),
    "analog-film": Style(finish=_film),
    "anime": Style(fill=_anime_fill),
    "cinematic": Style(finish=_film_still),
    "comic-book": Style(ground=_halftone, fill=_comic_fill),
    "digital-art": Style(ground=_painting_ground, fill=_painting_fill),
    "enhance": Style(fill=_crisp_fill, finish=_contrast),
    "fantasy-art": Style(beneath=_glow, finish=_mist),
    "isometric": Style(beneath=_extrude),
    "line-art": Style(fill=_line_fill),
    "low-poly": Style(finish=_facets),
    "modeling-compound": Style(fill=_clay_fill),
    "neon-punk": Style(ground=_neon_ground, fill=_neon_fill),
    "origami": Style(fill=_folded_fill),
    "photographic": Style(
        beneath=lambda canvas, layer: _shadow(canvas, layer, reach=0.15, softness=0.9, strength=0.4),
        finish=_photo_finish,
    ),
    "pixel-art": Style(finish=_blocks),
    #: The repetition is the scene's doing (`draw.py`); the fill stays flat.
    "tile-texture": Style(),
}
