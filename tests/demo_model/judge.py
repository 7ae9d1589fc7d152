"""A judge of pictures of the basic grammar: `a {size} {colour} {shape} {position} on a {colour} background`.

It looks at pixels and geometry only. It knows the names of the colours, positions and shapes and what they mean, and
nothing of the model that drew the picture.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cache

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from worker.demo_model import vocabulary as words
from worker.demo_model.world import shapes
from worker.demo_model.world.captions import Basic

Picture = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]

#: Width of the frame that is taken for background, as a fraction of the shorter side.
_FRAME = 0.03
#: Smallest object looked at, as a fraction of the picture.
_LEAST_AREA = 0.004
#: Distance in CIELAB below which nothing stands out from the background.
_LEAST_CONTRAST = 12.0
#: Overlap (intersection over union) below which an outline is no shape at all.
_LEAST_OVERLAP = 0.6
_GRID = 96


@dataclass(frozen=True, kw_only=True)
class Sight:
    """What a picture shows; None where nothing stands out."""

    background: str
    colour: str | None
    shape: str | None
    position: str | None


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Which of the four the picture got right."""

    background: bool
    colour: bool
    shape: bool
    position: bool


def look(picture: Picture) -> Sight:
    """What is to be seen on an RGB picture, (h, w, 3)."""
    lab = to_lab(picture)
    ground = _frame_colour(lab)
    background = _nearest_colour(ground)
    mask = _largest_object(np.linalg.norm(lab - ground, axis=-1))
    if mask is None:
        return Sight(background=background, colour=None, shape=None, position=None)
    inner = ndimage.binary_erosion(mask, iterations=2)
    colour = np.median(lab[inner if inner.any() else mask], axis=0)
    return Sight(
        background=background, colour=_nearest_colour(colour), shape=shape_of(mask), position=_position_of(mask)
    )


def judge(picture: Picture, asked: Basic) -> Verdict:
    """The picture against what was asked for."""
    seen = look(picture)
    return Verdict(**{field.name: getattr(seen, field.name) == getattr(asked, field.name) for field in fields(Verdict)})


def rates(verdicts: list[Verdict]) -> dict[str, float]:
    """Share of right answers for each of the four, 0..1."""
    return {
        field.name: float(np.mean([getattr(verdict, field.name) for verdict in verdicts])) for field in fields(Verdict)
    }


def shape_of(mask: Mask) -> str | None:
    """The shape whose outline covers the mask best, both laid to the same centre of mass and the same area."""
    centred = _normalised(mask)
    overlaps = {name: _overlap(centred, template) for name, template in _templates().items()}
    best = max(overlaps, key=overlaps.__getitem__)
    return best if overlaps[best] >= _LEAST_OVERLAP else None


def to_lab(picture: Picture) -> npt.NDArray[np.float64]:
    """sRGB bytes to CIELAB (D65), in which distance is about what the eye calls different."""
    value = picture / 255.0
    linear = np.where(value > 0.04045, ((value + 0.055) / 1.055) ** 2.4, value / 12.92)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = linear @ to_xyz.T / np.array([0.9505, 1.0, 1.089])
    root = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    x, y, z = np.moveaxis(root, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def _nearest_colour(lab: npt.NDArray[np.float64]) -> str:
    names = list(words.COLOURS)
    palette = to_lab(np.array([words.COLOURS[name] for name in names], np.uint8))
    return names[int(np.linalg.norm(palette - lab, axis=-1).argmin())]


def _frame_colour(lab: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The median colour of the picture's rim."""
    height, width = lab.shape[:2]
    rim = max(round(min(height, width) * _FRAME), 1)
    frame = np.ones((height, width), bool)
    frame[rim:-rim, rim:-rim] = False
    return np.asarray(np.median(lab[frame], axis=0))


def _largest_object(contrast: npt.NDArray[np.float64]) -> Mask | None:
    """The largest connected part that stands out from the background."""
    strongest = float(np.quantile(contrast, 1 - _LEAST_AREA))
    if strongest < _LEAST_CONTRAST:
        return None
    standing_out = ndimage.median_filter((contrast > strongest / 2).astype(np.uint8), size=5)
    labels, count = ndimage.label(standing_out)
    if not count:
        return None
    sizes = np.bincount(labels.ravel())[1:]
    if sizes.max() < _LEAST_AREA * contrast.size:
        return None
    return np.asarray(labels == sizes.argmax() + 1)


def _position_of(mask: Mask) -> str:
    """The nearest of the nine places to the middle of the object's bounding box."""
    rows, columns = np.nonzero(mask)
    x = (columns.min() + columns.max() + 1) / 2 / mask.shape[1]
    y = (rows.min() + rows.max() + 1) / 2 / mask.shape[0]
    return min(words.POSITIONS, key=lambda name: np.hypot(words.POSITIONS[name][0] - x, words.POSITIONS[name][1] - y))


def _normalised(mask: Mask) -> Mask:
    """The mask drawn on a 96x96 grid with its centre of mass in the middle and a fixed area."""
    row, column = ndimage.center_of_mass(mask)
    scale = np.sqrt(mask.sum() / (_GRID * _GRID * 0.2))
    offsets = (np.arange(_GRID) - _GRID / 2 + 0.5) * scale
    rows = np.round(row + offsets).astype(int)
    columns = np.round(column + offsets).astype(int)
    inside = (rows >= 0) & (rows < mask.shape[0]), (columns >= 0) & (columns < mask.shape[1])
    grid = mask[np.clip(rows, 0, mask.shape[0] - 1)][:, np.clip(columns, 0, mask.shape[1] - 1)]
    return grid & inside[0][:, None] & inside[1][None, :]


@cache
def _templates() -> dict[str, Mask]:
    axis = np.linspace(-1.2, 1.2, 480, dtype=np.float32)
    x, y = np.meshgrid(axis, axis)
    return {name: _normalised(shapes.BY_NAME[name](x, y) < 0) for name in words.SHAPES}


def _overlap(first: Mask, second: Mask) -> float:
    return float((first & second).sum() / max((first | second).sum(), 1))
