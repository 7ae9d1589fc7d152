"""The documentation page: the OpenAPI document for people.

Written on the server, without a script or a file from elsewhere, so it works offline, under the strictest content
policy, and in every browser. Viewers such as Redoc or Swagger UI would bring megabytes of vendored JavaScript.
"""

import base64
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from flask import Blueprint, Response, redirect, render_template
from markupsafe import Markup, escape
from werkzeug.wrappers import Response as ResponseBase

from api.faults import HTTP_ERRORS
from api.links import own_base_url
from api.services import services
from api.spec import openapi_document
from shared.dialects import PROVIDERS
from shared.errors import DarkroomError, JobError, RequestError, ServiceError

docs = Blueprint("docs", __name__, template_folder="templates")

_STYLE: Final = (Path(__file__).with_name("templates") / "docs.css").read_text(encoding="utf-8")
_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_METHODS: Final = ("post", "get", "delete")
_JSON_NAMES: Final[dict[type, str]] = {str: "string", bool: "boolean", int: "integer", float: "number"}
#: Tags that are names, and are written as such.
_NAMES: Final = frozenset(dialect.manual.title for dialect in PROVIDERS.values())


@dataclass(frozen=True, kw_only=True, slots=True)
class Field:
    """A row of a table of fields or parameters."""

    name: str
    kind: str
    where: str = ""
    required: bool = False
    default: str = ""
    bounds: str = ""
    description: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """A status that an operation may answer with."""

    status: str
    description: str
    fields: tuple[Field, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Operation:
    """One method of one path, or of several that do the same."""

    id: str
    method: str
    path: str
    others: tuple[str, ...]
    summary: str
    description: str
    parameters: tuple[Field, ...]
    #: How the body may be written.
    content_types: tuple[str, ...]
    body: tuple[Field, ...]
    answers: tuple[Answer, ...]
    refusals: tuple[Answer, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Chapter:
    """The operations of one tag."""

    title: str
    description: str
    operations: tuple[Operation, ...]


@docs.get("/")
def home() -> ResponseBase:
    """Lead whoever opens the bare address to the documentation."""
    return redirect("/docs")


@docs.get("/docs")
def page() -> Response:
    """Serve the documentation."""
    document = openapi_document()
    html = render_template(
        "docs.html",
        style=Markup(_STYLE),  # noqa: S704 - our own file
        document=document,
        chapters=read_chapters(document),
        errors=error_codes(),
        job_errors=[(kind.code, (kind.__doc__ or "").splitlines()[0]) for kind in _family(JobError)[1:]],
        base_url=own_base_url(),
        model=services().catalog.default.name,
    )
    response = Response(html, mimetype="text/html")
    response.headers["Content-Security-Policy"] = (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; frame-ancestors 'none'"
    )
    return response


@docs.app_template_filter("prose")
def prose(text: str) -> Markup:
    """Return text with `code` marked up and blank lines as paragraphs."""
    paragraphs = []
    for paragraph in str(text).split("\n\n"):
        parts = [escape(part) for part in paragraph.split("`")]
        marked = (Markup("<code>{}</code>").format(part) if i % 2 else part for i, part in enumerate(parts))
        paragraphs.append(Markup("<p>{}</p>").format(Markup().join(marked)))
    return Markup().join(paragraphs)


def error_codes() -> list[dict[str, str]]:
    """Return every code a problem document may bear: its status and what it means, in the order of the statuses."""
    kinds = _family(DarkroomError)
    meanings = {kind.code: (kind.http_status, (kind.__doc__ or "").strip().splitlines()[0]) for kind in kinds}
    hidden = {RequestError.code, ServiceError.code, *(kind.code for kind in _family(JobError))}
    known = sorted((*(meanings | HTTP_ERRORS).items(),), key=lambda item: (item[1][0], item[0]))
    return [
        {"code": code, "status": str(status), "meaning": meaning}
        for code, (status, meaning) in known
        if code not in hidden
    ]


def read_chapters(document: dict[str, Any]) -> list[Chapter]:
    """Return the operations of an OpenAPI document by their tags; those of several paths that are alike are one."""
    found: dict[str, dict[str, list[tuple[str, str, dict[str, Any]]]]] = {}
    for path, method, operation in _operations(document):
        (tag,) = operation["tags"]
        said = {name: each for name, each in operation.items() if name != "shared"}
        found.setdefault(tag, {}).setdefault(json.dumps([method, said]), []).append((path, method, operation))
    descriptions = {tag["name"]: tag.get("description", "") for tag in document["tags"]}
    return [
        Chapter(
            title=tag if tag in _NAMES else tag.capitalize(),
            description=descriptions[tag],
            operations=tuple(_operation(document, alike) for alike in groups.values()),
        )
        for tag, groups in found.items()
    ]


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method in (name for name in _METHODS if name in methods):
            yield path, method, {**methods[method], "shared": methods.get("parameters", [])}


def _operation(document: dict[str, Any], alike: list[tuple[str, str, dict[str, Any]]]) -> Operation:
    path, method, found = alike[0]
    answers = [_answer(document, status, found["responses"][status]) for status in sorted(found["responses"])]
    content = found.get("requestBody", {}).get("content", {})
    return Operation(
        id=f"{method}-{path.strip('/').replace('/', '-').replace('{', '').replace('}', '')}",
        method=method.upper(),
        path=path,
        others=tuple(other for other, _, _ in alike[1:]),
        summary=found.get("summary", "").rstrip("."),
        description=found.get("description", ""),
        parameters=tuple(_parameter(each) for each in (*found["shared"], *found.get("parameters", ()))),
        content_types=tuple(content),
        body=_fields(document, next(iter(content.values()))["schema"]) if content else (),
        answers=tuple(answer for answer in answers if answer.status < "400"),
        refusals=tuple(answer for answer in answers if answer.status >= "400"),
    )


def _answer(document: dict[str, Any], status: str, found: dict[str, Any]) -> Answer:
    found = _resolved(document, found)
    schema = found.get("content", {}).get("application/json", {}).get("schema")
    return Answer(
        status=status,
        description=found.get("description", ""),
        fields=_fields(document, schema) if schema else (),
    )


def _parameter(found: dict[str, Any]) -> Field:
    schema = found.get("schema", {})
    return Field(
        name=found["name"],
        where=found["in"],
        kind=_kind(schema),
        required=bool(found.get("required")),
        default=_default(schema),
        bounds=_bounds(schema),
        description=found.get("description", ""),
    )


def _fields(document: dict[str, Any], schema: dict[str, Any]) -> tuple[Field, ...]:
    schema = _resolved(document, schema)
    if "oneOf" in schema:  # what one of them has
        known = {field.name: field for each in reversed(schema["oneOf"]) for field in _fields(document, each)}
        return tuple(known.values())
    if schema.get("type") == "array":
        return _fields(document, schema["items"])
    required = schema.get("required", ())
    return tuple(
        Field(
            name=name,
            kind=_kind(each),
            required=name in required,
            default=_default(each),
            bounds=_bounds(each),
            description=each.get("description", ""),
        )
        for name, each in schema.get("properties", {}).items()
    )


def _resolved(document: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in found:
        return found
    target: Any = document
    for part in found["$ref"].removeprefix("#/").split("/"):
        target = target[part]
    return dict(target)


def _kind(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        return "object"
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_kind(each) for each in schema["anyOf"] if each.get("type") != "null"))
    if "type" not in schema and ("enum" in schema or "const" in schema):
        kinds = [schema["const"]] if "const" in schema else schema["enum"]
        return " or ".join(dict.fromkeys(_JSON_NAMES[type(each)] for each in kinds if each is not None))
    if schema.get("format") == "binary":
        return "file"
    kinds = schema.get("type", "")
    listed = [kinds] if isinstance(kinds, str) else kinds
    return " or ".join("list" if kind == "array" else kind for kind in listed if kind != "null")


def _default(schema: dict[str, Any]) -> str:
    return json.dumps(schema["default"]) if schema.get("default") is not None else ""


def _bounds(schema: dict[str, Any]) -> str:
    schema = next((each for each in schema.get("anyOf", ()) if "minimum" in each), schema)
    said = []
    if "exclusiveMinimum" in schema and "maximum" in schema:
        said.append(f"above {schema['exclusiveMinimum']:,.12g}, to {schema['maximum']:,.12g}")
    if "minimum" in schema and "maximum" in schema:
        said.append(f"{schema['minimum']:,.12g} to {schema['maximum']:,.12g}")
    if "multipleOf" in schema:
        said.append(f"multiple of {schema['multipleOf']}")
    if "maxLength" in schema:
        said.append(f"{schema.get('minLength', 0):,} to {schema['maxLength']:,} characters")
    if "enum" in schema:
        said.append(" · ".join(_word(word) for word in schema["enum"] if word is not None))
    return ", ".join(said)


def _word(word: Any) -> str:
    return word if isinstance(word, str) else json.dumps(word)


def _family(kind: type[DarkroomError]) -> list[type[DarkroomError]]:
    """Return an error class and everything below it."""
    return [kind, *(each for child in kind.__subclasses__() for each in _family(child))]
