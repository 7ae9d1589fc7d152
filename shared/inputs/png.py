"""PNG: a signature, then chunks."""

import struct
import zlib
from collections.abc import Iterator
from typing import Final

from shared.inputs.container import MAX_PARTS, BrokenImage, Container, exif_of, orientation_of

_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_HEADER_BYTES: Final = 13
_KEPT: Final = frozenset({b"PLTE", b"IDAT"})
_CRITICAL: Final = _KEPT | {b"IHDR"}
_PALETTE: Final = 3


def read(data: bytes) -> Container:
    """Return what the file holds. Raises `BrokenImage`, or `struct.error` where it is cut short."""
    chunks = _chunks(data)
    kind, header = next(chunks, (b"", b""))
    if kind != b"IHDR" or len(header) != _HEADER_BYTES:
        raise BrokenImage
    width, height, depth, colour = struct.unpack_from(">IIBB", header)
    parts = [_SIGNATURE, _chunk(kind, header)]
    animated, orientation = False, 1
    for kind, body in chunks:
        if kind in _KEPT or (kind == b"tRNS" and _compares_right(depth, colour)):
            parts.append(_chunk(kind, body))
        elif kind == b"eXIf":
            orientation = orientation_of(body)
        elif kind == b"acTL":
            animated = True
    if orientation != 1:
        parts.append(_chunk(b"eXIf", exif_of(orientation)))
    parts.append(_chunk(b"IEND", b""))
    return Container(width, height, orientation, animated, b"".join(parts))


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield each chunk's name and content, up to the image's end, which must come."""
    position = len(_SIGNATURE)
    for _ in range(MAX_PARTS):
        length, kind = struct.unpack_from(">I4s", data, position)
        body = data[position + 8 : position + 8 + length]
        (checksum,) = struct.unpack_from(">I", data, position + 8 + length)
        if kind in _CRITICAL and zlib.crc32(body, zlib.crc32(kind)) != checksum:
            raise BrokenImage
        if kind == b"IEND":
            return
        yield kind, body
        position += 12 + length
    raise BrokenImage


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", len(body), kind) + body + struct.pack(">I", zlib.crc32(body, zlib.crc32(kind)))


def _compares_right(depth: int, colour: int) -> bool:
    """Whether Pillow finds the one colour that is clear.

    It compares greys of 2 and 4 bits, and all of 16, with numbers of another range. There the colour, which no common
    program writes, is drawn as it is.
    """
    return colour == _PALETTE or depth in {1, 8}
