"""Stability's REST API, version 1: text to image, image to image and masking, all synchronous.

https://platform.stability.ai/docs/api-reference (SDXL & SD1.6, Version 1)

Samplers, CLIP guidance and styles are those that aithriving took over. The engine's id is the model's name. The
previews of version 1 are there too, as far as they were like it.
"""

import base64
from collections.abc import Callable, Mapping
from typing import Any, Final

from shared.accounts import Account
from shared.dialects import stability_fields as fields
from shared.dialects import stability_pages as pages
from shared.dialects.accept import prefers
from shared.dialects.aithriving_fields import AUTOMATIC_SAMPLERS
from shared.dialects.base import Answer, Call, Desk, Dialect, Reply, Submit, View, Wait
from shared.dialects.links import Links
from shared.dialects.native import render_webhook
from shared.dialects.pages import JSON
from shared.dialects.reading import Reader, filled
from shared.dialects.samplers import STABILITY
from shared.dialects.stability_images import (
    MAX_PIXELS,
    MIN_PIXELS,
    alpha_mask,
    inverted,
    size_like,
)
from shared.dialects.stability_prompts import parse_prompts, with_list
from shared.errors import (
    BacklogFull,
    DarkroomError,
    Forbidden,
    InsufficientCredits,
    InvalidField,
    MissingField,
    RateLimited,
    RequestError,
    ServiceError,
    TooManyWaiting,
    Unauthorized,
)
from shared.inputs import Inline
from shared.job import Job, Status, Submission
from shared.order import Order, named
from shared.spec import JobSpec

NAME: Final = "stability"
#: v1beta was version 1 under another name. So was v1alpha, but for its forms, which held one field of JSON.
VERSIONS: Final = ("v1", "v1beta", "v1alpha")
WITHOUT_FORMS: Final = "v1alpha"
PNG: Final = "image/png"
MILLICREDITS: Final = 1000
#: What an account that is not metered is told it has: the answer must be a number.
UNMETERED_CREDITS: Final = 1_000_000

#: JobSpec's names -> Stability's, for errors that are found after parsing.
FIELDS: Final = {
    "prompt": "text_prompts",
    "negative_prompt": "text_prompts",
    "image": "init_image",
    "num_inference_steps": "steps",
    "guidance_scale": "cfg_scale",
    "scheduler": "sampler",
    "num_images": "samples",
}
#: What errors are called here, the first that fits.
ERROR_NAMES: Final[tuple[tuple[type[DarkroomError], str], ...]] = (
    (Unauthorized, "unauthorized"),
    (Forbidden, "permission_denied"),
    (InsufficientCredits, "insufficient_balance"),
    (TooManyWaiting, "rate_limit_exceeded"),
    (RateLimited, "rate_limit_exceeded"),
    (RequestError, "bad_request"),
    (ServiceError, "service_unavailable"),
    (DarkroomError, "server_error"),
)


def parse_text_to_image(call: Call, _account: Account) -> Order:
    """Read a JSON body."""
    reader = Reader(call.json_object(), lenient=True)
    spec = _common(reader) | {name: fields.whole(reader, name) for name in fields.SIDES}
    if not MIN_PIXELS <= spec["width"] * spec["height"] <= MAX_PIXELS:
        raise InvalidField("height", f"width x height must lie between {MIN_PIXELS:,} and {MAX_PIXELS:,} pixels")
    return _order(call, reader, spec, {})


def parse_image_to_image(call: Call, _account: Account) -> Order:
    """Read a form with a file; the picture is as large as the file's, brought into bounds."""
    reader = Reader(with_list(filled(call.form)), lenient=True)
    image = _file(call, "init_image")
    spec = _common(reader) | size_like(image, field="init_image") | {"strength": _strength(reader)}
    return _order(call, reader, spec, {"image": image})


def parse_masking(call: Call, _account: Account) -> Order:
    """Read a form with an image and what says where to paint: a mask of either colour, or the image's own alpha."""
    reader = Reader(with_list(filled(call.form)), lenient=True)
    reader.known(*fields.STRENGTHS)
    image = _file(call, "init_image")
    spec = _common(reader) | size_like(image, field="init_image")
    source = fields.word(reader, "mask_source")
    if source is None:
        raise MissingField("mask_source", "is required")
    if source == "INIT_IMAGE_ALPHA":
        mask = alpha_mask(image, field="init_image")
    else:
        mask = _file(call, "mask_image")
        mask = inverted(mask, field="mask_image") if source == "MASK_IMAGE_BLACK" else mask
    return _order(call, reader, spec, {"image": image, "mask_image": mask})


def render(job: Job, view: View) -> Reply:
    """Answer a job that has ended: its images as base64, or the one image itself."""
    if job.status is not Status.SUCCEEDED:
        message = str((job.result.error or {}).get("message", f"The job was {job.status}."))
        return _error(500, "server_error", message, id_=job.handle)
    images = [(view.image(a), a.seed, "CONTENT_FILTERED" if a.flagged else "SUCCESS") for a in job.result.artifacts]
    if job.submission.option("png"):
        ((data, seed, reason),) = images
        return Reply(body=data, content_type=PNG, headers={"Seed": str(seed), "Finish-Reason": reason})
    artifacts = [
        {"base64": base64.b64encode(data).decode(), "seed": seed, "finishReason": reason}
        for data, seed, reason in images
    ]
    return Reply(body={"artifacts": artifacts})


