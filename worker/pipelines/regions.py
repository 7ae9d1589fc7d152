"""The part of a picture around its mask, painted at full size: "only masked" in other interfaces."""

from __future__ import annotations

import math

from PIL import Image

#: Left, top, right and bottom, as Pillow counts them.
Box = tuple[int, int, int, int]


def region(mask: Image.Image, padding: int) -> Box:
    """Return the smallest box of the picture's own proportions around the mask and so many pixels more on each side.

    It never leaves the picture; a mask that paints nothing has the whole of it.
    """
    width, height = mask.size
    left, top, right, bottom = mask.getbbox() or (0, 0, width, height)
    left, right = max(0, left - padding), min(width, right + padding)
    top, bottom = max(0, top - padding), min(height, bottom + padding)
    share = max((right - left) / width, (bottom - top) / height)
    start, stop = _widened(left, right, size=math.ceil(share * width), limit=width)
    upper, lower = _widened(top, bottom, size=math.ceil(share * height), limit=height)
    return start, upper, stop, lower


def zoomed_in(image: Image.Image, box: Box, *, resample: Image.Resampling) -> Image.Image:
    """Return what the box holds, at the size of the whole picture."""
    if box == (0, 0, *image.size):
        return image
    return image.crop(box).resize(image.size, resample)


def zoomed_out(image: Image.Image, box: Box, *, over: Image.Image) -> Image.Image:
    """Return the picture scaled into the box, lying over another one."""
    if box == (0, 0, *over.size):
        return image
    left, top, right, bottom = box
    found = over.copy()
    found.paste(image.resize((right - left, bottom - top), Image.Resampling.LANCZOS), (left, top))
    return found


def _widened(start: int, stop: int, *, size: int, limit: int) -> tuple[int, int]:
    """Return an interval of that size around another one, within 0 and the limit."""
    size = min(max(size, stop - start), limit)
    start = min(max(0, (start + stop - size) // 2), limit - size)
    return start, start + size
