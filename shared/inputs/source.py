"""The texts by which an image comes: an address, a `data:` URI, or bare base64."""

import binascii
import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote_to_bytes

from shared.errors import InvalidField
from shared.inputs.check import MAX_BYTES

#: Signed links of storage services take a thousand characters and more.
MAX_URL_CHARS: Final = 4096
#: How much of a `data:` URI may precede its comma.
MAX_MEDIA_TYPE_CHARS: Final = 256

_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_WHITESPACE: Final = b" \t\r\n\f\v"
#: RFC 4648's URL-safe alphabet to its plain one.
_PLAIN_ALPHABET: Final = bytes.maketrans(b"-_", b"+/")
_MOST_PADDING: Final = 2


@dataclass(frozen=True, slots=True)
class Inline:
    """An image's bytes, not yet judged."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Remote:
    """An image's address, http or https, not yet judged."""

    url: str


def parse_source(text: object, *, field: str, max_bytes: int = MAX_BYTES) -> Inline | Remote:
    """Return what the text holds or where it points.

    Base64 may be of either alphabet, without padding, and broken by white space. In a `data:` URI the media type is not
    believed and may be missing, and the base64 may be percent-encoded.

    Raises `InvalidField` naming the field.
    """
    if not isinstance(text, str):
        raise InvalidField(field, "must be a string")
    text = text.strip()
    if not text:
        raise InvalidField(field, "is empty")
    scheme = _SCHEME.match(text)
    if scheme is None:
        return Inline(_from_base64(text, field, max_bytes))
    match scheme[1].lower():
        case "http" | "https":
            return Remote(_checked_url(text, field))
        case "data":
            return Inline(_from_data_uri(text, field, max_bytes))
    raise InvalidField(field, "must be an http:// or https:// URL, a data: URI or base64")


def _checked_url(text: str, field: str) -> str:
    if len(text) > MAX_URL_CHARS:
        raise InvalidField(field, f"must be a URL of at most {MAX_URL_CHARS:,} characters")
    if any("\ud800" <= character <= "\udfff" for character in text):  # halves of characters; cannot be stored
        raise InvalidField(field, "must be valid Unicode text")
    return text


def _from_data_uri(text: str, field: str, max_bytes: int) -> bytes:
    comma = text.find(",", 0, MAX_MEDIA_TYPE_CHARS)
    if comma < 0 or not text[:comma].rstrip().lower().endswith(";base64"):
        raise InvalidField(field, "must be a data: URI of the form data:image/png;base64,…")
    payload = text[comma + 1 :]
    if "%" in payload:
        payload = unquote_to_bytes(payload).decode("ascii", "replace")
    return _from_base64(payload, field, max_bytes)


def _from_base64(text: str, field: str, max_bytes: int) -> bytes:
    try:
        digits = text.encode("ascii").translate(_PLAIN_ALPHABET, delete=_WHITESPACE)
        bare = digits.rstrip(b"=")
        if len(bare) * 3 // 4 > max_bytes:
            raise InvalidField(field, f"must be at most {max_bytes:,} bytes large")
        if not bare or len(digits) - len(bare) > _MOST_PADDING:
            raise InvalidField(field, "is no valid base64")
        return binascii.a2b_base64(bare + b"=" * (-len(bare) % 4), strict_mode=True)
    except (UnicodeEncodeError, binascii.Error) as error:
        raise InvalidField(field, "is no valid base64, nor an http:// or https:// URL") from error
