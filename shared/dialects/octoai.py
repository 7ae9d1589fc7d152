"""OctoAI's image API: Stable Diffusion 1.5 and its ControlNets, at once or to be polled.

https://octo.ai/docs/media-gen-rest-apis (Generate Images, Stable Diffusion 1.5)

A fault in a field answers 422 with a list `detail`, without exception: its client reads nothing else there. All other
errors are `{"message"}`. With `X-OctoAI-Async` a call answers 201 and an address to poll; its id is the key to it.
"""

import base64
from typing import Any, Final

from shared.dialects.base import Call, Dialect, Fetch, Reply, Submit, Ticket, View, Wait
from shared.dialects.links import Links
from shared.dialects.native import render_webhook
from shared.dialects.octoai_request import NAME, is_async, parse, parse_controlnet
from shared.dialects.octoai_schema import MANUAL, POLL_PAGE, RESPONSE_PAGE, SUBMIT_PAGE, schema
from shared.errors import (
    BacklogFull,
    DarkroomError,
    InvalidField,
    JobNotFound,
    MalformedBody,
    MissingField,
    NotFinished,
)
from shared.job import Artifact, Job, Status
from shared.spec import JobSpec

#: JobSpec's names -> OctoAI's, for errors that are found after parsing.
FIELDS: Final = {
    "model": "checkpoint",
    "image": "init_image",
    "num_inference_steps": "steps",
    "guidance_scale": "cfg_scale",
    "scheduler": "sampler",
    "output_format": "image_encoding",
    "controlnets": "controlnet",
    "controlnets.0.image": "controlnet_image",
}
#: How a polled job stands; a job that ended without images is completed too, and its answer says why.
PENDING, RUNNING, COMPLETED = "pending", "running", "completed"
#: How a job ended -> the status of its answer, where it gave no images.
ENDS: Final = {Status.EXPIRED: 504, Status.CANCELLED: 409}
#: A worker's errors that are the request's own fault -> the field at fault, where it is known.
REQUEST_FAULTS: Final = {"prompt_too_long": "prompt", "invalid_value": None}
_SPEC_FIELDS: Final = frozenset(JobSpec.__dataclass_fields__)


def render_submitted(job: Job, view: View) -> Reply:
    """Answer a call: its images, or where they will be."""
    if not job.submission.option("async"):
        return render_result(job, view)
    return Reply(status=201, body={"response_id": str(_ticket(job)), "poll_url": _poll_url(job, view)})


def render_poll(job: Job, view: View) -> Reply:
    """Answer how an asynchronous call stands."""
    _check_own(job)
    status = RUNNING if job.status is Status.RUNNING else PENDING
    if job.status.is_terminal:
        status = COMPLETED
    return Reply(body={"status": status, "response_url": f"{_poll_url(job, view)}/response"})


def render_response(job: Job, view: View) -> Reply:
    """Answer what an asynchronous call gave, as the call itself would have; `NotFinished` before."""
    _check_own(job)
    if not job.status.is_terminal:
        raise NotFinished("the request is not completed; poll it first")
    return render_result(job, view)


def render_result(job: Job, view: View) -> Reply:
    """Answer a job that has ended."""
    if job.status is not Status.SUCCEEDED:
        return _failure(job)
    milliseconds = 1000 * job.result.timings.get("generate", 0.0)
    images = [_image(artifact, view) for artifact in job.result.artifacts]
    return Reply(body={"images": images, "prediction_time_ms": round(milliseconds, 3)})


def render_error(error: DarkroomError, _call: Call) -> Reply:
    """Answer any error: a fault in a field as a list of one, all others as a message."""
    if isinstance(error, InvalidField):
        kind = "missing" if isinstance(error, MissingField) else error.code
        return _fault(FIELDS.get(error.field, error.field), error.message, kind)
    if isinstance(error, MalformedBody):
        return _fault(None, error.message, "jsondecode")
    status = 503 if isinstance(error, BacklogFull) else error.http_status
    return Reply(status=status, body={"message": error.message})


def find(call: Call) -> Ticket:
    """Return which job a poll means."""
    return Ticket.parse(call.args["id"])


def _fault(field: str | None, message: str, kind: str) -> Reply:
    loc = ["body"] if field is None else ["body", field]
    return Reply(status=422, body={"detail": [{"loc": loc, "msg": message, "type": f"value_error.{kind}"}]})


def _failure(job: Job) -> Reply:
    error = job.result.error or {}
    code, message = str(error.get("code", "")), str(error.get("message", f"The job was {job.status}."))
    if code in REQUEST_FAULTS:
        field, _, rest = message.partition(": ")
        if field in _SPEC_FIELDS:  # workers name the field at fault
            return _fault(FIELDS.get(field, field), rest, code)
        return _fault(REQUEST_FAULTS[code], message, code)
    return Reply(status=ENDS.get(job.status, 500), body={"message": message})


def _image(artifact: Artifact, view: View) -> dict[str, Any]:
    image = None if artifact.flagged else base64.b64encode(view.image(artifact)).decode()
    return {"image_b64": image, "removed_for_safety": artifact.flagged, "seed": artifact.seed, "safety_score": None}


def _ticket(job: Job) -> Ticket:
    return Ticket(job.uid, job.handle)


def _poll_url(job: Job, view: View) -> str:
    return view.links.api("v1", "requests", str(_ticket(job)))


def _check_own(job: Job) -> None:
    """Keep to calls that were answered with a ticket: of other jobs the handle is in every link to an image."""
    if job.submission.dialect != NAME or not job.submission.option("async"):
        raise JobNotFound


def _wait(call: Call) -> Wait:
    return Wait.NO if is_async(call) else Wait.END


def _webhook(job: Job, links: Links) -> dict[str, Any]:
    return render_webhook(job, links)  # it has none of its own: its callers wait or poll


DIALECT: Final = Dialect(
    name=NAME,
    routes=(
        Submit(
            path="/generate/sd",
            parse=parse,
            render=render_submitted,
            wait=_wait,
            summary="Text to image, image to image, inpainting, outpainting.",
            schema=schema(controlnet=False),
            page=SUBMIT_PAGE,
        ),
        *(
            Submit(
                path=path,
                parse=parse_controlnet,
                render=render_submitted,
                wait=_wait,
                summary="Draw with a ControlNet.",
                schema=schema(controlnet=True),
                page=SUBMIT_PAGE,
            )
            for path in ("/generate/controlnet-sd15", "/generate/controlnet-sd")
        ),
        Fetch(
            path="/v1/requests/<id>",
            find=find,
            render=render_poll,
            summary="How an asynchronous call stands.",
            page=POLL_PAGE,
        ),
        Fetch(
            path="/v1/requests/<id>/response",
            find=find,
            render=render_response,
            summary="What an asynchronous call gave.",
            page=RESPONSE_PAGE,
        ),
    ),
    key=Call.bearer,
    render_error=render_error,
    render_webhook=_webhook,
    manual=MANUAL,
)
