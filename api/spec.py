"""The OpenAPI document: flask-smorest with problem documents for errors, and bearer keys."""

from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from threading import Lock
from typing import Any, Final, TypeVar

import flask
from flask import Flask, Response, current_app
from flask_smorest import Api, Blueprint

from api.body import StrictParser
from api.documents import ProblemDocument
from api.responses import JSON, PROBLEM

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
    """flask-smorest's Api, whose errors are ours (`api.faults`), and whose document is written when first asked for.

    Writing it takes longer than all else that starts the API, and most processes never show it.
    """

    ERROR_SCHEMA = ProblemDocument
    DEFAULT_ERROR_RESPONSE_NAME = None

    def __init__(self, app: Flask) -> None:
        self._chapters: list[Callable[[], None]] = []
        self._document: dict[str, Any] | None = None
        self._writing = Lock()
        super().__init__(app)

    def register_blueprint(self, blueprint: Blueprint) -> None:
        """Mount a blueprint, whose routes the document will have."""
        self._app.extensions["flask-smorest"]["blp_name_to_api"][blueprint.name] = self
        self._app.register_blueprint(blueprint)
        self.add_chapter(partial(self._describe, blueprint))

    def add_chapter(self, write: Callable[[], None]) -> None:
        """Let `write` add to `spec` before the document is first shown."""
        self._chapters.append(write)

    def document(self) -> dict[str, Any]:
        """Return the whole document; not to be changed."""
        with self._writing:
            if self._document is None:
                for write in self._chapters:
                    write()
                self._document = self.spec.to_dict()
            return self._document

    def _openapi_json(self) -> Response:
        return Response(flask.json.dumps(self.document(), indent=2), mimetype=JSON)

    def _describe(self, blueprint: Blueprint) -> None:
        blueprint.register_views_in_doc(self, self._app, self.spec, name=blueprint.name, parameters=None)
        self.spec.tag({"name": blueprint.name, "description": blueprint.description})

    def _register_error_handlers(self) -> None:
        """Leave errors to `api.faults`."""

    def _register_responses(self) -> None:
        self.add_chapter(self._describe_errors)

    def _describe_errors(self) -> None:
        for status in HTTPStatus:
            if status >= HTTPStatus.BAD_REQUEST:
                content = {PROBLEM: {"schema": self.ERROR_SCHEMA}}
                response = {"description": status.phrase, "content": content}
                self.spec.components.response(status.name, response, lazy=True)


def install(app: Flask) -> OpenApi:
    """Add the document at `/openapi.json` to an app; blueprints registered with the result will be in it."""
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
    api: OpenApi = current_app.extensions["flask-smorest"]["apis"][""]["ext_obj"]
    return api.document()
