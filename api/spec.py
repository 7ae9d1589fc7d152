"""The OpenAPI document: flask-smorest with problem documents for errors, and bearer keys."""

from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final, TypeVar

from flask import Flask, current_app
from flask_smorest import Api, Blueprint

from api.body import StrictParser
from api.documents import ProblemDocument
from api.responses import PROBLEM

View = TypeVar("View", bound=Callable[..., Any])

TITLE: Final = "Darkroom"
#: Of the interface; fields are added to it, never renamed.
VERSION: Final = "1.0"
#: What every route may answer: no key, one that may not, too many requests, a fault of ours, a part that is away.
ALWAYS: Final = (401, 403, 429, 500, 503)
DESCRIPTION: Final = """\
A self-hosted, asynchronous job queue for Stable Diffusion: submit a prompt, get a `uid` at once, and fetch the images
when they are done, by polling, by Server-Sent Events or by a signed webhook.

Send your key as `Authorization: Bearer KEY`. Numbers are JSON numbers; `null` means the same as leaving a field out;
a field that does not exist is refused. Errors are problem documents (RFC 9457) with a stable `code`."""


class StrictBlueprint(Blueprint):
    """A blueprint that parses strictly and documents its errors."""

    ARGUMENTS_PARSER = StrictParser()

    def problems(self, *statuses: int) -> Callable[[View], View]:
        """Document that a route may answer these errors, beside those that every route may."""

        def decorate(view: View) -> View:
            for status in sorted({*statuses, *ALWAYS}):
                view = self.alt_response(status, HTTPStatus(status).name)(view)
            return view

        return decorate


class OpenApi(Api):
    """flask-smorest's Api, whose errors are ours (`api.faults`)."""

    ERROR_SCHEMA = ProblemDocument
    DEFAULT_ERROR_RESPONSE_NAME = None

    def _register_error_handlers(self) -> None:
        """Leave errors to `api.faults`."""

    def _register_responses(self) -> None:
        for status in HTTPStatus:
            if status >= HTTPStatus.BAD_REQUEST:
                content = {PROBLEM: {"schema": self.ERROR_SCHEMA}}
                response = {"description": status.phrase, "content": content}
                self.spec.components.response(status.name, response, lazy=True)


def install(app: Flask) -> OpenApi:
    """Add the document at `/openapi.json` to an app; blueprints registered with the result appear in it."""
    app.config.update(
        API_TITLE=TITLE,
        API_VERSION=VERSION,
        OPENAPI_VERSION="3.1.1",
        OPENAPI_URL_PREFIX="/",
        OPENAPI_JSON_PATH="openapi.json",
        API_SPEC_OPTIONS={"info": {"description": DESCRIPTION}, "security": [{"key": []}]},
    )
    api = OpenApi(app)
    api.spec.components.security_scheme("key", {"type": "http", "scheme": "bearer", "description": "An API key."})
    return api


def openapi_document() -> dict[str, Any]:
    """Return the current app's OpenAPI document."""
    document: dict[str, Any] = current_app.extensions["flask-smorest"]["apis"][""]["ext_obj"].spec.to_dict()
    return document
