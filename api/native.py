"""The native API, `/v1`."""

import time
from contextlib import ExitStack
from typing import Any, Final

from flask import Response, request

from api import documents
from api.auth import current_account, require_account
from api.documents import INDEX_DOC, LAST_EVENT_ID_DOC, LOCATION_DOC, READ_DOC, UID_DOC
from api.events import wait_for_end
from api.faults import StreamsFull
from api.links import request_links
from api.responses import PRIVATE, empty_response, etag_of, file_response, json_response, not_modified, unchanged
from api.schemas import JobQuery, JobRequest, ListQuery, SubmitHeaders
from api.services import services
from api.spec import StrictBlueprint
from api.streams import MIMETYPE, has_seen_the_end, read_event_id, stream
from shared.dialects.links import SUFFIXES
from shared.dialects.native import render_job, render_links, rfc3339
from shared.job import Job, Status
from shared.order import Order
from shared.schedulers import SCHEDULERS

#: What a caller who polls is asked to wait.
POLL_S: Final = 1


jobs = StrictBlueprint("jobs", __name__, url_prefix="/v1", description="Submit jobs, follow them, fetch their images.")
models = StrictBlueprint("models", __name__, url_prefix="/v1", description="What can be drawn with.")
jobs.before_request(require_account)
models.before_request(require_account)


@jobs.route("/jobs", methods=["POST"])
@jobs.arguments(JobRequest, example={"prompt": "a red circle", "seed": 7, "track_id": "order-1"})
@jobs.arguments(SubmitHeaders, location="headers")
@jobs.response(202, documents.ReceiptDocument, headers=LOCATION_DOC, description="Accepted, and waiting for a worker.")
@jobs.problems(400, 402, 409, 413, 415, 422)
def submit(order: Order, headers: dict[str, Any]) -> Response:
    """Submit a job.

    The answer comes before anything is drawn; read the job at `Location`, follow its events, or name a `webhook_url`.
    The same fields may come as `multipart/form-data`, with `image` and `mask_image` as files, and
    `controlnets.0.image` and so on for what ControlNets draw after.
    """
    receipt = services().intake.submit(
        order,
        account=current_account(),
        idempotency_key=headers.get("idempotency_key"),
    )
    urls = render_links(receipt.uid, request_links())
    body = {
        "uid": receipt.uid,
        "status": str(Status.QUEUED),
        "track_id": order.submission.track_id,
        "created_at": rfc3339(receipt.created_ms),
        "links": urls,
    }
    replayed = {"Idempotency-Replayed": "true"} if receipt.replayed else {}
    return json_response(body, status=202, headers={"Location": urls["self"], **replayed})


@jobs.route("/jobs", methods=["GET"])
@jobs.arguments(ListQuery, location="query")
@jobs.response(200, documents.JobPageDocument)
@jobs.problems(400)
def list_jobs(query: dict[str, Any]) -> Response:
    """List your jobs, newest first."""
    status = query.get("status")
    found, cursor = services().intake.list_jobs(
        current_account(),
        status=Status(status) if status else None,
        track_id=query.get("track_id"),
        before=query.get("cursor"),
        limit=query["limit"],
    )
    links = request_links()
    page = {
        "data": [render_job(job, links) for job in found],
        "next_cursor": None if cursor is None else str(cursor),
    }
    return json_response(page, headers=PRIVATE)


@jobs.route("/jobs/<int:uid>", parameters=[UID_DOC], methods=["GET"])
@jobs.arguments(JobQuery, location="query")
@jobs.response(200, documents.JobDocument, headers=READ_DOC)
@jobs.alt_response(304, description="The job is as `If-None-Match` says.", success=True)
@jobs.problems(400, 404, 410)
def read_job(query: dict[str, Any], uid: int) -> Response:
    """Read a job.

    With `wait` the answer comes when the job has ended, or after so many seconds as it then stands. Links to images
    are signed anew at each read.
    """
    job = _read(uid, wait_s=query["wait"])
    links = request_links()
    headers = dict(PRIVATE) if job.status.is_terminal else {**PRIVATE, "Retry-After": str(POLL_S)}
    etag = etag_of(job, links.base_url, _link_age(job))
    if not_modified(etag):
        return unchanged(etag, headers)
    response = json_response(render_job(job, links), headers=headers)
    response.set_etag(etag)
    return response


