"""Puts the providers' dialects into the OpenAPI document, out of what each says of itself (`shared.dialects.pages`)."""

from collections.abc import Mapping
from copy import deepcopy
from http import HTTPStatus
from typing import Any, Final

from apispec import APISpec
from flask import Flask
from werkzeug.routing import Rule

from shared.dialects import PROVIDERS, Dialect
from shared.dialects.base import Answer, Fetch, Submit
from shared.dialects.pages import Page, Schema

_IGNORED: Final = {
    "Darkroom-Ignored": {
        "description": "The request's fields that nobody knows; absent where there are none.",
        "schema": {"type": "string"},
    }
}
_RETRY_AFTER: Final = {
    "Retry-After": {"description": "Seconds after which trying again may help.", "schema": {"type": "integer"}}
}
#: Errors that may pass.
_PASSING: Final = frozenset({HTTPStatus.CONFLICT, HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})
_COMPONENTS: Final = "#/components/schemas/"


def describe(app: Flask, spec: APISpec) -> None:
    """Add every dialect's operations; the app must know their routes already."""
    rules = {rule.rule: rule for rule in app.url_map.iter_rules()}
    for dialect in PROVIDERS.values():
        _Chapter(spec, dialect).write(rules)


class _Chapter:
    """One dialect in the document."""

    def __init__(self, spec: APISpec, dialect: Dialect) -> None:
        self._spec = spec
        self._dialect = dialect
        self._manual = dialect.manual

    def write(self, rules: Mapping[str, Rule]) -> None:
        manual, components = self._manual, self._spec.components
        self._spec.tag({"name": manual.title, "description": manual.description})
        for name, scheme in manual.keys.items():
            if name not in components.security_schemes:
                components.security_scheme(name, dict(scheme))
        for route in self._dialect.routes:
            arguments = [
                {"in": "path", "name": name, "required": True, "description": manual.arguments[name]}
                for name in sorted(rules[route.path].arguments)
            ]
            operations = {method.lower(): self._operation(route) for method in route.methods}
            self._spec.path(rule=rules[route.path], operations=operations, parameters=arguments)

    def _operation(self, route: Submit | Fetch | Answer) -> dict[str, Any]:
        page = route.page
        body = route.schema if isinstance(route, Submit) else page.body
        found: dict[str, Any] = {
            "tags": [self._manual.title],
            "summary": route.summary,
            "responses": self._answers(page, ignores=isinstance(route, Submit)) | self._errors(page),
            "security": self._security(page),
        }
        if page.headers:
            found["parameters"] = [
                {"in": "header", "name": name, "schema": {"type": "string"}, "description": says}
                for name, says in page.headers.items()
            ]
        if body is not None:
            content = {kind: {"schema": self._schema(body)} for kind in page.content_types}
            found["requestBody"] = {"required": bool(body.get("required")), "content": content}
        return found

    def _security(self, page: Page) -> list[dict[str, list[str]]]:
        if page.public:
            return []
        schemes: list[dict[str, list[str]]] = [{name: []} for name in self._manual.keys]
        return [{}, *schemes] if self._manual.key_in_body else schemes

    def _answers(self, page: Page, *, ignores: bool) -> dict[str, Any]:
        return {
            str(status): {
                "description": told[0].description,
                "content": {each.content_type: {"schema": self._schema(each.schema)} for each in told},
                **({"headers": deepcopy(_IGNORED)} if ignores else {}),
            }
            for status, told in page.answers.items()
        }

    def _errors(self, page: Page) -> dict[str, Any]:
        return {
            str(status): {
                "description": HTTPStatus(status).phrase,
                "content": {"application/json": {"schema": self._schema(self._manual.error(status))}},
                **({"headers": deepcopy(_RETRY_AFTER)} if status in _PASSING else {}),
            }
            for status in sorted(page.errors)
        }

    def _schema(self, schema: Schema) -> dict[str, Any]:
        """Return a schema with all that have a title made components, each once."""
        title = schema.get("title")
        if not isinstance(title, str):  # of an object's properties one may be called so
            return {name: self._part(part) for name, part in schema.items()}
        if title not in self._spec.components.schemas:
            found = {name: self._part(part) for name, part in schema.items() if name != "title"}
            self._spec.components.schema(title, found)
        return {"$ref": f"{_COMPONENTS}{title}"}

    def _part(self, part: Any) -> Any:
        if isinstance(part, Mapping):
            return self._schema(part)
        if isinstance(part, list | tuple):
            return [self._part(each) for each in part]
        return part
