"""Pictures to files that tell how they were made.

PNG holds the parameters in two text chunks: `parameters` as AUTOMATIC1111 writes it, and `darkroom` as JSON. JPEG and
WebP hold the former in EXIF's UserComment. Equal pictures and parameters give equal bytes.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from PIL import Image
from PIL.PngImagePlugin import PngInfo

if TYPE_CHECKING:
    from shared.spec import JobSpec

#: Of zlib's 9: at 512x512 level 1 takes 12-22 ms and the usual 6 takes 41-80 ms for files a fifth smaller.
PNG_COMPRESS_LEVEL: Final = 1
#: Of WebP's 6: method 0 takes 9 ms where the usual 4 takes 25 ms, for files of the same size within 2 %.
WEBP_METHOD: Final = 0
#: A JPEG segment holds 65,535 bytes; longer prompts go without.
MAX_JPEG_EXIF_BYTES: Final = 65_000

PREVIEW_QUALITY: Final = 80

_EXIF_IFD: Final = 0x8769
_USER_COMMENT: Final = 0x9286
_UNICODE: Final = b"UNICODE\0"


@dataclass(frozen=True, kw_only=True, slots=True)
class Caption:
    """What a file tells of its picture."""

    text: str
    json: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Encoded:
    """A file's bytes, with what storage needs to know of them."""

    data: bytes
    content_type: str
    extension: str


def encode(image: Image.Image, spec: JobSpec, caption: Caption) -> Encoded:
    """Return the picture in the format, quality and with the caption that the spec asks for."""
    shown = caption if spec.embed_parameters else None
    return _ENCODERS[spec.output_format](image, spec.quality, shown)


def encode_preview(image: Image.Image) -> Encoded:
    """Return a picture on the way as a small JPEG."""
    return _jpeg(image, PREVIEW_QUALITY, None)


def _png(image: Image.Image, _quality: int, caption: Caption | None) -> Encoded:
    chunks = PngInfo()
    if caption is not None:
        chunks.add_text("parameters", caption.text)
        chunks.add_text("darkroom", caption.json)
    data = _save(image, "PNG", pnginfo=chunks, compress_level=PNG_COMPRESS_LEVEL)
    return Encoded(data=data, content_type="image/png", extension="png")


def _jpeg(image: Image.Image, quality: int, caption: Caption | None) -> Encoded:
    exif = _exif(caption)
    data = _save(image, "JPEG", quality=quality, exif=exif if len(exif) <= MAX_JPEG_EXIF_BYTES else b"")
    return Encoded(data=data, content_type="image/jpeg", extension="jpg")


def _webp(image: Image.Image, quality: int, caption: Caption | None) -> Encoded:
    data = _save(image, "WEBP", quality=quality, method=WEBP_METHOD, exif=_exif(caption))
    return Encoded(data=data, content_type="image/webp", extension="webp")


_ENCODERS: Final[dict[str, Callable[[Image.Image, int, Caption | None], Encoded]]] = {
    "png": _png,
    "jpeg": _jpeg,
    "webp": _webp,
}


def _save(image: Image.Image, format_: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format_, **options)
    return stream.getvalue()


def _exif(caption: Caption | None) -> bytes:
    if caption is None:
        return b""
    exif = Image.Exif()
    exif.get_ifd(_EXIF_IFD)[_USER_COMMENT] = _UNICODE + caption.text.encode("utf-16-be")
    return exif.tobytes()
