"""What every request and answer gets: an id, security headers, and CORS for the origins that CORS_ORIGINS names."""

import re
import secrets
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final

import structlog
from flask import Flask, Response, g, request
from werkzeug.middleware.proxy_fix import ProxyFix

from api.responses import REQUEST_ID, empty_response
from shared.settings import Settings

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

REQUEST_ID_HEADER: Final = "Darkroom-Request-Id"
#: Sent with every answer that does not say otherwise.
SECURITY_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
}
#: Sent in addition where callers reach us over TLS: for a year they use nothing else.
TRANSPORT_SECURITY: Final = {"Strict-Transport-Security": "max-age=31536000"}
CORS_METHODS: Final = "GET, HEAD, POST, DELETE, OPTIONS"
#: What is read; the last three with the providers' APIs.
CORS_REQUEST_HEADERS: Final = (
    *("Authorization", "Content-Type", "Accept", "Idempotency-Key", "If-None-Match", "Last-Event-ID"),
    *("Authentication", "X-OctoAI-Async", "Organization"),
)
CORS_ANSWER_HEADERS: Final = (
    "Location, Retry-After, ETag, Content-Disposition, Idempotency-Replayed, WWW-Authenticate, Darkroom-Ignored, "
    "RateLimit, RateLimit-Policy, RateLimit-Limit, RateLimit-Remaining, RateLimit-Reset, Seed, Finish-Reason, "
    + REQUEST_ID_HEADER
)
#: How long browsers remember a preflight's answer.
CORS_MAX_AGE_S: Final = 600
_HEADER_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
ANY_ORIGIN: Final = "*"
_SLASHES: Final = re.compile("//+")


def install(app: Flask, settings: Settings) -> None:
    """Add all of it to an app."""
    headers = SECURITY_HEADERS
    app.wsgi_app = _SingleSlashes(app.wsgi_app)  # type: ignore[method-assign]
    if settings.public_url.lower().startswith("https://"):
        headers = {**SECURITY_HEADERS, **TRANSPORT_SECURITY}
    if settings.proxy_hops:
        # Only whom we speak with. Host and scheme are PUBLIC_URL's business.
        app.wsgi_app = ProxyFix(  # type: ignore[method-assign]
            app.wsgi_app, x_for=settings.proxy_hops, x_proto=0, x_host=0, x_port=0, x_prefix=0
        )
    app.before_request(_name_request)
    app.after_request(lambda response: _secure(response, headers))
    if settings.cors_origins:
        app.before_request(_answer_preflight)
        app.after_request(lambda response: _allow_origin(response, settings.cors_origins))


class _SingleSlashes:
    """Takes `//` in a path for `/`.

    It comes of a base URL that ends in one, and is common. A redirect would not do: some clients follow none.
    """

    def __init__(self, app: "WSGIApplication") -> None:
        self._app = app

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        environ["PATH_INFO"] = _SLASHES.sub("/", environ.get("PATH_INFO", ""))
        return self._app(environ, start_response)


def _name_request() -> None:
    setattr(g, REQUEST_ID, secrets.token_hex(8))
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(request_id=g.get(REQUEST_ID), method=request.method, path=request.path)


def _secure(response: Response, headers: Mapping[str, str]) -> Response:
    for name, value in headers.items():
        response.headers.setdefault(name, value)
    response.headers[REQUEST_ID_HEADER] = g.get(REQUEST_ID, "")
    return response


def _answer_preflight() -> Response | None:
    if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
        return empty_response(204)
    return None


def _allow_origin(response: Response, origins: tuple[str, ...]) -> Response:
    anyone = ANY_ORIGIN in origins
    if not anyone:
        response.vary.add("Origin")
    origin = request.headers.get("Origin")
    if origin is None or not (anyone or origin in origins):
        return response
    response.headers["Access-Control-Allow-Origin"] = ANY_ORIGIN if anyone else origin
    response.headers["Access-Control-Expose-Headers"] = CORS_ANSWER_HEADERS
    if request.method == "OPTIONS":
        response.headers["Access-Control-Allow-Methods"] = CORS_METHODS
        response.headers["Access-Control-Allow-Headers"] = ", ".join(_welcome_headers())
        response.vary.add("Access-Control-Request-Headers")
        response.headers["Access-Control-Max-Age"] = str(CORS_MAX_AGE_S)
    return response


def _welcome_headers() -> list[str]:
    """Return what is read, and what else the browser asks for: clients introduce themselves by headers of their own.

    Nothing is opened by that: an origin that is welcome may send what any program may.
    """
    known = {name.lower() for name in CORS_REQUEST_HEADERS}
    asked = (name.strip() for name in request.headers.get("Access-Control-Request-Headers", "").split(","))
    return [*CORS_REQUEST_HEADERS, *(n for n in asked if _HEADER_NAME.fullmatch(n) and n.lower() not in known)]
