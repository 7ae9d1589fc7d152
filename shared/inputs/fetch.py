"""An image from the address a caller gave."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Final

from shared.errors import InvalidField, OutboundRefused
from shared.inputs.check import FORMATS, MAX_BYTES, MAX_PIXELS, CheckedImage, check_image
from shared.safe_http import OutboundFailed, SafeHttp

#: From the first lookup of a name to the last byte, over all redirects.
FETCH_S: Final = 30.0
#: What a server may call an image; the image's own first bytes decide. The last two mean "some file".
MEDIA_TYPES: Final = ("image/", "application/octet-stream", "binary/octet-stream")

#: Statuses that may pass, besides the server's own errors.
_PASSING: Final = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS})


class ImageUnreachable(InvalidField):
    """The image could not be fetched at the moment; trying again later may help."""

    code = "image_unreachable"
    retryable = True


def fetch_image(
    http: SafeHttp,
    url: str,
    *,
    field: str,
    formats: Sequence[str] = FORMATS,
    max_bytes: int = MAX_BYTES,
    max_pixels: int = MAX_PIXELS,
    timeout_s: float = FETCH_S,
) -> CheckedImage:
    """Return the picture at a URL.

    Raises `InvalidField` naming the field for what the caller can mend, `ImageUnreachable` for what may pass.
    """
    try:
        answer = http.get(url, media_types=MEDIA_TYPES, max_bytes=max_bytes, timeout_s=timeout_s)
    except OutboundRefused as error:
        raise InvalidField(field, f"cannot be fetched: {error.message}") from error
    except OutboundFailed as error:
        raise ImageUnreachable(field, f"could not be fetched: {error.message}") from error
    if answer.status != HTTPStatus.OK:
        kind = ImageUnreachable if _may_pass(answer.status) else InvalidField
        raise kind(field, f"could not be fetched: its server answered with status {answer.status}.")
    return check_image(answer.body, field=field, formats=formats, max_bytes=max_bytes, max_pixels=max_pixels)


def _may_pass(status: int) -> bool:
    return status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _PASSING
