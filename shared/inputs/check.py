"""A caller's bytes, judged: a whole, single PNG, JPEG or WebP picture of bounded size, or refused by name."""

import io
import struct
import threading
import zlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Final

from PIL import Image, ImageOps

from shared.errors import InvalidField
from shared.inputs import jpeg, png, webp
from shared.inputs.container import BROKEN, CUT_SHORT, BrokenImage, Container, sniff
from shared.inputs.pixels import plain

MAX_BYTES: Final = 20 * 2**20
#: While it is checked, a picture this large takes 220 MB (PNG, JPEG), 500 MB (progressive JPEG) or 800 MB (WebP).
MAX_PIXELS: Final = 50_000_000
#: Larger pictures are decoded one at a time in a process, so that a few callers at once do not exhaust its memory.
LARGE_PIXELS: Final = 4_000_000
#: WebP's own limit. A picture of 50,000,000 x 1 keeps to every other.
MAX_SIDE: Final = 16_383

#: format -> what takes its files apart
_READERS: Final[dict[str, Callable[[bytes], Container]]] = {"PNG": png.read, "JPEG": jpeg.read, "WEBP": webp.read}
FORMATS: Final = tuple(_READERS)

#: EXIF's orientations from here up lay the picture on its side.
_FIRST_SIDEWAYS: Final = 5
#: What Pillow's decoders are known to raise for broken files.
_DECODER_ERRORS: Final = (OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError, struct.error, zlib.error)
#: Of zlib's 9: a fifth larger than level 6, four times as fast.
_COMPRESS_LEVEL: Final = 1

_one_large = threading.Lock()


@dataclass(frozen=True, slots=True)
class CheckedImage:
    """A picture that can be decoded whole."""

    #: The caller's file reduced to its picture: pixels and orientation as sent, no metadata, nothing after its end.
    data: bytes
    #: PNG, JPEG or WEBP.
    format: str
    #: Pixels as seen, with EXIF's orientation applied.
    width: int
    height: int


def check_image(
    data: bytes,
    *,
    field: str,
    formats: Sequence[str] = FORMATS,
    max_bytes: int = MAX_BYTES,
    max_pixels: int = MAX_PIXELS,
) -> CheckedImage:
    """Return the picture, after decoding it once.

    The format is what the first bytes say, and no other decoder is asked. Size and frames are read from the headers
    before anything is decoded. Whatever follows the image's end is dropped, not refused: phones append films and depth
    maps to their photos. Colour profiles are dropped too: the numbers are taken for sRGB.

    Raises `InvalidField` naming the field.
    """
    if not data:
        raise InvalidField(field, "is empty")
    if len(data) > max_bytes:
        raise InvalidField(field, f"must be at most {max_bytes:,} bytes large")
    format_ = sniff(data)
    if format_ is None or format_ not in formats:
        looks = f"; this looks like {format_}" if format_ else ""
        raise InvalidField(field, f"must be a {' or '.join(formats)} picture{looks}")
    container = _taken_apart(data, format_, field)
    _check_form(container, field, max_pixels)
    _check_decodes(container, format_, field)
    size = (container.width, container.height)
    width, height = size[::-1] if container.orientation >= _FIRST_SIDEWAYS else size
    return CheckedImage(container.data, format_, width, height)


def normalized(image: CheckedImage) -> bytes:
    """Return the picture as a PNG of our own making: RGB or RGBA, upright, lossless, without metadata.

    It costs 0.1 s of CPU and, of a photo, 1.7 MB of storage a megapixel, seven times the JPEG that it may have been,
    and at the limit 1 GB of memory. `CheckedImage.data` costs nothing and holds no metadata either, but its pixels are
    still packed as the caller's program packed them.
    """
    with _room_for(image), Image.open(io.BytesIO(image.data), formats=(image.format,)) as stored:
        upright = plain(ImageOps.exif_transpose(stored))
        upright.info.clear()
        stream = io.BytesIO()
        upright.save(stream, "PNG", compress_level=_COMPRESS_LEVEL)
    return stream.getvalue()


def _room_for(image: CheckedImage | Container) -> AbstractContextManager[object]:
    return _one_large if image.width * image.height > LARGE_PIXELS else nullcontext()


def _taken_apart(data: bytes, format_: str, field: str) -> Container:
    try:
        return _READERS[format_](data)
    except BrokenImage as error:
        raise InvalidField(field, f"{error}: no whole {format_} picture") from error
    except struct.error as error:
        raise InvalidField(field, f"{CUT_SHORT}: no whole {format_} picture") from error


def _check_form(container: Container, field: str, max_pixels: int) -> None:
    size = f"{container.width:,} x {container.height:,}"
    if container.animated:
        raise InvalidField(field, "must be one picture, not an animation")
    if not container.width or not container.height:
        raise InvalidField(field, f"has no pixels: it is {size}")
    if max(container.width, container.height) > MAX_SIDE:
        raise InvalidField(field, f"must be at most {MAX_SIDE:,} pixels wide and high, not {size}")
    if container.width * container.height > max_pixels:
        raise InvalidField(field, f"must have at most {max_pixels:,} pixels, not {size}")


def _check_decodes(container: Container, format_: str, field: str) -> None:
    try:
        with _room_for(container), Image.open(io.BytesIO(container.data), formats=(format_,)) as image:
            agree = image.size == (container.width, container.height)
            if agree:
                image.load()
    except _DECODER_ERRORS as error:
        raise InvalidField(field, f"{BROKEN}: this {format_} picture cannot be decoded") from error
    if not agree:
        raise InvalidField(field, f"{BROKEN}: this {format_} picture has two sizes")
