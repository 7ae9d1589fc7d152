"""What the routes of batches answer, and what their bodies may be, for the OpenAPI document."""

from typing import Any, Final

from marshmallow import Schema, fields

from api.batch_schemas import BatchMembers
from api.documents import TIME, JobDocument, track_id_field
from api.schemas import JobRequest
from shared.batch import BatchStatus
from shared.job import Status

BATCH_ID_DOC: Final = {"in": "path", "name": "batch_id", "description": "The batch's number."}
ACCEPTED_DOC: Final = {
    "Location": {"description": "The batch.", "schema": {"type": "string", "format": "uri"}},
    "Idempotency-Replayed": {
        "description": "`true` where the batch was accepted by an earlier request.",
        "schema": {"type": "string", "enum": ["true"]},
    },
}
#: How the body of `POST /v1/batches` may be written.
BODY_DOC: Final[dict[str, Any]] = {
    "required": True,
    "content": {
        "application/json": {"schema": {"anyOf": [BatchMembers, {"type": "array", "items": JobRequest}]}},
        "application/jsonl": {
            "schema": {"type": "string", "description": "A job a line, as a JSON object with the fields of a job."}
        },
        "application/x-ndjson": {"schema": {"type": "string", "description": "The same."}},
        "text/csv": {
            "schema": {
                "type": "string",
                "description": "The first line names fields of jobs; each further row is a job.",
            }
        },
    },
}


def _text(description: str, *, null: bool = False, **metadata: Any) -> fields.String:
    return fields.String(required=True, allow_none=null, metadata={"description": description, **metadata})


def _whole(description: str, *, null: bool = False) -> fields.Integer:
    return fields.Integer(required=True, allow_none=null, metadata={"description": description})


class BatchCountsDocument(Schema):
    """How many jobs of a batch stand where."""

    queued = _whole("Wait, in the queue or for a place in it.")
    running = _whole("Are being drawn.")
    succeeded = _whole("Have their images.")
    failed = _whole("Ended without images.")
    cancelled = _whole("Were cancelled, singly or with the batch.")
    expired = _whole("Were too late.")


class BatchLinksDocument(Schema):
    """Where to go from here."""

    self = _text("The batch.", format="uri")
    jobs = _text("Its jobs, in the order of its lines.", format="uri")
    results = _text("Its manifest: what has become of each line, with links to the images.", format="uri")
    cancel = _text("POST here to end it.", format="uri")


class ArchivePartDocument(Schema):
    """A zip with images of a batch."""

    url = _text("Opens it, without a key.", format="uri")
    expires_at = _text("Until when; each read signs a new link.", format=TIME)
    first_line = _whole("The first line that it tells of.")
    last_line = _whole("The last one.")
    images = _whole("How many images are in it.")
    bytes = _whole("Its size.")


class BatchDocument(Schema):
    """A batch as it stands."""

    id = _whole("The batch's number, unique in this installation.")
    name = _text("What you call it.")
    status = _text("Where it stands.", enum=[str(status) for status in BatchStatus])
    total = _whole("Its lines.")
    counts = fields.Nested(BatchCountsDocument, required=True)
    price = _whole("What it costs if all of it succeeds, in millicredits.")
    spent = _whole("What its jobs have cost so far, in millicredits; 0 for an account that is not metered.")
    budget = _whole("The most it may cost, in millicredits.", null=True)
    archive = fields.List(
        fields.Nested(ArchivePartDocument),
        required=True,
        allow_none=True,
        metadata={
            "description": "Zips with the images and a `results.csv` that names them, for so many lines each; null "
            "until all of it is written, which is soon after the batch has ended, and where `archive` was false.",
        },
    )
    created_at = _text("When it was accepted.", format=TIME)
    finished_at = _text("When all of it had ended.", null=True, format=TIME)
    links = fields.Nested(BatchLinksDocument, required=True)


class BatchPageDocument(Schema):
    """A page of batches, newest first."""

    data = fields.List(fields.Nested(BatchDocument), required=True)
    next_cursor = _text("Pass as `cursor` for the next page; null at the end.", null=True)


class BatchRowDocument(Schema):
    """A line of a batch, and what has become of it."""

    line = _whole("The line, from 1.")
    uid = _whole("Its job's number; null until it is queued.", null=True)
    status = _text(
        "Where its job stands; null once that is past its retention or was erased.",
        null=True,
        enum=[*(str(status) for status in Status), None],
    )
    track_id = track_id_field()
    job = fields.Nested(
        JobDocument,
        required=True,
        allow_none=True,
        metadata={"description": "Its job; null until it is queued, and once it is gone."},
    )


class BatchRowPageDocument(Schema):
    """A page of a batch's lines, in their order."""

    data = fields.List(fields.Nested(BatchRowDocument), required=True)
    next_cursor = _text("Pass as `cursor` for the next page; null at the end.", null=True)


class LineFaultDocument(Schema):
    """One fault of one line."""

    line = _whole("The line, from 1. In CSV the first row below the header is line 1.")
    field = _text("The field it lies in; empty where it lies in none.")
    code = _text("Its stable name.")
    detail = _text("For people.")


class DryRunDocument(Schema):
    """What a batch would be."""

    valid = fields.Boolean(required=True, metadata={"description": "Whether it would be taken as it stands."})
    count = _whole("Its lines.")
    price = _whole("What those that are in order would cost, in millicredits.")
    error_count = _whole("Faults in all; `errors` has the first 1,000.")
    errors = fields.List(fields.Nested(LineFaultDocument), required=True)
