"""Reads request bodies and queries into schemas, strictly, and reports every fault by our own errors."""

import json
from collections.abc import Mapping
from typing import Any, NoReturn

import flask
import marshmallow
from webargs.flaskparser import FlaskParser
from werkzeug.exceptions import UnsupportedMediaType

from api.fields import ImageSource, faults
from api.forms import MULTIPART
from shared.errors import MalformedBody
from shared.inputs import Inline


class StrictParser(FlaskParser):
    """webargs' parser with our JSON reader and our errors; unknown query parameters are refused too."""

    DEFAULT_VALIDATION_STATUS = 400
    DEFAULT_UNKNOWN_BY_LOCATION = {  # noqa: RUF012 - webargs' own attribute
        **FlaskParser.DEFAULT_UNKNOWN_BY_LOCATION,
        "query": marshmallow.RAISE,
    }

    def load_json(self, req: flask.Request, schema: marshmallow.Schema) -> Any:
        """Return the body's JSON object, or what a form says of the schema's fields."""
        return read_form(req, schema) if req.mimetype == MULTIPART else read_object(req)

    def handle_error(
        self,
        error: marshmallow.ValidationError,
        req: flask.Request,  # noqa: ARG002 - webargs' signature
        schema: marshmallow.Schema,  # noqa: ARG002
        *,
        error_status_code: int | None,  # noqa: ARG002
        error_headers: Mapping[str, str] | None,  # noqa: ARG002
    ) -> NoReturn:
        """Raise the one `InvalidField` that was found, or a group of them."""
        assert isinstance(error.messages, dict)  # noqa: S101 - webargs puts them under the location's name
        (messages,) = error.messages.values()
        found = faults(messages)
        if len(found) == 1:
            raise found[0] from error
        raise ExceptionGroup("the request has several faults", found) from error


def read_object(req: flask.Request) -> dict[str, Any]:
    """Return the JSON object in a body.

    Raises `UnsupportedMediaType` where the body does not claim to be JSON in UTF-8, `MalformedBody` where it is not.
    """
    _check_headers(req)
    data = read_bytes(req)
    if not data.strip():
        raise MalformedBody("the body is empty; a JSON object is expected")
    try:
        found = json.loads(data.decode("utf-8-sig"), parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise MalformedBody(f"the body is not valid UTF-8 at byte {error.start}") from error
    except json.JSONDecodeError as error:
        raise MalformedBody(
            f"the body is not valid JSON: {error.msg} (line {error.lineno}, column {error.colno})"
        ) from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits; thousands of brackets
        raise MalformedBody("the body is not valid JSON") from error
    if not isinstance(found, dict):
        raise MalformedBody("the body must be a JSON object")
    return found


def read_bytes(req: flask.Request, *, keep: bool = False) -> bytes:
    """Return a whole body; 413 where it is too long. With `keep` it can be parsed as a form afterwards."""
    data = req.get_data(cache=keep)
    if req.content_length is None:
        # Werkzeug cuts a chunked body at the limit without a word; asked for one byte more it raises (413).
        req.stream.read(1)
    return data


def is_compressed(req: flask.Request) -> bool:
    """Whether a body comes in another coding than its own, such as gzip. None is unpacked: bombs would be."""
    return req.content_encoding not in {None, "", "identity"}


def read_form(req: flask.Request, schema: marshmallow.Schema) -> dict[str, Any]:
    """Return a form's fields and files. Text stays text; numbers, lists and `true` are written as in JSON."""
    found: dict[str, Any] = {}
    for name, values in req.form.lists():
        kind = schema.fields.get(name)
        found[name] = values[-1] if isinstance(kind, marshmallow.fields.String | ImageSource) else _plain(values[-1])
    return found | {name: Inline(file.read()) for name, file in req.files.items()}


def _plain(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return text


def _check_headers(req: flask.Request) -> None:
    if req.mimetype != "application/json" and not req.mimetype.endswith("+json"):
        raise UnsupportedMediaType("The body must be application/json.")
    if req.mimetype_params.get("charset", "utf-8").lower() not in {"utf-8", "utf8", "us-ascii"}:
        raise UnsupportedMediaType("The body must be JSON in UTF-8.")
    if is_compressed(req):
        raise UnsupportedMediaType("Compressed bodies are not taken.")


def _refuse_constant(name: str) -> NoReturn:
    raise MalformedBody(f"the body is not valid JSON: {name} is no JSON number")
