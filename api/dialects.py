"""Mounts the providers' dialects: turns HTTP into their calls, and their replies into HTTP."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial, update_wrapper
from typing import Any, Final

import flask
import structlog
from flask import Blueprint, Flask, Response, g, request
from werkzeug.exceptions import HTTPException

from api import strays
from api.body import is_compressed, read_bytes
from api.desk import ServiceDesk
from api.events import wait_for_end
from api.faults import StreamsFull
from api.links import own_base_url, request_links
from api.responses import ERROR_CODE, REQUEST_ID
from api.services import services
from shared.accounts import Account
from shared.api_keys import Scope
from shared.backlog.scripts import OUTAGES
from shared.dialects import PROVIDERS, Dialect, Links
from shared.dialects.base import Answer, Call, Fetch, Reply, Submit, Ticket, Wait
from shared.errors import BacklogUnavailable, BodyTooLarge, DarkroomError, MalformedBody, RateLimited, ServiceError
from shared.job import Artifact, Job, Status

#: Names the request's fields that the dialect does not know.
IGNORED_HEADER: Final = "Darkroom-Ignored"
IGNORED_HEADER_MOST_CHARS: Final = 1000
#: Of such requests a body is not read.
BODILESS: Final = frozenset({"GET", "HEAD"})
#: What a caller is told to wait after an error that may pass.
RETRY_AFTER_S: Final = 5

log = structlog.get_logger(__name__)
Route = Submit | Fetch | Answer


class TimedOut(ServiceError):
    """The picture took too long; the job was cancelled and costs nothing."""

    code = "timed_out"
    http_status = 504


class RequestView:
    """What answers of this request may need beside the job."""

    def __init__(self, links: Links) -> None:
        self.links = links

    def image(self, artifact: Artifact) -> bytes:
        """Return a stored image's bytes."""
        return services().intake.fetch(artifact).data


def install(app: Flask) -> None:
    """Mount one blueprint per provider; the native routes are there already."""
    for dialect in PROVIDERS.values():
        app.register_blueprint(_blueprint(dialect))
    strays.install(app, lambda dialect, error: _error(dialect, error, Call(method=request.method, id=_request_id())))


def _blueprint(dialect: Dialect) -> Blueprint:
    blueprint = Blueprint(dialect.name, __name__)
    for number, route in enumerate(dialect.routes):
        view = update_wrapper(partial(_serve, dialect, route), _serve)  # Flask-Limiter wants functions' names
        endpoint = f"{type(route).__name__.lower()}{number}"
        # A slash more at the end of a base URL's path is common, and means nothing.
        blueprint.add_url_rule(route.path, endpoint, view, methods=list(route.methods), strict_slashes=False)
    return blueprint


def _serve(dialect: Dialect, route: Route, **args: str) -> Response:
    """Answer one request; every error of ours in the dialect's own envelope."""
    call = Call(method=request.method, args=args, id=_request_id())
    try:
        call = _read(args)
        return _dispatch(dialect, route, call)
    except DarkroomError as error:
        return _error(dialect, error, call)
    except HTTPException as error:
        known: DarkroomError = BodyTooLarge() if error.code == BodyTooLarge.http_status else MalformedBody()
        return _error(dialect, known, call)
    except OUTAGES as error:  # met outside the backlog's own methods
        unavailable = BacklogUnavailable()
        unavailable.__cause__ = error
        return _error(dialect, unavailable, call)
    except Exception:  # a fault of ours is told in the caller's envelope too
        log.exception("request.failed")
        return _error(dialect, DarkroomError("Something went wrong on our side."), call)


def _dispatch(dialect: Dialect, route: Route, call: Call) -> Response:
    match route:
        case Submit():
            return _submit(dialect, route, call)
        case Fetch():
            return _fetch(dialect, route, call)
        case Answer():
            desk = ServiceDesk(services(), base_url=own_base_url(), scope=route.scope)
            return _respond(route.answer(call, desk))


def _read(args: Mapping[str, str]) -> Call:
    call = Call(
        method=request.method,
        args=args,
        query=request.args.to_dict(),
        headers={name.lower(): value for name, value in request.headers.items()},
        id=_request_id(),
    )
    return call if call.method in BODILESS else _with_body(call)


def _with_body(call: Call) -> Call:
    if is_compressed(request):
        raise MalformedBody("compressed bodies are not taken")
    return replace(
        call,
        # Of a form nothing is left to read once it is parsed, so the body is read first.
        body=read_bytes(request, keep=True),
        form={name: values[-1] for name, values in request.form.lists()},
        files={name: files[-1].read() for name, files in request.files.lists()},
    )


def _request_id() -> str:
    return str(g.get(REQUEST_ID, ""))


def _submit(dialect: Dialect, route: Submit, call: Call) -> Response:
    account = _account(dialect, call, Scope.SUBMIT)
    order = route.parse(call, account)
    parts = services()
    receipt = parts.intake.submit(order, account=account)
    ignored = order.submission.ignored
    del order  # its images: hundreds of callers may wait here
    job = _await(receipt.uid, account, route.wait(call))
    reply = _respond(route.render(job, RequestView(request_links())))
    if ignored:
        reply.headers[IGNORED_HEADER] = _header_text(", ".join(ignored))
    return reply


def _await(uid: int, account: Account, wait: Wait) -> Job:
    intake, settings = services().intake, services().settings

    def read() -> Job:
        return intake.read(uid, account=account)

    seconds = {Wait.NO: 0.0, Wait.SHORT: settings.short_wait_s, Wait.END: settings.sync_wait_s}[wait]
    if not seconds:
        return read()
    try:
        with services().hub.watch(uid, account=account.id) as watch:
            job = wait_for_end(watch, read, timeout_s=seconds)
    except StreamsFull:
        if wait is Wait.END:
            intake.cancel(uid, account=account)
            raise
        return read()
    if wait is Wait.END and not job.status.is_terminal:
        job = intake.cancel(uid, account=account)
        if job.status is not Status.SUCCEEDED:  # else it came at the last moment
            raise TimedOut
    return job


def _fetch(dialect: Dialect, route: Fetch, call: Call) -> Response:
    found = route.find(call)
    if isinstance(found, Ticket):
        job = services().backlog.read_by_handle(found.uid, found.handle)
    else:
        job = services().intake.read(found, account=_account(dialect, call, Scope.READ))
    return _respond(route.render(job, RequestView(request_links())))


def _account(dialect: Dialect, call: Call, scope: Scope) -> Account:
    return ServiceDesk(services(), base_url="", scope=scope).account(dialect.key(call))


def _error(dialect: Dialect, error: DarkroomError, call: Call) -> Response:
    setattr(g, ERROR_CODE, error.code)
    if isinstance(error, ServiceError):
        log.warning("request.unserved", code=error.code, cause=repr(error.__cause__ or error))
    response = _respond(dialect.render_error(error, call))
    if error.retryable:
        seconds = error.retry_after_s if isinstance(error, RateLimited) else RETRY_AFTER_S
        response.headers.setdefault("Retry-After", str(seconds))
    return response


def _respond(reply: Reply) -> Response:
    if isinstance(reply.body, bytes):
        body: Any = reply.body
    else:
        body = flask.json.dumps(reply.body) + "\n"
    response = Response(body, status=reply.status, headers=dict(reply.headers))
    response.content_type = reply.content_type
    response.headers.setdefault("Cache-Control", "private, no-store")
    return response


def _header_text(text: str) -> str:
    # Field names are the caller's: nothing of them may end a header.
    printable = "".join(character if " " <= character <= "~" else "?" for character in text)
    return printable[:IGNORED_HEADER_MOST_CHARS]
