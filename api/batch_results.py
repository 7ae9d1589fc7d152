"""A batch's manifest over HTTP: which form is asked for, and a stream of it."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, Final

from flask import Response, request

from api.links import request_links
from api.responses import PRIVATE
from api.services import services
from shared.batch import Batch
from shared.dialects.native_manifest import render_result, write_csv, write_jsonl

#: The forms of a manifest by their names in `?format=`.
FORMATS: Final[dict[str, str]] = {"jsonl": "application/jsonl", "csv": "text/csv"}
NDJSON: Final = "application/x-ndjson"
#: Records that are sent together.
SENT_AT_ONCE: Final = 64
_TEXT: Final = {"type": "string"}
RESULTS_DOC: Final[dict[str, Any]] = {
    "responses": {
        200: {
            "content": {
                NDJSON: {"schema": {**_TEXT, "description": "The same as `application/jsonl`."}},
                "text/csv": {
                    "schema": {
                        **_TEXT,
                        "description": "A header and a row for each line; `seeds` and `urls` are separated by spaces.",
                    }
                },
            }
        }
    }
}
_WRITERS: Final[dict[str, Callable[[Iterable[Mapping[str, Any]]], Iterator[str]]]] = {
    "application/jsonl": write_jsonl,
    NDJSON: write_jsonl,
    "text/csv": write_csv,
}


def results_response(batch: Batch, *, after: int, form: str | None) -> Response:
    """Return a batch's manifest from behind the line `after`, read from Redis as it is sent.

    `form` is one of `FORMATS`; None: what `Accept` says. Where Redis goes away meanwhile the answer breaks off, which
    HTTP shows: its end is missing.
    """
    mimetype = FORMATS[form] if form else request.accept_mimetypes.best_match(_WRITERS, default=FORMATS["jsonl"])
    rows, links = services().batches.all_rows(batch, after=after), request_links()
    text = _WRITERS[mimetype](render_result(row, links) for row in rows)
    response = Response(_together(text), mimetype=mimetype, headers={**PRIVATE, "Vary": "Accept"})
    suffix = "csv" if mimetype == FORMATS["csv"] else "jsonl"
    response.headers.set("Content-Disposition", "attachment", filename=f"batch-{batch.id}.{suffix}")
    return response


def _together(records: Iterator[str]) -> Iterator[str]:
    while piece := "".join(islice(records, SENT_AT_ONCE)):
        yield piece
