"""Hints: what ControlNets look at, made out of plain pictures.

A ControlNet was trained on one kind of hint, and so each kind is made as its authors made it, as far as that takes no
network of its own: edges for `canny`, lines for `scribble` and `lineart`, a blurred picture for `tile`, the part to
keep for `inpaint`, and the picture itself for `ip2p`. Depth, poses and the like have to come ready made.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import cv2
import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image

#: Canny's thresholds, as diffusers' examples and the ControlNets' own have them.
CANNY_LOW, CANNY_HIGH = 100, 200
#: Gaussians' deviations in pixels, and by how much of 255 a stroke is darker than what lies around it.
SCRIBBLE_NEAR_PX, SCRIBBLE_FAR_PX = 0.5, 5.0
SCRIBBLE_DARKER: Final = 16
LINEART_FAR_PX: Final = 6.0
#: Lines fainter than this count for nothing when a drawing's contrast is measured; and none is raised beyond that.
LINEART_FAINT, LINEART_LEAST = 8, 16.0
LINEART_MEDIAN: Final = 127.0
#: Halvings, and doublings again, of what `tile` is to fill with detail.
TILE_HALVINGS: Final = 3
#: What `inpaint` shows where the mask paints: no colour at all.
NOTHING: Final = -1.0

#: A picture as 8-bit numbers of shape (height, width, 3).
Pixels = Any


def canny(picture: Pixels) -> Pixels:
    """Return the picture's edges, white on black (Canny 1986)."""
    return _white_on_black(cv2.Canny(picture, CANNY_LOW, CANNY_HIGH))


def scribble(picture: Pixels) -> Pixels:
    """Return the picture's strokes, white on black: a difference of Gaussians (Winnemöller et al. 2012), cut hard."""
    return _white_on_black(np.where(_darker(picture, SCRIBBLE_NEAR_PX, SCRIBBLE_FAR_PX) > SCRIBBLE_DARKER, 255, 0))


def lineart(picture: Pixels) -> Pixels:
    """Return the picture's lines with their weight, white on black: a difference of Gaussians, its contrast evened."""
    lines = np.clip(_darker(picture, 0, LINEART_FAR_PX), 0, 255)
    strong = lines[lines > LINEART_FAINT]
    contrast = max(LINEART_LEAST, float(np.median(strong))) if strong.size else LINEART_LEAST
    return _white_on_black(np.clip(lines / contrast * LINEART_MEDIAN, 0, 255))


def tile(picture: Pixels) -> Pixels:
    """Return the picture without its details."""
    height, width = picture.shape[:2]
    least = 2**TILE_HALVINGS
    small = cv2.resize(picture, (max(1, width // least), max(1, height // least)), interpolation=cv2.INTER_AREA)
    for _ in range(TILE_HALVINGS):
        small = cv2.pyrUp(small)
    return small if small.shape == picture.shape else cv2.resize(small, (width, height))


def itself(picture: Pixels) -> Pixels:
    """Return the picture as it is."""
    return picture


#: kind -> what makes its hint out of a picture
MAKERS: Final[dict[str, Callable[[Pixels], Pixels]]] = {
    "canny": canny,
    "scribble": scribble,
    "lineart": lineart,
    "tile": tile,
    "inpaint": itself,
    "ip2p": itself,
}


def hint(picture: Image, *, kind: str, preprocess: bool = True, mask: Image | None = None) -> Any:
    """Return what a ControlNet of that kind looks at: float32 from 0 to 1 of shape (height, width, 3).

    Without `preprocess` it is the picture itself. Where the mask paints, the hint of `inpaint` is -1. Raises `KeyError`
    for a kind whose hint cannot be made here.
    """
    pixels = np.asarray(picture)
    if not preprocess:
        return _scaled(pixels)
    found = _scaled(MAKERS[kind](pixels))
    if kind == "inpaint" and mask is not None:
        found[np.asarray(mask) > 0] = NOTHING
    return found


def _scaled(pixels: Pixels) -> Any:
    return pixels.astype(np.float32) / 255


def _darker(picture: Pixels, near_px: float, far_px: float) -> Any:
    """Return by how much each pixel is darker than what lies around it."""
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32)
    near = cv2.GaussianBlur(grey, (0, 0), near_px) if near_px else grey
    return cv2.GaussianBlur(grey, (0, 0), far_px) - near


def _white_on_black(lines: Any) -> Pixels:
    return np.repeat(lines.astype(np.uint8)[..., None], 3, axis=2)
