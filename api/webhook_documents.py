"""What `/v1` takes and answers about webhooks, for the OpenAPI document."""

from typing import Any, Final

from marshmallow import Schema, fields, validate

from api.documents import TIME
from api.fields import QueryNumber, Text
from api.schemas import MAX_WEBHOOK_URL_CHARACTERS, Request
from shared.batch import BATCH_EVENTS, BatchStatus
from shared.job import WEBHOOK_EVENTS

MOST_AT_ONCE: Final = 200
_EVENTS: Final = [*WEBHOOK_EVENTS, *(BATCH_EVENTS + status for status in BatchStatus if status.is_over)]


def _text(description: str, *, null: bool = False, **metadata: Any) -> fields.String:
    return fields.String(required=True, allow_none=null, metadata={"description": description, **metadata})


def _whole(description: str, *, null: bool = False, **metadata: Any) -> fields.Integer:
    return fields.Integer(required=True, allow_none=null, metadata={"description": description, **metadata})


class LimitQuery(Request):
    """How much of a list is asked for."""

    limit = QueryNumber(
        load_default=50,
        validate=validate.Range(min=1, max=MOST_AT_ONCE, error=f"must lie between 1 and {MOST_AT_ONCE}"),
        metadata={"description": "Most entries in the answer."},
    )


class DeadQuery(LimitQuery):
    """What `GET /v1/webhooks/dead` takes."""

    cursor = QueryNumber(
        load_default=0,
        validate=validate.Range(min=0, max=10_000, error="must be a page's next_cursor"),
        metadata={"description": "`next_cursor` of the page before."},
    )


class EndpointRequest(Request):
    """What `POST /v1/webhooks/enable` takes."""

    url = Text(
        required=True,
        validate=validate.Length(
            max=MAX_WEBHOOK_URL_CHARACTERS, error=f"must have at most {MAX_WEBHOOK_URL_CHARACTERS:,} characters"
        ),
        metadata={"description": "The endpoint; its query does not count.", "format": "uri"},
    )


class DeliveryDocument(Schema):
    """One call of a webhook that was made."""

    uid = _whole("The number of the job or the batch.")
    webhook_id = _text("What the call bore as `webhook-id`; the same at every attempt.")
    event = _text("What it told.", enum=_EVENTS)
    attempt = _whole("The how-many-eth attempt it was.")
    at = _text("When it ended.", format=TIME)
    url = _text("What was called, without its query.", format="uri")
    outcome = _text("What followed.", enum=["delivered", "retry", "dead", "dropped"])
    status = _whole("What the receiver answered; null where no answer came.", null=True)
    seconds = fields.Float(required=True, metadata={"description": "How long it took."})
    excerpt = _text("How the answer's body began, or why there was none.")


class WebhookDocument(Schema):
    """The closing webhook of a job or a batch as it stands."""

    uid = _whole("The number of the job or the batch.")
    event = _text("What it tells.", enum=_EVENTS)
    state = _text("`waiting` for its next attempt, `delivered`, or `dead`: given up.")
    attempts = _whole("Attempts made, since it was last redelivered.")
    created_at = _text("When the job or the batch ended.", format=TIME)
    next_attempt_at = _text("When it is tried next.", null=True, format=TIME)
    settled_at = _text("When the last attempt ended.", null=True, format=TIME)
    status = _whole("What the receiver answered last.", null=True)
    error = _text("Why the last attempt failed.")


class JobDeliveriesDocument(Schema):
    """The webhooks of a job or a batch."""

    webhooks = fields.List(
        fields.Nested(WebhookDocument),
        required=True,
        metadata={"description": "One for each time that it ended, oldest first; kept for three days."},
    )
    data = fields.List(
        fields.Nested(DeliveryDocument),
        required=True,
        metadata={"description": "The latest calls, newest first; at most 50, kept for a week."},
    )


class DeliveriesDocument(Schema):
    """The latest calls for an account, newest first."""

    data = fields.List(fields.Nested(DeliveryDocument), required=True)


class DeadDocument(Schema):
    """Webhooks that were given up, newest first."""

    data = fields.List(fields.Nested(WebhookDocument), required=True)
    next_cursor = _text("Pass as `cursor` for the next page; null at the end.", null=True)


class DisabledDocument(Schema):
    """An endpoint that is called no more."""

    url = _text("The endpoint, without its query.", format="uri")
    since = _text("When it answered 410.", format=TIME)


class DisabledListDocument(Schema):
    """Endpoints that are called no more, newest first."""

    data = fields.List(fields.Nested(DisabledDocument), required=True)
