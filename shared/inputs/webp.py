"""WebP: chunks in a RIFF file; one frame, plain or with a header (VP8X) that announces alpha and metadata."""

import struct
from collections.abc import Iterator
from typing import Final

from shared.inputs.container import MAX_PARTS, BrokenImage, Container, exif_of, orientation_of

#: Bits of the VP8X header's first byte.
_ANIMATION: Final = 0x02
_EXIF: Final = 0x08
_ALPHA: Final = 0x10
_START_CODE: Final = b"\x9d\x01\x2a"
_LOSSLESS: Final = 0x2F
_SIDE_MASK: Final = 0x3FFF


def read(data: bytes) -> Container:
    """Return what the file holds. Raises `BrokenImage`, or `struct.error` where it is cut short."""
    chunks: dict[bytes, bytes] = {}
    for kind, body in _chunks(data):
        chunks.setdefault(kind, body)
    header = chunks.get(b"VP8X") or b"\0"
    if header[0] & _ANIMATION or b"ANMF" in chunks:
        # Its frames are not looked at: whatever their size, it is refused.
        return Container(1, 1, orientation=1, animated=True, data=b"")
    frame = next((kind for kind in (b"VP8L", b"VP8 ") if kind in chunks), None)
    if frame is None:
        raise BrokenImage
    width, height = _lossless_size(chunks[frame]) if frame == b"VP8L" else _lossy_size(chunks[frame])
    orientation = orientation_of(chunks.get(b"EXIF", b""))
    parts = [_chunk(frame, chunks[frame])]
    if b"VP8X" in chunks:
        parts = _extended(chunks, parts, (width, height), orientation)
    return Container(width, height, orientation, animated=False, data=_riff(parts))


def _extended(chunks: dict[bytes, bytes], frame: list[bytes], size: tuple[int, int], orientation: int) -> list[bytes]:
    """Return the frame with a header, and with the alpha and the orientation that the header announces."""
    header = chunks[b"VP8X"]
    canvas = b"".join((side - 1).to_bytes(3, "little") for side in size)
    if header[4:] != canvas:
        raise BrokenImage
    alpha = [_chunk(b"ALPH", chunks[b"ALPH"])] if b"ALPH" in chunks else []
    exif = [_chunk(b"EXIF", exif_of(orientation))] if orientation != 1 else []
    flags = header[0] & _ALPHA | (_EXIF if exif else 0)
    return [_chunk(b"VP8X", bytes([flags, 0, 0, 0]) + canvas), *alpha, *frame, *exif]


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    (size,) = struct.unpack_from("<I", data, 4)
    position, end = 12, 8 + size
    for _ in range(MAX_PARTS):
        if position >= end:
            return
        kind, length = struct.unpack_from("<4sI", data, position)
        position += 8
        (body,) = struct.unpack_from(f"{length}s", data, position)
        yield kind, body
        position += length + length % 2
    raise BrokenImage


def _lossy_size(frame: bytes) -> tuple[int, int]:
    start_code, width, height = struct.unpack_from("<3sHH", frame, 3)
    width, height = width & _SIDE_MASK, height & _SIDE_MASK
    if start_code != _START_CODE or not width or not height:
        raise BrokenImage
    return width, height


def _lossless_size(frame: bytes) -> tuple[int, int]:
    signature, bits = struct.unpack_from("<BI", frame)
    if signature != _LOSSLESS:
        raise BrokenImage
    return (bits & _SIDE_MASK) + 1, (bits >> 14 & _SIDE_MASK) + 1


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack("<4sI", kind, len(body)) + body + bytes(len(body) % 2)


def _riff(parts: list[bytes]) -> bytes:
    content = b"WEBP" + b"".join(parts)
    return struct.pack("<4sI", b"RIFF", len(content)) + content
