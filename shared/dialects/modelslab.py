"""ModelsLab, formerly stablediffusionapi.com: text to image, image to image, inpainting, ControlNet, and fetch.

https://docs.modelslab.com/enterprise-api/text-to-image/overview

The key is in the body. A call waits a little for its pictures; what takes longer is answered with `processing` and an
address to ask again. Success and processing are HTTP 200 always.
"""

import base64
import re
from collections.abc import Mapping
from functools import partial
from http import HTTPStatus
from typing import Any, Final

from shared.accounts import Account
from shared.dialects import modelslab_answers as answers
from shared.dialects import modelslab_pages as pages
from shared.dialects import modelslab_server as server
from shared.dialects.base import Answer, Call, Dialect, Fetch, Reply, Submit, View, Wait
from shared.dialects.modelslab_fields import (
    MAX_NAME_CHARS,
    MAX_WEBHOOK_CHARS,
    Kind,
    fields_of,
    flag,
    read_spec,
    steering_field,
)
from shared.dialects.modelslab_schema import schema
from shared.dialects.reading import Reader
from shared.errors import (
    DarkroomError,
    ImageNotFound,
    InvalidField,
    JobNotFound,
    MissingField,
    RateLimited,
    Unauthorized,
)
from shared.job import Job, Status, Submission
from shared.order import Order
from shared.spec import JobSpec

NAME: Final = "modelslab"
ENTERPRISE: Final = (
    *("/api/v1/enterprise", "/api/v1/enterprise/images", "/api/v1/enterprise/realtime"),
    "/api/v1/enterprise/image_editing",
)
COMMUNITY: Final = (
    *("/api/v6/images", "/api/v6/realtime", "/api/v6/image_editing", "/api/v5"),
    *("/api/v3", "/api/v3/dreambooth", "/api/v4/dreambooth"),
)
#: Text to image at the path itself, and a list of models beside it.
BARE: Final = ("/api/v3/dreambooth", "/api/v4/dreambooth")

INVALID_KEY: Final = "Invalid API key"
#: What a caller is told to wait where it has too many jobs.
RETRY_AFTER_S: Final = 5
#: Our statuses -> the provider's, where they differ.
STATUSES: Final[Mapping[int, int]] = {HTTPStatus.UNPROCESSABLE_ENTITY: 400, HTTPStatus.CONFLICT: 503}
_ID: Final = re.compile(r"[0-9]{1,16}")
_LARGEST_ID: Final = 2**53


def parse(call: Call, _account: Account, *, kind: Kind) -> Order:
    """Read a request of one kind, JSON or form."""
    reader = Reader(fields_of(call), lenient=True)
    spec, inputs = read_spec(reader, kind)
    options = {
        "base64": flag(reader, "base64"),
        "temp": flag(reader, "temp"),
        "any_pool": flag(reader, "loadbalancer"),
    }
    kept = (("kept_s", answers.TEMP_S),) if options["temp"] else ()
    steering = (("steering", steering_field(reader)),) if kind is Kind.CONTROLNET else ()
    submission = Submission(
        spec=JobSpec(**spec),
        dialect=NAME,
        track_id=_read_track_id(reader),
        webhook_url=reader.text("webhook", most=MAX_WEBHOOK_CHARS, default=None),
        options=(*((name, True) for name, on in options.items() if on), *steering, *kept),
        ignored=reader.ignored,
    )
    return Order(submission=submission, inputs=inputs)


def find(call: Call) -> int:
    """Return the job asked for: its id is in the path, or in the body as `request_id`."""
    if "id" in call.args:
        if not _ID.fullmatch(call.args["id"]):
            raise JobNotFound
        return int(call.args["id"])
    found = Reader(fields_of(call), lenient=True).integer("request_id", minimum=1, maximum=_LARGEST_ID, default=None)
    if found is None:
        raise MissingField("request_id", "is required")
    return found