@jobs.route("/jobs/<int:uid>/events", parameters=[UID_DOC], methods=["GET"])
@jobs.doc(parameters=[LAST_EVENT_ID_DOC])
@jobs.response(
    200, {"type": "string"}, content_type=MIMETYPE, description="`snapshot` first, then each event until the job's end."
)
@jobs.alt_response(204, description="The job has ended and the caller has seen its end.", success=True)
@jobs.problems(404, 410)
def follow(uid: int) -> Response:
    """Follow a job by Server-Sent Events.

    Events are named `snapshot`, `queued`, `started`, `progress`, `preview`, `requeued`, `succeeded`, `failed`,
    `cancelled` and `expired`; each carries `uid`, `status` and, while images are drawn, `progress`. After
    `Last-Event-ID` the stream goes on where it broke off. It ends with the job.
    """
    account, intake, hub = current_account(), services().intake, services().hub
    last_event_id = read_event_id(request.headers.get("Last-Event-ID"))

    def read() -> Job:
        return intake.read(uid, account=account)

    with ExitStack() as stack:
        watch = stack.enter_context(hub.watch(uid, account=account.id))
        job = read()
        if last_event_id and has_seen_the_end(job, last_event_id):
            return empty_response(204)
        frames = stream(hub, watch, job, read=read, last_event_id=last_event_id)
        response = Response(frames, mimetype=MIMETYPE, headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})
        response.call_on_close(stack.pop_all().close)
    return response


@jobs.route("/jobs/<int:uid>/images/<int:index>", parameters=[UID_DOC, INDEX_DOC], methods=["GET"])
@jobs.response(200, description="The image.")
@jobs.doc(responses={200: {"content": documents.IMAGE_CONTENT}})
@jobs.alt_response(304, description="The image is as `If-None-Match` says.", success=True)
@jobs.problems(404, 409, 410)
def image(uid: int, index: int) -> Response:
    """Fetch an image of a finished job, in the format the job asked for."""
    intake = services().intake
    job, artifact = intake.artifact(uid, index, account=current_account())
    etag = etag_of(artifact.key)
    if not_modified(etag):
        return unchanged(etag, PRIVATE)
    filename = f"{job.handle}-{index}.{SUFFIXES.get(artifact.content_type, 'bin')}"
    return file_response(intake.fetch(artifact).data, artifact.content_type, filename=filename, etag=etag)


@jobs.route("/jobs/<int:uid>/cancel", parameters=[UID_DOC], methods=["POST"])
@jobs.response(200, documents.JobDocument)
@jobs.problems(404, 410)
def cancel(uid: int) -> Response:
    """Cancel a job.

    A waiting job is never drawn; one that is being drawn is stopped, and what it drew is thrown away. A job that has
    ended is answered as it is.
    """
    job = services().intake.cancel(uid, account=current_account())
    return json_response(render_job(job, request_links()), headers=PRIVATE)


@jobs.route("/jobs/<int:uid>/retry", parameters=[UID_DOC], methods=["POST"])
@jobs.response(200, documents.JobDocument)
@jobs.problems(402, 404, 409, 410)
def retry(uid: int) -> Response:
    """Retry a job.

    One that failed, was cancelled or expired is queued once more, under its own uid and with its own seeds.
    """
    job = services().intake.retry(uid, account=current_account())
    return json_response(render_job(job, request_links()), headers=PRIVATE)


@jobs.route("/jobs/<int:uid>", parameters=[UID_DOC], methods=["DELETE"])
@jobs.response(204, description="The job and its images are gone.")
@jobs.problems(404, 409, 410)
def erase(uid: int) -> Response:
    """Erase a finished job and its images.

    A job that has not finished must be cancelled first.
    """
    services().intake.erase(uid, account=current_account())
    return empty_response(204)


@models.route("/models", methods=["GET"])
@models.response(200, documents.ModelListDocument)
@models.problems()
def list_models() -> Response:
    """List the models that jobs may name."""
    catalog = services().catalog
    default = catalog.default.name
    account = current_account().name
    data = [
        {
            "name": model.name,
            "description": model.description,
            "aliases": list(model.aliases),
            "default": model.name == default,
            "max_pixels": model.max_pixels,
            "schedulers": list(SCHEDULERS),
            "base": model.base,
        }
        for model in catalog.models(account)
    ]
    return json_response({"data": data})


@models.route("/assets", methods=["GET"])
@models.response(200, documents.AssetListDocument)
@models.problems()
def list_assets() -> Response:
    """List what models can wear for a job: LoRAs, VAEs, textual inversions, ControlNets."""
    data = [
        {
            "kind": str(asset.kind),
            "name": asset.name,
            "description": asset.description,
            "aliases": list(asset.aliases),
            "base": asset.base,
            "triggers": list(asset.triggers),
        }
        for asset in services().catalog.assets(current_account().name)
    ]
    return json_response({"data": data})


def _read(uid: int, *, wait_s: int) -> Job:
    account, intake = current_account(), services().intake

    def read() -> Job:
        return intake.read(uid, account=account)

    if wait_s == 0:
        return read()
    try:
        watch = services().hub.watch(uid, account=account.id)
    except StreamsFull:  # an early answer beats none
        return read()
    with watch:
        return wait_for_end(watch, read, timeout_s=wait_s)


def _link_age(job: Job) -> int:
    """Return a number that changes well before links in an earlier answer expire."""
    if not job.result.artifacts:
        return 0
    return int(time.time() // max(1, services().settings.link_ttl_s / 2))
