"""JPEG: segments, each after a marker; scans run on until the next marker."""

import re
import struct
from collections.abc import Iterator
from typing import Final

from shared.inputs.container import CUT_SHORT, MAX_PARTS, BrokenImage, Container, exif_of, orientation_of

_START: Final = b"\xff\xd8"
_END: Final = b"\xff\xd9"
#: As libjpeg does: what lies before a marker is passed over.
_MARKER: Final = re.compile(rb"\xff([^\x00\xff])")
#: In a scan, restart markers are no end.
_SCAN_END: Final = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")

_EOI: Final = 0xD9
_SOS: Final = 0xDA
_APP0: Final = 0xE0
_APP1: Final = 0xE1
_APP14: Final = 0xEE
_JFIF_BYTES: Final = 14
_ADOBE_BYTES: Final = 12
#: TEM, RST0..7 and SOI have no content.
_BARE: Final = frozenset({0x01, *range(0xD0, 0xD9)})
_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
#: DHT, DAC, DQT, DRI.
_TABLES: Final = frozenset({0xC4, 0xCC, 0xDB, 0xDD})
#: Ordinary progressive files have about ten; each costs a pass over the whole picture.
MAX_SCANS: Final = 50


def read(data: bytes) -> Container:
    """Return what the file holds. Raises `BrokenImage`, or `struct.error` where it is cut short."""
    parts: list[bytes] = []
    frames: list[bytes] = []
    orientation, scans = 1, 0
    for code, body, whole in _segments(data):
        if code in _FRAMES:
            frames.append(body)
        elif code == _SOS:
            scans += 1
        elif code == _APP1 and orientation == 1 and body.startswith(b"Exif\0\0"):
            orientation = orientation_of(body)
        if _is_kept(code, body):
            parts.append(whole)
    if len(frames) != 1 or not 1 <= scans <= MAX_SCANS:
        raise BrokenImage
    height, width = struct.unpack_from(">HH", frames[0], 1)
    start = [_START] if orientation == 1 else [_START, _exif(orientation)]
    return Container(width, height, orientation, animated=False, data=b"".join([*start, *parts, _END]))


def _is_kept(code: int, body: bytes) -> bool:
    """Whether a segment makes the picture. JFIF's and Adobe's headers, if whole, tell what the numbers mean."""
    if code == _APP0:
        return body.startswith(b"JFIF\0") and len(body) >= _JFIF_BYTES
    if code == _APP14:
        return body.startswith(b"Adobe") and len(body) >= _ADOBE_BYTES
    return code == _SOS or code in _FRAMES or code in _TABLES


def _segments(data: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Yield each segment's marker, its content, and the whole of it with the scan, up to the image's end."""
    position = len(_START)
    for _ in range(MAX_PARTS):
        marker = _MARKER.search(data, position)
        if marker is None:
            raise BrokenImage(CUT_SHORT)
        code, position = marker[1][0], marker.end()
        if code == _EOI:
            return
        if code in _BARE:
            continue
        (length,) = struct.unpack_from(">H", data, position)
        body = data[position + 2 : position + length]
        position += length
        if code == _SOS:
            position = _scan_end(data, position)
        yield code, body, data[marker.start() : position]
    raise BrokenImage


def _scan_end(data: bytes, position: int) -> int:
    end = _SCAN_END.search(data, position)
    if end is None:
        raise BrokenImage(CUT_SHORT)
    return end.start()


def _exif(orientation: int) -> bytes:
    body = b"Exif\0\0" + exif_of(orientation)
    return struct.pack(">BBH", 0xFF, _APP1, len(body) + 2) + body
