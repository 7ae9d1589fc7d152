"""What the native API answers, for the OpenAPI document. Answers are built in `shared.dialects.native`."""

from typing import Any, Final

from marshmallow import Schema, fields

from shared.catalog import Kind
from shared.dialects.links import SUFFIXES
from shared.job import Status

TIME: Final = "date-time"

LOCATION_DOC: Final = {
    "Location": {"description": "The job.", "schema": {"type": "string", "format": "uri"}},
    "Idempotency-Replayed": {
        "description": "`true` where the job was accepted by an earlier request.",
        "schema": {"type": "string", "enum": ["true"]},
    },
}
READ_DOC: Final = {
    "ETag": {"description": "This version of the job; for `If-None-Match`.", "schema": {"type": "string"}},
    "Retry-After": {
        "description": "Seconds to wait before the next read; absent once the job has ended.",
        "schema": {"type": "integer"},
    },
}
UID_DOC: Final = {"in": "path", "name": "uid", "description": "The job's number."}
INDEX_DOC: Final = {"in": "path", "name": "index", "description": "The image's place in the job, from 0."}
IMAGE_CONTENT: Final = {content_type: {"schema": {"type": "string", "format": "binary"}} for content_type in SUFFIXES}
LAST_EVENT_ID_DOC: Final = {
    "in": "header",
    "name": "Last-Event-ID",
    "required": False,
    "description": "The `id` of the last event the caller saw: what it missed is sent first.",
    "schema": {"type": "string"},
}


def _text(description: str, *, null: bool = False, **metadata: Any) -> fields.String:
    return fields.String(required=True, allow_none=null, metadata={"description": description, **metadata})


def _whole(description: str, *, null: bool = False, **metadata: Any) -> fields.Integer:
    return fields.Integer(required=True, allow_none=null, metadata={"description": description, **metadata})


class LinksDocument(Schema):
    """Where to go from here."""

    self = _text("The job.", format="uri")
    events = _text("Its events, as Server-Sent Events.", format="uri")
    cancel = _text("POST here to end it.", format="uri")


def _uid() -> fields.Integer:
    return _whole("The job's number, unique in this installation.", example=1763631895123)


def _status() -> fields.String:
    return _text("Where the job stands.", enum=[str(status) for status in Status])


def track_id_field() -> fields.Raw:
    """Return the caller's reference, as a job's document describes it."""
    return fields.Raw(
        required=True,
        allow_none=True,
        metadata={
            "description": "Your own reference, with the type it came with.",
            "anyOf": [{"type": "string"}, {"type": "integer"}, {"type": "null"}],
        },
    )


class ReceiptDocument(Schema):
    """A job that was accepted."""

    uid = _uid()
    status = _status()
    track_id = track_id_field()
    created_at = _text("When it was accepted.", format=TIME)
    links = fields.Nested(LinksDocument, required=True)


class ProgressDocument(Schema):
    """How far the images are."""

    step = _whole("Steps done.")
    steps = _whole("Steps in all.")
    fraction = fields.Float(required=True, metadata={"description": "0 to 1.", "minimum": 0, "maximum": 1})


class OutputDocument(Schema):
    """One image."""

    index = _whole("Its place in the job.")
    url = _text("Where to get it, without a key, until `expires_at`.", format="uri")
    seed = _whole("The seed that draws this very image again.")
    width = _whole("Pixels.")
    height = _whole("Pixels.")
    content_type = _text("Its media type.", example="image/png")
    flagged = fields.Boolean(
        required=True,
        metadata={"description": "Whether the safety checker flagged it; this then is what `safety` made of it."},
    )
    expires_at = _text("When `url` stops working; read the job again for a new one.", format=TIME)


class PreviewDocument(Schema):
    """One image on the way."""

    index = _whole("The image's place in the job.")
    step = _whole("How many evaluations of the network it has behind it.")
    url = _text("Where to get it, without a key, until `expires_at`.", format="uri")
    expires_at = _text("When `url` stops working; read the job again for a new one.", format=TIME)


class JobErrorDocument(Schema):
    """Why a job failed."""

    code = _text("Stable name of the reason.")
    message = _text("For people.")
    retryable = fields.Boolean(required=True, metadata={"description": "Whether the same job may succeed later."})


