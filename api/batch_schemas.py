"""What the routes of batches take: schemas that check a request and document it."""

from typing import Any, Final

from marshmallow import fields, pre_load, validate

from api.batch_results import FORMATS
from api.fields import Flag, Known, QueryNumber, Text
from api.schemas import MAX_WEBHOOK_URL_CHARACTERS, JobRequest, Request, SubmitHeaders, without_nulls
from shared.batch import MAX_LINES, BatchOptions
from shared.job import PRIORITIES

MAX_NAME_CHARACTERS: Final = 255
#: What of these fields belongs to the batch itself.
BATCH_OPTIONS: Final = ("name", "budget", "webhook_url", "archive")
#: Millicredits.
MAX_BUDGET: Final = 2**53


class QueryFlag(Flag):
    """`1` or `true`, `0` or `false`, in a query string."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> bool:
        words = {"1": True, "true": True, "0": False, "false": False}
        return super()._deserialize(words.get(value, value), attr, data, **kwargs)


class BatchFields(Request):
    """What belongs to a batch as a whole: in the query, or in a JSON object beside its jobs."""

    name = Text(
        validate=validate.Length(max=MAX_NAME_CHARACTERS, error="must have at most 255 characters"),
        metadata={"description": "What you call it."},
    )
    priority = Text(
        validate=Known(PRIORITIES),
        metadata={"description": "Of jobs that do not name one. Default: low.", "default": "low"},
    )
    budget = QueryNumber(
        validate=validate.Range(min=0, max=MAX_BUDGET, error="must not be negative"),
        metadata={"description": "The most it may cost, in millicredits; a batch that costs more is refused."},
    )
    webhook_url = Text(
        validate=validate.Length(
            max=MAX_WEBHOOK_URL_CHARACTERS, error=f"must have at most {MAX_WEBHOOK_URL_CHARACTERS:,} characters"
        ),
        metadata={
            "description": "An http or https URL that is called once, signed as the webhooks of jobs are, when all of "
            "it has ended. Each job may have its own besides.",
            "format": "uri",
        },
    )
    archive = QueryFlag(
        metadata={
            "description": "Whether all images are written into zips when the batch has ended: a second copy of them, "
            "kept as long as they are. Default: true.",
            "default": True,
        },
    )


class BatchQuery(BatchFields):
    """The query of `POST /v1/batches`."""

    dry_run = QueryFlag(
        load_default=False,
        metadata={"description": "Check everything and take nothing: the answer tells count, price and errors."},
    )


class BatchMembers(BatchFields):
    """A batch that is a JSON object: `jobs`, or a `matrix`, and what belongs to it as a whole."""

    jobs = fields.List(
        fields.Nested(JobRequest), metadata={"description": "The jobs. `defaults` and `priority` come before them."}
    )
    matrix = fields.Dict(
        keys=fields.String(),
        values=fields.List(fields.Raw()),
        metadata={
            "description": "Fields and the values that each takes: a job for every combination, the last field "
            "varying first.",
            "example": {"prompt": ["a red circle", "a blue square"], "seed": [1, 2, 3]},
        },
    )
    defaults = fields.Dict(
        keys=fields.String(),
        metadata={"description": "Fields of jobs that do not have them.", "example": {"width": 256}},
    )

    def on_bind_field(self, field_name: str, field_obj: fields.Field[Any]) -> None:
        """Let each member be null."""
        super().on_bind_field(field_name, field_obj)
        field_obj.allow_none = True

    @pre_load
    def _drop_nulls(self, data: dict[str, Any], **_: Any) -> dict[str, Any]:
        """Take null as omitted: what the query says holds then, or the default."""
        return without_nulls(data, self)


class BatchListQuery(Request):
    """What `GET /v1/batches` takes."""

    limit = QueryNumber(
        load_default=50,
        validate=validate.Range(min=1, max=200, error="must lie between 1 and 200"),
        metadata={"description": "Most batches in one page."},
    )
    cursor = QueryNumber(
        validate=validate.Range(min=1, error="must be a page's next_cursor"),
        metadata={"description": "`next_cursor` of the page before."},
    )


class BatchRowsQuery(Request):
    """What `GET /v1/batches/{batch_id}/jobs` takes."""

    limit = QueryNumber(
        load_default=50,
        validate=validate.Range(min=1, max=200, error="must lie between 1 and 200"),
        metadata={"description": "Most lines in one page."},
    )
    cursor = QueryNumber(
        load_default=0,
        validate=validate.Range(min=0, max=MAX_LINES, error="must be a page's next_cursor"),
        metadata={"description": "`next_cursor` of the page before: the line after which to begin."},
    )


class BatchResultsQuery(Request):
    """What `GET /v1/batches/{batch_id}/results` takes."""

    format = Text(
        validate=Known(FORMATS), metadata={"description": "How it is written. Default: what `Accept` prefers."}
    )
    cursor = QueryNumber(
        load_default=0,
        validate=validate.Range(min=0, max=MAX_LINES, error="must be the number of a line"),
        metadata={"description": "The line after which to begin, to go on where an answer broke off."},
    )


class BatchHeaders(SubmitHeaders):
    """Headers of `POST /v1/batches`."""


def options_of(given: dict[str, Any]) -> BatchOptions:
    """Return the options among a batch's checked fields."""
    return BatchOptions(**{name: given[name] for name in BATCH_OPTIONS if given.get(name) is not None})
