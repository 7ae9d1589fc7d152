"""The body of `POST /v1/batches`: a batch in any of its forms, read as it comes."""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, Final

from flask import request
from marshmallow import ValidationError
from werkzeug.exceptions import HTTPException, UnsupportedMediaType

from api.batch_intake import DEFAULT_PRIORITY, BatchRequest
from api.batch_json import JsonBatch
from api.batch_lines import Line, body_chunks, read_csv, read_jsonl
from api.batch_schemas import BatchMembers, options_of
from api.fields import faults
from api.schemas import JobRequest
from shared.backlog import Idempotency
from shared.batch import BatchOptions
from shared.errors import DarkroomError, InvalidField

JSONL: Final = frozenset({"application/jsonl", "application/x-ndjson", "application/x-jsonlines"})
CSV: Final = "text/csv"


class BatchBody:
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
        return {"priority": priority, **{name: value for name, value in given.items() if value is not None}}

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
