"""What the OpenAPI document says of a dialect: pure data, which `api.provider_pages` puts together.

Schemas are JSON Schema. One with a `title` becomes a component of that name, so that it is written once.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

JSON: Final = "application/json"
FORM: Final = "multipart/form-data"
URLENCODED: Final = "application/x-www-form-urlencoded"
Schema = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Told:
    """An answer that is no error: what it means and what it holds."""

    description: str
    schema: Schema
    content_type: str = JSON


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """One route, beside its path and its summary."""

    #: What the body holds; None where there is none. Of a `Submit`, its `schema` tells.
    body: Schema | None = None
    #: How the body may be written.
    content_types: tuple[str, ...] = (JSON,)
    #: status -> what is answered; of several, one is sent as the request asks.
    answers: Mapping[int, tuple[Told, ...]] = field(default_factory=dict)
    #: The statuses of errors.
    errors: tuple[int, ...] = ()
    #: Headers that are read -> what they do.
    headers: Mapping[str, str] = field(default_factory=dict)
    #: Whether it needs no key.
    public: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Manual:
    """One dialect."""

    #: What people call the provider.
    title: str
    description: str
    #: How a key comes, as OpenAPI's security schemes by name; any one of them will do.
    keys: Mapping[str, Mapping[str, str]]
    #: status -> the body of an error.
    error: Callable[[int], Schema]
    #: The variable parts of paths -> what they are.
    arguments: Mapping[str, str] = field(default_factory=dict)
    #: Whether the body may hold the key instead.
    key_in_body: bool = False


#: A key in the header Authorization, as in the native API.
BEARER: Final[Mapping[str, Mapping[str, str]]] = {
    "key": {"type": "http", "scheme": "bearer", "description": "An API key."}
}


def record(title: str, properties: Mapping[str, Any], *, optional: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the schema of an object in an answer; all but the optional properties are always there."""
    required = [name for name in properties if name not in optional]
    return {"title": title, "type": "object", "required": required, "properties": dict(properties)}


def text(description: str, *, null: bool = False, **more: Any) -> dict[str, Any]:
    """Return the schema of a string in an answer."""
    return {"type": ["string", "null"] if null else "string", "description": description, **more}


def whole(description: str, *, null: bool = False, **more: Any) -> dict[str, Any]:
    """Return the schema of a whole number in an answer."""
    return {"type": ["integer", "null"] if null else "integer", "description": description, **more}


def number(description: str, *, null: bool = False, **more: Any) -> dict[str, Any]:
    """Return the schema of a number in an answer."""
    return {"type": ["number", "null"] if null else "number", "description": description, **more}


def texts(description: str) -> dict[str, Any]:
    """Return the schema of a list of strings in an answer."""
    return {"type": "array", "items": {"type": "string"}, "description": description}
