"""Images in: what callers send as text, file or address, and what is kept of it.

`parse_source` reads the text, `fetch_image` follows an address, `check_image` judges the bytes, and `normalized` writes
them anew. Nothing of Pillow's is set anywhere: its limits and filters belong to the whole process, and so to others.
"""

from shared.inputs.check import FORMATS, MAX_BYTES, MAX_PIXELS, MAX_SIDE, CheckedImage, check_image, normalized
from shared.inputs.fetch import ImageUnreachable, fetch_image
from shared.inputs.source import MAX_URL_CHARS, Inline, Remote, parse_source

__all__ = [
    "FORMATS",
    "MAX_BYTES",
    "MAX_PIXELS",
    "MAX_SIDE",
    "MAX_URL_CHARS",
    "CheckedImage",
    "ImageUnreachable",
    "Inline",
    "Remote",
    "check_image",
    "fetch_image",
    "normalized",
    "parse_source",
]
