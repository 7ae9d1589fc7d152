"""Image files, taken apart by their outer form before a decoder sees them.

Size, frames and orientation are read here, and a file of the same format is put together again from the parts that
make the picture. Everything else stays behind: colour profiles, text, thumbnails, places, further pictures, and what
follows the image's end. So a decoder meets neither bombs in profiles and texts nor broken metadata to warn of
(Python's warnings can be caught for the whole process only, so they must not arise), and a file that is a picture to
some programs and a page or an archive to others is only a picture from here on.

Formats: PNG (W3C, third edition), JPEG (ITU-T T.81), WebP (RFC 9649), Exif (CIPA DC-008).
"""

import struct
from dataclasses import dataclass
from typing import Final

#: More parts than any writer makes of 20 MiB.
MAX_PARTS: Final = 50_000

CUT_SHORT: Final = "is cut short"
BROKEN: Final = "is broken"

_EXIF_PREFIX: Final = b"Exif\0\0"
_ORIENTATION_TAG: Final = 0x0112
_SHORT: Final = 3
_ORIENTATIONS: Final = range(1, 9)


class BrokenImage(Exception):
    """The file does not keep to its format."""

    def __init__(self, message: str = BROKEN) -> None:
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Container:
    """An image file, reduced to its picture."""

    #: Pixels as stored, before orientation.
    width: int
    height: int
    #: EXIF's, 1..8; 5 and up change places of width and height.
    orientation: int
    animated: bool
    #: A file of the same format, with no metadata but an orientation other than 1.
    data: bytes


#: magic, its offset, and the format's name
_MAGIC: Final = (
    (b"\x89PNG\r\n\x1a\n", 0, "PNG"),
    (b"\xff\xd8\xff", 0, "JPEG"),
    (b"WEBP", 8, "WEBP"),
    # What people try as well: named, so that they know what to mend.
    (b"GIF8", 0, "GIF"),
    (b"BM", 0, "BMP"),
    (b"II*\0", 0, "TIFF"),
    (b"MM\0*", 0, "TIFF"),
    (b"ftypavi", 4, "AVIF"),
    (b"ftyphe", 4, "HEIC"),
    (b"ftypmif1", 4, "HEIC"),
    (b"\xff\x0a", 0, "JPEG XL"),
    (b"%PDF", 0, "PDF"),
    (b"PK\x03\x04", 0, "ZIP"),
    (b"<", 0, "HTML or SVG"),
)


def sniff(data: bytes) -> str | None:
    """Return what the first bytes say the format is; None where they say nothing we know."""
    for magic, offset, name in _MAGIC:
        if data.startswith(magic, offset):
            return name
    return None


def orientation_of(exif: bytes) -> int:
    """Return the orientation that EXIF data tell of, 1 where they tell of none or are broken."""
    tiff = exif.removeprefix(_EXIF_PREFIX)
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(f"{order}I", tiff, 4)
        (entries,) = struct.unpack_from(f"{order}H", tiff, start)
        for index in range(entries):
            tag, kind, _count, value = struct.unpack_from(f"{order}HHIH", tiff, start + 2 + 12 * index)
            if tag == _ORIENTATION_TAG:
                return value if kind == _SHORT and value in _ORIENTATIONS else 1
    except struct.error:
        pass
    return 1


def exif_of(orientation: int) -> bytes:
    """Return EXIF data that hold the orientation alone, as TIFF."""
    entry = struct.pack(">HHIHH", _ORIENTATION_TAG, _SHORT, 1, orientation, 0)
    return struct.pack(">2sHIH", b"MM", 42, 8, 1) + entry + bytes(4)
