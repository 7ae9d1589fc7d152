"""Stored pictures brought to the size a job asks for: any mode, any orientation, any shape."""

import io
from typing import Final

from PIL import Image, ImageOps

from shared.inputs import FORMATS
from shared.inputs.pixels import plain

#: Luminance, of 255, from which a mask means "paint here".
PAINT_FROM: Final = 128

_TO_BLACK_OR_WHITE: Final = [0] * PAINT_FROM + [255] * (256 - PAINT_FROM)


def open_stored(data: bytes) -> Image.Image:
    """Return a picture that was checked when it came in, decoded."""
    image = Image.open(io.BytesIO(data), formats=FORMATS)
    image.load()
    return image


def over_white(image: Image.Image) -> Image.Image:
    """Return the picture as RGB, what is transparent lying over white."""
    return _over(image, "white")


def fit(image: Image.Image, width: int, height: int) -> Image.Image:
    """Return the picture upright, as RGB of width x height pixels: scaled (Lanczos) to cover them, centre kept.

    The edges are cut off before scaling, not after: a line of 16,000 x 1 pixels, scaled whole to cover 512 x 512,
    would take gigabytes.
    """
    upright = over_white(ImageOps.exif_transpose(image))
    return ImageOps.fit(upright, (width, height), method=Image.Resampling.LANCZOS)


def fit_mask(mask: Image.Image, width: int, height: int) -> Image.Image:
    """Return the mask upright, as L of width x height pixels: 255 where to paint, 0 where to keep.

    It is cut as `fit` cuts its picture, so that a mask drawn over a picture still lies over it. Paint is where
    luminance is 128 or more; what is transparent is kept, as of white strokes on an empty layer.
    """
    grey = _over(ImageOps.exif_transpose(mask), "black").convert("L")
    fitted = ImageOps.fit(grey, (width, height), method=Image.Resampling.NEAREST)
    return fitted.point(_TO_BLACK_OR_WHITE)


def _over(image: Image.Image, colour: str) -> Image.Image:
    flat = plain(image)
    if flat.mode == "RGB":
        return flat
    return Image.alpha_composite(Image.new("RGBA", flat.size, colour), flat).convert("RGB")
