"""A span for every request, from its start to the head of the answer, below the one that its `traceparent` names.

Paths may hold what opens a picture, and bodies are the callers': of a request the route is told, no more.
"""

from contextlib import ExitStack
from typing import Final

from flask import Flask, Response, g, request

from api.responses import ERROR_CODE, REQUEST_ID
from shared import tracing
from shared.tracing import Kind, Span

#: Asked every few seconds, by machines: nobody follows those.
UNTRACED: Final = frozenset({"health", "metrics"})
_OPEN: Final = "trace"
_SERVER_ERROR: Final = 500


def install(app: Flask) -> None:
    """Trace every request of an app; costs a look at a variable while tracing is off."""
    app.before_request(_begin)
    app.after_request(_end)


def _begin() -> None:
    tracer = tracing.tracer()
    if not tracer.is_on or request.blueprint in UNTRACED:
        return
    route = request.url_rule.rule if request.url_rule is not None else ""
    attributes = {
        "http.request.method": request.method,
        "http.route": route,
        "url.scheme": request.scheme,
        "darkroom.request_id": g.get(REQUEST_ID, ""),
    }
    stack = ExitStack()
    # A request without the header begins a trace; so does one whose header is none.
    parent = request.headers.get("traceparent", "")
    name = f"{request.method} {route}".rstrip()
    span = stack.enter_context(tracer.span(name, kind=Kind.SERVER, parent=parent, attributes=attributes))
    setattr(g, _OPEN, (span, stack))


def _end(response: Response) -> Response:
    opened: tuple[Span, ExitStack] | None = g.pop(_OPEN, None)
    if opened is None:
        return response
    span, stack = opened
    code = g.get(ERROR_CODE)
    span.set({"http.response.status_code": response.status_code})
    if response.status_code >= _SERVER_ERROR:
        span.fail(code or str(response.status_code))
    elif code is not None:  # a refusal is the caller's error, and no failure of what is traced
        span.set({"error.type": code})
    stack.close()
    return response
