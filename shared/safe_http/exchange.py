"""A request and its answer over a connected socket."""

import http.client
import socket
from collections.abc import Mapping, Sequence
from typing import Final

from shared.errors import OutboundRefused
from shared.safe_http.target import Target

#: How much of an answer's body is read; the rest is left unread.
EXCERPT_BYTES: Final = 4096
PIECE_BYTES: Final = 65_536


def exchange(
    sock: socket.socket, method: str, target: Target, data: bytes | None, headers: Mapping[str, str]
) -> http.client.HTTPResponse:
    """Send a request and return its answer, of which the headers are read."""
    connection = http.client.HTTPConnection(target.host, target.port)
    connection.sock = sock  # already connected: http.client looks nothing up
    connection.request(
        method,
        target.request_uri,
        body=data,
        headers={**headers, "Host": target.host_header, "Connection": "close"},
    )
    return connection.getresponse()


def whole_body(response: http.client.HTTPResponse, media_types: Sequence[str], max_bytes: int) -> bytes:
    """Return the whole body, or raise: early, where the headers tell."""
    media_type = (response.getheader("Content-Type") or "").partition(";")[0].strip().lower()
    if media_type and not media_type.startswith(tuple(media_types)):
        raise OutboundRefused(f"The answer's content type is {media_type[:100]!r}.")
    if (response.getheader("Content-Encoding") or "identity").strip().lower() != "identity":
        raise OutboundRefused("The answer is compressed, which was not asked for.")
    too_large = OutboundRefused(f"The answer is larger than {max_bytes:,} bytes.")
    if (response.length or 0) > max_bytes:
        raise too_large
    body = first_bytes(response, max_bytes + 1)
    if len(body) > max_bytes:
        raise too_large
    if response.length:
        raise http.client.IncompleteRead(body, response.length)
    return body


def first_bytes(response: http.client.HTTPResponse, limit: int) -> bytes:
    """Return the body's first bytes.

    `response.read(n)` takes a chunk that claims a negative length for leave to read without end; `readinto` cannot.
    """
    piece = memoryview(bytearray(min(limit, PIECE_BYTES)))
    body = bytearray()
    while len(body) < limit and (count := response.readinto(piece[: limit - len(body)])):
        body += piece[:count]
    return bytes(body)
