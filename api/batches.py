"""The native API's batches, `/v1/batches`."""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict
from typing import Any, Final

from flask import Flask, Response, request
from marshmallow import ValidationError
from werkzeug.exceptions import HTTPException, UnsupportedMediaType

from api.auth import current_account, require_account
from api.batch_documents import (
    ACCEPTED_DOC,
    BATCH_ID_DOC,
    BODY_DOC,
    BatchDocument,
    BatchPageDocument,
    DryRunDocument,
)
from api.batch_intake import DEFAULT_PRIORITY, BatchRefused, BatchRequest
from api.batch_json import JsonBatch
from api.batch_lines import Line, body_chunks, read_csv, read_jsonl
from api.batch_schemas import BatchHeaders, BatchListQuery, BatchMembers, BatchQuery, options_of
from api.faults import problem
from api.fields import faults
from api.links import request_links
from api.responses import PRIVATE, json_response
from api.schemas import JobRequest
from api.services import services
from api.spec import StrictBlueprint
from shared.backlog import Idempotency
from shared.batch import BatchOptions
from shared.dialects.native_batch import render_batch
from shared.errors import DarkroomError, InvalidField

JSONL: Final = frozenset({"application/jsonl", "application/x-ndjson", "application/x-jsonlines"})
CSV: Final = "text/csv"

batches = StrictBlueprint(
    "batches",
    __name__,
    url_prefix="/v1",
    description="Submit many jobs at once, and see how they stand.",
)
batches.before_request(require_account)


def install(app: Flask) -> None:
    """Answer refused batches with what is wrong in which line."""
    app.register_error_handler(BatchRefused, _refused)


@batches.route("/batches", methods=["POST"])
@batches.arguments(BatchQuery, location="query")
@batches.arguments(BatchHeaders, location="headers")
@batches.doc(requestBody=BODY_DOC)
@batches.response(202, BatchDocument, headers=ACCEPTED_DOC, description="Accepted, all of it.")
@batches.alt_response(200, schema=DryRunDocument, description="With `dry_run`: what it would be.", success=True)
@batches.problems(400, 401, 402, 403, 409, 413, 415, 429, 503)
def submit_batch(query: dict[str, Any], headers: dict[str, Any]) -> Response:
    """Submit a batch.

    Up to 100,000 jobs: as JSON Lines, as CSV, as a JSON list, as an object with `jobs`, or as a `matrix` of values to
    combine. Every line is checked before any is taken: all of them are accepted, or none, and then `errors` tells
    each fault with its line, from 1.
    """
    body = _Body(query, key=headers.get("idempotency_key"))
    with body.read_to_the_end():
        if query["dry_run"]:
            return json_response(_dry_run(body.request()), headers=PRIVATE)
        receipt = services().batch_intake.submit(body.request(), account=current_account())
    batch = services().batches.read(receipt.id, account=current_account().id)
    rendered = render_batch(batch, request_links())
    replayed = {"Idempotency-Replayed": "true"} if receipt.replayed else {}
    return json_response(rendered, status=202, headers={"Location": rendered["links"]["self"], **replayed})


@batches.route("/batches", methods=["GET"])
@batches.arguments(BatchListQuery, location="query")
@batches.response(200, BatchPageDocument)
@batches.problems(400, 401, 503)
def list_batches(query: dict[str, Any]) -> Response:
    """List your batches, newest first."""
    found, cursor = services().batches.list_batches(
        current_account().id, before=query.get("cursor"), limit=query["limit"]
    )
    links = request_links()
    page = {
        "data": [render_batch(batch, links) for batch in found],
        "next_cursor": None if cursor is None else str(cursor),
    }
    return json_response(page, headers=PRIVATE)


@batches.route("/batches/<int:batch_id>", parameters=[BATCH_ID_DOC], methods=["GET"])
@batches.response(200, BatchDocument)
@batches.problems(401, 404, 503)
def read_batch(batch_id: int) -> Response:
    """Read a batch: where it stands, and how many of its jobs stand where."""
    batch = services().batches.read(batch_id, account=current_account().id)
    return json_response(render_batch(batch, request_links()), headers=PRIVATE)


class _Body:
    """The body of this request as a batch, read as it comes."""

    def __init__(self, query: Mapping[str, Any], *, key: str | None) -> None:
        self._query = query
        self._key = key
        self._digest = hashlib.sha256(repr(sorted(query.items())).encode())
        self._chunks = self._hashed(body_chunks(request))
        self._json: JsonBatch | None = None

    def request(self) -> BatchRequest:
        """Return the batch; its lines are read when they are asked for."""
        return BatchRequest(
            lines=self._lines(), options=self._options, defaults=self._defaults, idempotency=self._idempotency
        )

    def read_to_the_end(self) -> "_Rest":
        """Read what is left of the body where a fault ends the reading early: callers listen when they have spoken."""
        return _Rest(self._chunks)

    def _lines(self) -> Iterator[Line]:
        if request.mimetype in JSONL:
            return read_jsonl(self._chunks)
        if request.mimetype == CSV:
            return read_csv(self._chunks, JobRequest())
        if request.mimetype != "application/json" and not request.mimetype.endswith("+json"):
            raise UnsupportedMediaType("The body must be application/json, application/jsonl or text/csv.")
        self._json = JsonBatch(self._chunks)
        return self._json.lines()

    def _members(self) -> dict[str, Any]:
        if self._json is None or not self._json.members:
            return {}
        try:
            found: dict[str, Any] = BatchMembers().load(self._json.members)
        except ValidationError as error:
            raise faults(error.messages_dict)[0] from error
        return found

    def _options(self) -> BatchOptions:
        return options_of({**self._query, **self._members()})

    def _defaults(self) -> Mapping[str, Any]:
        members = self._json.members if self._json else {}
        given = members.get("defaults") or {}
        if not isinstance(given, dict):
            raise InvalidField("defaults", "must be an object of fields")
        priority = members.get("priority") or self._query.get("priority", DEFAULT_PRIORITY)
        return {"priority": priority, **given}

    def _idempotency(self) -> Idempotency | None:
        return Idempotency(self._key, self._digest.hexdigest()) if self._key else None

    def _hashed(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            self._digest.update(chunk)
            yield chunk


class _Rest:
    """A context at whose end, should an error end it, the rest of the body is read and thrown away."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None or not issubclass(kind, DarkroomError):
            return
        with suppress(HTTPException):  # too long as well: the first fault is the one to tell
            for _chunk in self._chunks:
                pass


def _dry_run(batch: BatchRequest) -> dict[str, Any]:
    found = services().batch_intake.check(batch, account=current_account())
    budget = batch.options().budget
    return {
        "valid": not found.count and (budget is None or found.price <= budget),
        "count": found.lines,
        "price": found.price,
        "error_count": found.count,
        "errors": [asdict(fault) for fault in found.faults],
    }


def _refused(error: BatchRefused) -> Response:
    return problem(
        error.http_status,
        code=error.code,
        title="This batch has lines that cannot be",
        detail=error.message,
        error_count=error.count,
        errors=[asdict(fault) for fault in error.faults],
    )