def render_error(error: DarkroomError, call: Call) -> Reply:
    """Answer any error, naming the field; an engine that is none is not found."""
    if not isinstance(error, InvalidField):
        status = 503 if isinstance(error, BacklogFull) else error.http_status
        name = next(name for kind, name in ERROR_NAMES if isinstance(error, kind))
        return _error(status, name, error.message, id_=call.id)
    if error.field == "model":
        return _error(404, "not_found", f"The specified engine was not found: {error.message}", id_=call.id)
    return _error(400, "bad_request", f"{FIELDS.get(error.field, error.field)}: {error.message}", id_=call.id)


def engines(call: Call, desk: Desk) -> Reply:
    """Answer the catalog."""
    names = desk.models(desk.account(call.bearer()))
    return Reply(body=[{"id": name, "name": name, "description": "", "type": "PICTURE"} for name in names])


def balance(call: Call, desk: Desk) -> Reply:
    """Answer the caller's credits."""
    found = desk.balance(desk.account(call.bearer()))
    return Reply(body={"credits": UNMETERED_CREDITS if found is None else found / MILLICREDITS})


def account(call: Call, desk: Desk) -> Reply:
    """Answer who is calling, which is how programs try a key; an account is its own organization."""
    found = desk.account(call.bearer())
    own = {"id": found.id, "name": found.name, "role": "MEMBER", "is_default": True}
    return Reply(body={"id": found.id, "email": "", "organizations": [own]})


def _common(reader: Reader) -> dict[str, Any]:
    preset = fields.word(reader, "clip_guidance_preset")
    sampler = fields.word(reader, "sampler") or AUTOMATIC_SAMPLERS[preset != "NONE"]
    return parse_prompts(reader) | {
        "guidance_scale": fields.fraction(reader, "cfg_scale"),
        "num_inference_steps": fields.whole(reader, "steps"),
        "num_images": fields.whole(reader, "samples"),
        "seed": fields.whole(reader, "seed") or None,  # 0 is random
        "style_preset": fields.word(reader, "style_preset"),
        "clip_guidance_preset": preset,
        "safety": "blur",
        **STABILITY[sampler],
    }


def _strength(reader: Reader) -> float:
    mode = fields.word(reader, "init_image_mode")
    image_strength = fields.fraction(reader, "image_strength")
    start, end = (fields.fraction(reader, f"step_schedule_{name}") for name in ("start", "end"))
    if mode == "IMAGE_STRENGTH":
        return 1 - image_strength
    if end != 1:
        raise InvalidField("step_schedule_end", "must be 1: ending early is not available in this version")
    return start


def _file(call: Call, name: str) -> Inline:
    if name not in call.files:
        raise MissingField(name, "is required: send it as a file")
    return Inline(call.files[name])


def _order(call: Call, reader: Reader, spec: Mapping[str, Any], images: Mapping[str, Inline]) -> Order:
    options: tuple[tuple[str, bool], ...] = ()
    if prefers(PNG, to=JSON, accept=call.headers.get("accept", "")):
        if spec["num_images"] != 1:
            raise InvalidField("samples", f"must be 1 where {PNG} is accepted: only JSON holds several images")
        options = (("png", True),)
    names, inputs = named(images)
    job_spec = JobSpec(**{**spec, **names, "model": call.args["engine"]})
    submission = Submission(spec=job_spec, dialect=NAME, options=options, ignored=reader.ignored)
    return Order(submission=submission, inputs=inputs)


def _error(status: int, name: str, message: str, *, id_: str) -> Reply:
    return Reply(status=status, body={"id": id_, "name": name, "message": message})


def _webhook(job: Job, links: Links) -> dict[str, Any]:
    return render_webhook(job, links)  # it has none of its own: its calls are synchronous


def _draws(path: str, parse: Callable[[Call, Account], Order], summary: str, schema: Mapping[str, Any]) -> Submit:
    return Submit(
        path=path,
        parse=parse,
        render=render,
        wait=lambda _: Wait.END,
        summary=summary,
        schema=schema,
        page=pages.TEXT_PAGE if path.endswith("text-to-image") else pages.FORM_PAGE,
    )


def _routes(version: str) -> tuple[Submit | Answer, ...]:
    engine, image = f"/{version}/generation/<engine>", fields.form_schema(masking=False)
    forms = (
        _draws(f"{engine}/image-to-image", parse_image_to_image, "Image to image.", image),
        _draws(f"{engine}/image-to-image/masking", parse_masking, "Paint by a mask.", fields.form_schema(masking=True)),
    )
    return (
        _draws(f"{engine}/text-to-image", parse_text_to_image, "Text to image.", fields.text_schema()),
        *(() if version == WITHOUT_FORMS else forms),
        *(
            Answer(path=f"/{version}/{path}", answer=answer, summary=summary, page=page)
            for path, answer, summary, page in (
                ("engines/list", engines, "The models.", pages.ENGINES_PAGE),
                ("user/account", account, "Who is calling.", pages.ACCOUNT_PAGE),
                ("user/balance", balance, "The caller's credits.", pages.BALANCE_PAGE),
            )
        ),
    )


DIALECT: Final = Dialect(
    name=NAME,
    routes=tuple(route for version in VERSIONS for route in _routes(version)),
    key=Call.bearer,
    render_error=render_error,
    render_webhook=_webhook,
    manual=pages.MANUAL,
)
