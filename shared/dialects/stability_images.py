"""Stability's pictures: the size that a call without one draws, and its three kinds of masks as one, white to paint."""

import io
import math
from collections.abc import Callable
from typing import Final

from PIL import Image, ImageOps

from shared.errors import InvalidField
from shared.inputs import Inline, check_image, normalized

SIDE_MIN, SIDE_STEP = 128, 64
#: 512 x 512 and 1024 x 1024
MIN_PIXELS, MAX_PIXELS = 262_144, 1_048_576
#: The longest side that a JobSpec takes; with the shortest one it just has `MIN_PIXELS`.
SIDE_MAX: Final = 2048
#: From this alpha up a pixel is kept.
OPAQUE_FROM: Final = 128
_COMPRESS_LEVEL: Final = 1


def size_like(image: Inline, *, field: str) -> dict[str, int]:
    """Return the allowed width and height nearest to an image's own; `InvalidField` where it is no image."""
    found = check_image(image.data, field=field)
    pixels = found.width * found.height
    scale = math.sqrt(min(MAX_PIXELS, max(MIN_PIXELS, pixels)) / pixels)
    sides = {"width": _side(found.width * scale), "height": _side(found.height * scale)}
    # Rounding and the sides' own bounds may have led out of bounds again.
    while sides["width"] * sides["height"] > MAX_PIXELS:
        sides[max(sides, key=lambda name: sides[name])] -= SIDE_STEP
    while sides["width"] * sides["height"] < MIN_PIXELS:
        sides[min(sides, key=lambda name: sides[name])] += SIDE_STEP
    return sides


def inverted(mask: Inline, *, field: str) -> Inline:
    """Return a mask to paint the black of as one to paint the white of; `InvalidField` where it is no image."""
    return _changed(mask, lambda picture: ImageOps.invert(_on_white(picture)), field=field)


def alpha_mask(image: Inline, *, field: str) -> Inline:
    """Return what is transparent in an image as white; `InvalidField` where nothing is, or it is no image."""
    return _changed(image, lambda picture: _transparency(picture, field), field=field)


def _side(pixels: float) -> int:
    return min(SIDE_MAX, max(SIDE_MIN, round(pixels / SIDE_STEP) * SIDE_STEP))


def _changed(source: Inline, change: Callable[[Image.Image], Image.Image], *, field: str) -> Inline:
    out = io.BytesIO()
    with Image.open(io.BytesIO(normalized(check_image(source.data, field=field))), formats=("PNG",)) as picture:
        change(picture).save(out, "PNG", compress_level=_COMPRESS_LEVEL)
    return Inline(out.getvalue())


def _on_white(picture: Image.Image) -> Image.Image:
    # What is transparent in a mask is kept, whichever colour is painted: white here, black when inverted.
    full = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", full.size, "white"), full).convert("L")


def _transparency(picture: Image.Image, field: str) -> Image.Image:
    alpha = picture.getchannel("A") if picture.mode == "RGBA" else None
    if alpha is None or not any(alpha.histogram()[:OPAQUE_FROM]):
        raise InvalidField(field, "has nothing transparent to paint")
    return ImageOps.invert(alpha)