class JobDocument(Schema):
    """A job as it stands."""

    uid = _uid()
    status = _status()
    track_id = track_id_field()
    attempts = _whole("How often a worker began it.")
    progress = fields.Nested(ProgressDocument, required=True)
    position = _whole("Jobs before this one while it is queued; an estimate.", null=True)
    waits_for = _text(
        "What a queued job waits for: `images` to be fetched, a pool that is `paused`, `no_worker` at all or "
        "`no_worker_for_model`, none that is new enough (`no_worker_for_format`), its own account's limit "
        "(`account_limit`), `other_jobs`, or `a_free_worker`.",
        null=True,
    )
    eta_s = _whole(
        "Seconds until the job is expected to end, by how long such jobs took of late; null where that is not known.",
        null=True,
    )
    created_at = _text("When it was accepted.", format=TIME)
    started_at = _text("When a worker began it.", null=True, format=TIME)
    finished_at = _text("When it ended.", null=True, format=TIME)
    parameters = fields.Dict(
        required=True,
        metadata={"description": "What had an effect; before the job has run, what was asked with its seeds drawn."},
    )
    outputs = fields.List(fields.Nested(OutputDocument), required=True)
    previews = fields.List(fields.Nested(PreviewDocument), required=True)
    timings = fields.Dict(
        keys=fields.String(),
        values=fields.Float(),
        required=True,
        metadata={"description": "Seconds per stage: queued, load, generate, encode, store, total."},
    )
    error = fields.Nested(JobErrorDocument, required=True, allow_none=True)
    links = fields.Nested(LinksDocument, required=True)


class JobPageDocument(Schema):
    """A page of jobs, newest first."""

    data = fields.List(fields.Nested(JobDocument), required=True)
    next_cursor = _text("Pass as `cursor` for the next page; null at the end.", null=True)


class ModelDocument(Schema):
    """A model that jobs may name."""

    name = _text("What to write into `model`.")
    description = _text("What it draws.")
    aliases = fields.List(fields.String(), required=True, metadata={"description": "Other names for it."})
    default = fields.Boolean(required=True, metadata={"description": "Whether jobs that name no model get it."})
    max_pixels = _whole("Most pixels (width times height) of one image.")
    schedulers = fields.List(fields.String(), required=True, metadata={"description": "Schedulers it runs with."})
    base = _text("Its family: it wears assets of the same base.")


class ModelListDocument(Schema):
    """The models of this installation."""

    data = fields.List(fields.Nested(ModelDocument), required=True)


class AssetDocument(Schema):
    """What models can wear for a job."""

    kind = _text("What it is.", enum=[str(kind) for kind in Kind if kind is not Kind.MODEL])
    name = _text("What to write into the job's field for this kind.")
    description = _text("What it does.")
    aliases = fields.List(fields.String(), required=True, metadata={"description": "Other names for it."})
    base = _text("The family of models that it is made for.")
    triggers = fields.List(
        fields.String(), required=True, metadata={"description": "Words that a prompt should have for it."}
    )


class AssetListDocument(Schema):
    """The assets of this installation that the caller may use."""

    data = fields.List(fields.Nested(AssetDocument), required=True)


class FaultDocument(Schema):
    """One fault of a request."""

    field = _text("The field it lies in; empty where it lies in none.")
    code = _text("Its stable name.")
    detail = _text("For people.")
    line = fields.Integer(metadata={"description": "The line of a batch that it lies in, from 1."})


class ProblemDocument(Schema):
    """An error, after RFC 9457."""

    type = _text("Leads to the description of `code`.", format="uri-reference")
    title = _text("The kind of error.")
    status = _whole("The HTTP status.")
    detail = _text("What is wrong here.")
    code = _text("Stable name; compare this one.", example="invalid_value")
    field = fields.String(metadata={"description": "The field at fault."})
    errors = fields.List(fields.Nested(FaultDocument), metadata={"description": "All faults of the request."})
    error_count = fields.Integer(metadata={"description": "Faults of a batch in all; `errors` has the first 1,000."})
    request_id = _text("Name it when you report an error.")
