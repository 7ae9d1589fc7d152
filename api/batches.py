"""The native API's batches, `/v1/batches`."""

from dataclasses import asdict
from typing import Any

import structlog
from flask import Flask, Response

from api.auth import current_account, require_account
from api.batch_body import BatchBody
from api.batch_documents import (
    ACCEPTED_DOC,
    BATCH_ID_DOC,
    BODY_DOC,
    BatchDocument,
    BatchPageDocument,
    BatchRowPageDocument,
    DryRunDocument,
)
from api.batch_intake import BatchRefused, BatchRequest
from api.batch_results import FORMATS, RESULTS_DOC, results_response
from api.batch_schemas import BatchHeaders, BatchListQuery, BatchQuery, BatchResultsQuery, BatchRowsQuery
from api.faults import problem
from api.links import request_links
from api.responses import PRIVATE, json_response
from api.services import services
from api.spec import StrictBlueprint
from shared.dialects.native_batch import render_batch, render_row

log = structlog.get_logger(__name__)

batches = StrictBlueprint(
    "batches",
    __name__,
    url_prefix="/v1",
    description="Submit many jobs at once, see how they stand, pause, cancel and retry them together.",
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
@batches.problems(400, 402, 409, 413, 415)
def submit_batch(query: dict[str, Any], headers: dict[str, Any]) -> Response:
    """Submit a batch.

    Up to 100,000 jobs: as JSON Lines, as CSV, as a JSON list, as an object with `jobs`, or as a `matrix` of values to
    combine. Every line is checked before any is taken: all of them are accepted, or none, and then `errors` tells
    each fault with its line, from 1.
    """
    body = BatchBody(query, key=headers.get("idempotency_key"))
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
@batches.problems(400)
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
@batches.problems(404)
def read_batch(batch_id: int) -> Response:
    """Read a batch: where it stands, and how many of its jobs stand where."""
    batch = services().batches.read(batch_id, account=current_account().id)
    return json_response(render_batch(batch, request_links()), headers=PRIVATE)


@batches.route("/batches/<int:batch_id>/pause", parameters=[BATCH_ID_DOC], methods=["POST"])
@batches.response(200, BatchDocument)
@batches.problems(404)
def pause_batch(batch_id: int) -> Response:
    """Pause a batch.

    Nothing more of it begins; what is being drawn is drawn to its end. A batch that is over is answered as it is.
    """
    return _set(batch_id, "pause")


@batches.route("/batches/<int:batch_id>/resume", parameters=[BATCH_ID_DOC], methods=["POST"])
@batches.response(200, BatchDocument)
@batches.problems(404)
def resume_batch(batch_id: int) -> Response:
    """Let a paused batch go on where it was.

    A batch that is over is answered as it is.
    """
    return _set(batch_id, "resume")


@batches.route("/batches/<int:batch_id>/cancel", parameters=[BATCH_ID_DOC], methods=["POST"])
@batches.response(200, BatchDocument)
@batches.problems(404)
def cancel_batch(batch_id: int) -> Response:
    """Cancel a batch.

    What waits is never drawn, what is being drawn is stopped, and what is drawn stays. A batch that is over is answered
    as it is.
    """
    return _set(batch_id, "cancel")


@batches.route("/batches/<int:batch_id>/retry", parameters=[BATCH_ID_DOC], methods=["POST"])
@batches.response(200, BatchDocument)
@batches.problems(402, 404, 409)
def retry_batch(batch_id: int) -> Response:
    """Retry what ended without images.

    Jobs of the batch that failed, were cancelled or expired are queued once more, under their own uids and with their
    own seeds; lines of a cancelled batch that never were queued are queued too.
    """
    return _set(batch_id, "retry")


@batches.route("/batches/<int:batch_id>/jobs", parameters=[BATCH_ID_DOC], methods=["GET"])
@batches.arguments(BatchRowsQuery, location="query")
@batches.response(200, BatchRowPageDocument)
@batches.problems(400, 404)
def list_batch_jobs(query: dict[str, Any], batch_id: int) -> Response:
    """List the jobs of a batch, in the order of its lines."""
    batch = services().batches.read(batch_id, account=current_account().id)
    after, limit = query["cursor"], query["limit"]
    links = request_links()
    rows = services().batches.rows(batch, after=after, limit=limit)
    page = {
        "data": [render_row(row, links) for row in rows],
        "next_cursor": str(after + limit) if after + limit < batch.total else None,
    }
    return json_response(page, headers=PRIVATE)


@batches.route("/batches/<int:batch_id>/results", parameters=[BATCH_ID_DOC], methods=["GET"])
@batches.arguments(BatchResultsQuery, location="query")
@batches.response(
    200,
    {"type": "string", "description": "An object a line: a line of the batch and what has become of it."},
    content_type=FORMATS["jsonl"],
    description="The manifest, line by line.",
)
@batches.doc(**RESULTS_DOC)
@batches.problems(400, 404)
def batch_results(query: dict[str, Any], batch_id: int) -> Response:
    """Fetch a batch's manifest.

    One record for each line, in their order: number, uid, status, track_id, prompt, links to the images, the error. It
    can be read at any time; what has not ended is told as it stands. As JSON Lines, or as CSV by `format` or `Accept`.
    """
    batch = services().batches.read(batch_id, account=current_account().id)
    return results_response(batch, after=query["cursor"], form=query.get("format"))


def _set(batch_id: int, action: str) -> Response:
    batch = services().batches.set(batch_id, action, account=current_account().id)
    log.info("batch.set", batch=batch_id, action=action, status=str(batch.status))
    return json_response(render_batch(batch, request_links()), headers=PRIVATE)


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
