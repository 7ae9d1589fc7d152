"""What answers have in common: JSON and conditional requests."""

import hashlib
from typing import Any, Final

import flask
from flask import Response, request
from werkzeug.http import quote_etag

JSON: Final = "application/json"
#: An error, after RFC 9457.
PROBLEM: Final = "application/problem+json"
#: Where a request's id lives: `flask.g`, the log, problem documents.
REQUEST_ID: Final = "request_id"
#: Where the code of what a request was refused for lives: `flask.g`, the metrics.
ERROR_CODE: Final = "error_code"
#: For answers that belong to one caller and change.
PRIVATE: Final = {"Cache-Control": "private, no-cache"}


def json_response(data: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return data as a JSON answer."""
    return Response(flask.json.dumps(data) + "\n", status=status, headers=headers, mimetype=JSON)


def empty_response(status: int, headers: dict[str, str] | None = None) -> Response:
    """Return an answer without a body."""
    response = Response(status=status, headers=headers)
    response.headers.remove("Content-Type")
    return response


def etag_of(*parts: object) -> str:
    """Return an ETag's text for what the parts say."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]


def not_modified(etag: str) -> bool:
    """Whether the caller has this version already."""
    return request.if_none_match.contains_weak(etag)


def unchanged(etag: str, headers: dict[str, str] | None = None) -> Response:
    """Return 304 with what the full answer's headers would have been."""
    return empty_response(304, {"ETag": quote_etag(etag), **(headers or {})})


def file_response(data: bytes, content_type: str, *, filename: str | None, etag: str | None = None) -> Response:
    """Return an image. It may be shown on other sites' pages, as a link that was handed out should."""
    response = Response(data, headers={**PRIVATE, "Cross-Origin-Resource-Policy": "cross-origin"})
    response.content_type = content_type
    if filename is not None:
        response.headers.set("Content-Disposition", "inline", filename=filename)
    if etag is not None:
        response.set_etag(etag)
    return response
