"""Paths and methods that are none, answered in the envelope of the dialect on whose ground they were met.

A client of a provider reads that provider's errors alone, whatever it was that it asked for.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import partial

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound
from werkzeug.routing import Map

from api import faults
from shared.dialects import PROVIDERS, Dialect
from shared.errors import DarkroomError, RequestError

Answer = Callable[[Dialect, DarkroomError], Response]


class WrongMethod(RequestError):
    """This method is not for this path; `Allow` names those that are."""

    code = "method_not_allowed"
    http_status = 405


class NothingHere(RequestError):
    """There is nothing at this path."""

    code = "not_found"
    http_status = 404


def install(app: Flask, answer: Answer) -> None:
    """Answer so; the app must know its routes already. All other paths are answered as they are elsewhere."""
    handler = partial(_handle, grounds=_grounds(app.url_map), answer=answer)
    app.register_error_handler(MethodNotAllowed, handler)
    app.register_error_handler(NotFound, handler)


def _grounds(routes: Map) -> Mapping[tuple[str, ...], Dialect]:
    """Return the beginnings of paths, as their parts, that belong to one dialect and to nobody else."""
    owners: defaultdict[tuple[str, ...], set[str]] = defaultdict(set)
    for rule in routes.iter_rules():
        fixed = rule.rule.partition("<")[0].strip("/").split("/")
        for end in range(1, len(fixed) + 1):
            owners[tuple(fixed[:end])].add(rule.endpoint.partition(".")[0])
    return {
        parts: PROVIDERS[min(names)] for parts, names in owners.items() if len(names) == 1 and names <= {*PROVIDERS}
    }


def _handle(error: HTTPException, *, grounds: Mapping[tuple[str, ...], Dialect], answer: Answer) -> Response:
    parts = tuple(request.path.strip("/").split("/"))
    owned = (grounds.get(parts[:end]) for end in range(len(parts), 0, -1))
    dialect = next((found for found in owned if found), None)
    if dialect is None:
        return faults.http_error(error)
    if not isinstance(error, MethodNotAllowed):
        return answer(dialect, NothingHere(f"There is nothing at {request.path}."))
    response = answer(dialect, WrongMethod(f"{request.method} is not for {request.path}."))
    response.headers["Allow"] = ", ".join(sorted(error.valid_methods or ()))
    return response
