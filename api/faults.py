"""Errors as RFC 9457 problem documents.

`code` is stable and is what programs compare; `type` leads to its description in `/docs`. A fault of ours says
nothing about its cause: the log has it, under the request's id.
"""

import http
import re
from typing import Any, Final

import flask
import structlog
from flask import Flask, Response, g, request
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from api.responses import ERROR_CODE, PROBLEM, REQUEST_ID
from shared.errors import (
    BacklogFull,
    BacklogUnavailable,
    BodyTooLarge,
    DarkroomError,
    InvalidField,
    MalformedBody,
    NotFinished,
    RateLimited,
    ServiceError,
    StorageUnavailable,
    TooManyWaiting,
    Unauthorized,
)

#: Error -> seconds after which trying again makes sense.
RETRY_AFTER_S: Final[dict[type[DarkroomError], int]] = {
    BacklogFull: 5,
    BacklogUnavailable: 2,
    StorageUnavailable: 5,
    TooManyWaiting: 5,
    NotFinished: 1,
}
#: HTTP's own errors, by the names they bear here.
_HTTP_CODES: Final = {400: MalformedBody.code, 413: BodyTooLarge.code, 500: DarkroomError.code}
#: Those without a class of ours: code -> (status, meaning).
HTTP_ERRORS: Final = {
    "unsupported_media_type": (415, "The body is not JSON in UTF-8, or does not say so in `Content-Type`."),
}

log = structlog.get_logger(__name__)


class StreamsFull(ServiceError):
    """Too many streams and waiting requests are open."""

    code = "too_many_streams"


def install(app: Flask) -> None:
    """Answer every error of this app by a problem document."""
    app.register_error_handler(DarkroomError, darkroom_error)
    app.register_error_handler(ExceptionGroup, several_faults)
    app.register_error_handler(RedisConnectionError, redis_away)
    app.register_error_handler(RedisTimeoutError, redis_away)
    app.register_error_handler(HTTPException, http_error)
    app.register_error_handler(Exception, unexpected)


def darkroom_error(error: DarkroomError) -> Response:
    """Answer one of our errors."""
    if isinstance(error, ServiceError):
        log.warning("request.unserved", code=error.code, cause=repr(error.__cause__ or error))
    response = problem(error.http_status, code=error.code, title=_title(error), detail=_detail(error), **_field(error))
    seconds = retry_after_s(error)
    if isinstance(error, ServiceError) or seconds is not None:
        response.headers["Retry-After"] = str(seconds or 5)
    if isinstance(error, Unauthorized):
        response.headers["WWW-Authenticate"] = 'Bearer realm="darkroom"'
    return response


def retry_after_s(error: DarkroomError) -> int | None:
    """Return the seconds after which trying again makes sense, where that is known."""
    if isinstance(error, RateLimited):
        return error.retry_after_s
    return next((seconds for kind, seconds in RETRY_AFTER_S.items() if isinstance(error, kind)), None)


def several_faults(group: "ExceptionGroup[InvalidField]") -> Response:
    """Answer all faults of one request; the first gives the problem its code."""
    first = group.exceptions[0]
    if not isinstance(first, InvalidField):
        return unexpected(group)
    errors = [{"field": e.field, "code": e.code, "detail": e.message} for e in _leaves(group)]
    more = {"field": first.field, "errors": errors}
    return problem(first.http_status, code=first.code, title=_title(first), detail=_detail(first), **more)


def redis_away(error: Exception) -> Response:
    """Answer an outage that was met outside the backlog's own methods."""
    unavailable = BacklogUnavailable()
    unavailable.__cause__ = error
    return darkroom_error(unavailable)


def http_error(error: HTTPException) -> Response:
    """Answer an error of HTTP's: no such route, wrong method, body too large."""
    if error.response is not None or error.code is None or error.code < http.HTTPStatus.BAD_REQUEST:
        return flask.make_response(error.get_response())
    status = http.HTTPStatus(error.code)
    code = _HTTP_CODES.get(status, status.phrase.lower().replace(" ", "_").replace("-", "_"))
    response = problem(status, code=code, title=status.phrase, detail=_described(error))
    if isinstance(error, MethodNotAllowed) and error.valid_methods:
        response.headers["Allow"] = ", ".join(sorted(error.valid_methods))
    return response


def unexpected(error: Exception) -> Response:
    """Answer a fault of ours without a word about its cause."""
    log.error("request.failed", exc_info=error)
    return problem(500, code=DarkroomError.code, title="Internal error", detail="Something went wrong on our side.")


def problem(status: int, *, code: str, title: str, detail: str, **more: Any) -> Response:
    """Return a problem document."""
    setattr(g, ERROR_CODE, code)
    body = {"type": f"/docs#{code}", "title": title, "status": int(status), "detail": detail, "code": code, **more}
    body[REQUEST_ID] = g.get(REQUEST_ID, "")
    return Response(flask.json.dumps(body) + "\n", status=int(status), mimetype=PROBLEM)


def _title(error: DarkroomError) -> str:
    return (type(error).__doc__ or type(error).__name__).strip().splitlines()[0].rstrip(".")


def _detail(error: DarkroomError) -> str:
    return f"{error.field}: {error.message}" if isinstance(error, InvalidField) else error.message


def _field(error: DarkroomError) -> dict[str, Any]:
    if not isinstance(error, InvalidField):
        return {}
    return {"field": error.field, "errors": [{"field": error.field, "code": error.code, "detail": error.message}]}


def _leaves(group: "ExceptionGroup[InvalidField]") -> list[InvalidField]:
    return [error for error in group.exceptions if isinstance(error, InvalidField)]


def _described(error: HTTPException) -> str:
    if error.code == http.HTTPStatus.NOT_FOUND:
        return f"There is nothing at {request.path}."
    if error.code == http.HTTPStatus.METHOD_NOT_ALLOWED:
        return f"{request.method} is not for {request.path}."
    return re.sub(r"\s+", " ", error.description or "")
