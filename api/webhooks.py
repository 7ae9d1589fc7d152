"""The native API's webhooks, `/v1/webhooks` and below a job: how they went, and once more."""

from typing import Any

from flask import Response

from api.auth import current_account, require_account
from api.batch_documents import BATCH_ID_DOC
from api.documents import UID_DOC
from api.responses import PRIVATE, json_response
from api.services import services
from api.spec import StrictBlueprint
from api.webhook_documents import (
    DeadDocument,
    DeadQuery,
    DeliveriesDocument,
    DisabledListDocument,
    EndpointRequest,
    JobDeliveriesDocument,
    LimitQuery,
)
from shared.deliveries import Delivery, Pending
from shared.dialects.native import rfc3339
from shared.errors import InvalidField, OutboundRefused
from shared.safe_http import check_url

webhooks = StrictBlueprint("webhooks", __name__, url_prefix="/v1", description="How webhooks went, and once more.")
webhooks.before_request(require_account)


@webhooks.route("/jobs/<int:uid>/deliveries", parameters=[UID_DOC], methods=["GET"])
@webhooks.response(200, JobDeliveriesDocument)
@webhooks.problems(404, 410)
def job_deliveries(uid: int) -> Response:
    """List the calls that told of a job, and how its closing webhooks stand."""
    services().intake.read(uid, account=current_account())
    return json_response(_told_of(uid), headers=PRIVATE)


@webhooks.route("/jobs/<int:uid>/redeliver", parameters=[UID_DOC], methods=["POST"])
@webhooks.response(202, JobDeliveriesDocument, description="It is sent at once.")
@webhooks.problems(404, 409, 410)
def redeliver(uid: int) -> Response:
    """Send a job's closing webhook once more.

    Whether it was delivered or given up: it goes out at once under the same `webhook-id`, and its schedule begins anew.
    """
    services().intake.read(uid, account=current_account())
    services().deliveries.redeliver(uid, account=current_account().id)
    return json_response(_told_of(uid), status=202, headers=PRIVATE)


@webhooks.route("/batches/<int:batch_id>/deliveries", parameters=[BATCH_ID_DOC], methods=["GET"])
@webhooks.response(200, JobDeliveriesDocument)
@webhooks.problems(401, 403, 404, 503)
def batch_deliveries(batch_id: int) -> Response:
    """List the calls that told of a batch's end, and how its webhooks stand; `uid` is the batch's number."""
    services().batches.read(batch_id, account=current_account().id)
    return json_response(_told_of(batch_id), headers=PRIVATE)


@webhooks.route("/batches/<int:batch_id>/redeliver", parameters=[BATCH_ID_DOC], methods=["POST"])
@webhooks.response(202, JobDeliveriesDocument, description="It is sent at once.")
@webhooks.problems(401, 403, 404, 409, 503)
def redeliver_batch(batch_id: int) -> Response:
    """Send a batch's webhook once more, as it is done for a job."""
    services().batches.read(batch_id, account=current_account().id)
    services().deliveries.redeliver(batch_id, account=current_account().id)
    return json_response(_told_of(batch_id), status=202, headers=PRIVATE)


@webhooks.route("/webhooks/deliveries", methods=["GET"])
@webhooks.arguments(LimitQuery, location="query")
@webhooks.response(200, DeliveriesDocument)
@webhooks.problems(400)
def account_deliveries(query: dict[str, Any]) -> Response:
    """List the latest calls for your account, over all jobs; the last 200 are kept, for a week."""
    found = services().deliveries.of_account(current_account().id, limit=query["limit"])
    return json_response({"data": [_delivery(each) for each in found]}, headers=PRIVATE)


@webhooks.route("/webhooks/dead", methods=["GET"])
@webhooks.arguments(DeadQuery, location="query")
@webhooks.response(200, DeadDocument)
@webhooks.problems(400)
def dead(query: dict[str, Any]) -> Response:
    """List the webhooks that were given up; they are kept for a month."""
    offset, limit = query["cursor"], query["limit"]
    found = services().deliveries.dead(current_account().id, offset=offset, limit=limit)
    following = str(offset + limit) if len(found) == limit else None
    return json_response({"data": [_webhook(each) for each in found], "next_cursor": following}, headers=PRIVATE)


@webhooks.route("/webhooks/disabled", methods=["GET"])
@webhooks.response(200, DisabledListDocument)
@webhooks.problems()
def disabled() -> Response:
    """List your endpoints that answered 410 and are called no more."""
    return _disabled()


@webhooks.route("/webhooks/enable", methods=["POST"])
@webhooks.arguments(EndpointRequest, example={"url": "https://shop.example/done"})
@webhooks.response(200, DisabledListDocument, description="Those that are disabled still.")
@webhooks.problems(400, 413, 415, 422)
def enable(body: dict[str, Any]) -> Response:
    """Call an endpoint again that had answered 410.

    What was given up meanwhile is listed under `dead`, and is sent by `redeliver`.
    """
    try:
        check_url(body["url"], services().settings.outbound_allow)
    except OutboundRefused as error:
        raise InvalidField("url", error.message) from error
    services().deliveries.enable(current_account().id, body["url"])
    return _disabled()


def _told_of(uid: int) -> dict[str, Any]:
    deliveries = services().deliveries
    return {
        "webhooks": [_webhook(each) for each in deliveries.webhooks(uid)],
        "data": [_delivery(each) for each in deliveries.of_job(uid)],
    }


def _disabled() -> Response:
    found = services().deliveries.disabled(current_account().id)
    body = {"data": [{"url": endpoint, "since": rfc3339(since)} for endpoint, since in found]}
    return json_response(body, headers=PRIVATE)


def _delivery(delivery: Delivery) -> dict[str, Any]:
    call = delivery.call
    return {
        "uid": delivery.uid,
        "webhook_id": call.webhook_id,
        "event": call.event,
        "attempt": delivery.attempt,
        "at": rfc3339(delivery.at_ms),
        "url": call.url,
        "outcome": call.outcome,
        "status": call.status,
        "seconds": call.seconds,
        "excerpt": call.excerpt,
    }


def _webhook(pending: Pending) -> dict[str, Any]:
    return {
        "uid": pending.uid,
        "event": pending.event,
        "state": pending.state,
        "attempts": pending.attempts,
        "created_at": rfc3339(pending.created_ms),
        "next_attempt_at": rfc3339(pending.next_ms),
        "settled_at": rfc3339(pending.settled_ms),
        "status": pending.status,
        "error": pending.error,
    }