def render(job: Job, view: View, *, prefix: str) -> Reply:
    """Answer a job as it stands. The community's paths tell its pictures' links twice, as `proxy_links` too."""
    if not job.status.is_terminal:
        fetch_result = view.links.api(*prefix.strip("/").split("/"), "fetch", job.uid)
        return Reply(body=answers.processing(job, view.links, fetch_result=fetch_result))
    if job.status is not Status.SUCCEEDED:
        return Reply(body=answers.failure(job))
    body = answers.success(job, view.links, _output(job, view))
    if job.submission.webhook_url is not None:
        body["webhook_status"] = ""
    if any(artifact.flagged for artifact in job.result.artifacts):
        body["nsfw_content_detected"] = True
    if prefix in COMMUNITY:
        body["proxy_links"] = answers.output_links(job, view.links)
    return Reply(body=body)


def render_error(error: DarkroomError, call: Call) -> Reply:
    """Answer any error, naming the field as the provider does."""
    status = 410 if isinstance(error, ImageNotFound) else STATUSES.get(error.http_status, error.http_status)
    body: dict[str, Any] = {"status": "error", "message": _message(error, call)}
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        body["retry_after"] = error.retry_after_s if isinstance(error, RateLimited) else RETRY_AFTER_S
    return Reply(body=body, status=status)


def _read_track_id(reader: Reader) -> str | int | None:
    value = reader.raw("track_id")
    if isinstance(value, int) and not isinstance(value, bool) and len(str(value)) <= MAX_NAME_CHARS:
        return value
    if value is not None and not isinstance(value, str):
        raise InvalidField("track_id", f"must be a string or a whole number of at most {MAX_NAME_CHARS} characters")
    return reader.text("track_id", most=MAX_NAME_CHARS, default=None)


def _output(job: Job, view: View) -> list[str]:
    if job.submission.option("base64"):
        return [base64.b64encode(view.image(artifact)).decode() for artifact in job.result.artifacts]
    return answers.output_links(job, view.links)


def _message(error: DarkroomError, call: Call) -> str:
    if isinstance(error, Unauthorized):
        return INVALID_KEY
    if not isinstance(error, InvalidField):
        return error.message
    name = answers.FIELD_NAMES.get(error.field, error.field)
    if name == answers.STEERING:
        name = steering_field(Reader(fields_of(call), lenient=True))
    return f"{name} {error.message}" if isinstance(error, MissingField) else f"{name}: {error.message}"


def _submit(prefix: str, kind: Kind, path: str) -> Submit:
    return Submit(
        path=path,
        parse=partial(parse, kind=kind),
        render=partial(render, prefix=prefix),
        wait=lambda _: Wait.SHORT,
        summary=_SUMMARIES[kind],
        schema=schema(kind),
        page=pages.SUBMIT,
    )


def _routes(prefix: str) -> tuple[Submit | Fetch | Answer, ...]:
    submits = [_submit(prefix, kind, f"{prefix}/{kind}") for kind in Kind]
    fetches = [
        Fetch(
            path=path,
            find=find,
            render=partial(render, prefix=prefix),
            methods=("POST",),
            summary="Read a job.",
            page=pages.fetch(in_path=path.endswith("<id>")),
        )
        for path in (f"{prefix}/fetch", f"{prefix}/fetch/<id>")
    ]
    bare = [_submit(prefix, Kind.TEXT, prefix)] if prefix in BARE else []
    lists = [server.model_list(prefix)] if prefix in BARE else []
    return (*submits, *bare, *fetches, *lists, *(server.routes(prefix) if prefix in ENTERPRISE else ()))


_SUMMARIES: Final = {
    Kind.TEXT: "Text to image.",
    Kind.IMAGE: "Image to image.",
    Kind.INPAINT: "Inpaint.",
    Kind.CONTROLNET: "Draw as one or more ControlNets steer.",
}

DIALECT: Final = Dialect(
    name=NAME,
    routes=tuple(route for prefix in (*ENTERPRISE, *COMMUNITY) for route in _routes(prefix)),
    key=server.key,
    render_error=render_error,
    render_webhook=answers.webhook,
    manual=pages.MANUAL,
)
