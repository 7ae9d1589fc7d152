"""aithriving: text to image, image to image and inpainting, all synchronous.

https://www.aithriving.com/docs (Basic Text To Image, Basic Image To Image)

Every answer is HTTP 200 with `code` 0 or -1. `image_strength` is the opposite of diffusers' strength.
"""

import base64
from collections.abc import Mapping
from typing import Any, Final

from shared.accounts import Account
from shared.dialects import aithriving_schema as schema
from shared.dialects.aithriving_fields import (
    AUTOMATIC_SAMPLERS,
    CFG_SCALE,
    DEFAULT_CFG_SCALE,
    DEFAULT_IMAGE_STRENGTH,
    DEFAULT_STEPS,
    MAX_PROMPT_CHARS,
    MAX_SEED,
    OUTPUT_FORMATS,
    SIDE_MAX,
    SIDE_MIN,
    SIDE_STEP,
    STEPS,
)
from shared.dialects.base import Call, Dialect, Reply, Submit, View, Wait
from shared.dialects.links import Links
from shared.dialects.native import render_webhook
from shared.dialects.reading import Reader, filled
from shared.dialects.samplers import STABILITY
from shared.errors import DarkroomError, InvalidField, MissingField
from shared.inputs import Inline, check_image
from shared.job import Job, Status, Submission
from shared.order import Order, named
from shared.spec import CLIP_GUIDANCE_PRESETS, JobSpec
from shared.styles import STYLES

NAME: Final = "aithriving"
#: JobSpec's names -> aithriving's, for errors that are found after parsing.
FIELDS: Final = {
    "mask_image": "mask",
    "strength": "image_strength",
    "num_inference_steps": "steps",
    "guidance_scale": "cfg_scale",
    "scheduler": "sampler",
}


def parse_text_to_image(call: Call, _account: Account) -> Order:
    """Read a JSON body, which the documented client sends without a Content-Type."""
    reader = Reader(call.json_object(), lenient=True)
    spec = _common(reader) | {name: _side(reader, name) for name in ("width", "height")}
    return _order(reader, spec, {})


def parse_image_to_image(call: Call, _account: Account) -> Order:
    """Read a form with a file; width and height default to the image's own, brought into bounds."""
    reader = Reader(filled(call.form), lenient=True)
    image = _file(call, "init_image")
    spec = _common(reader) | _sides_like(reader, image, field="init_image")
    image_strength = reader.number("image_strength", minimum=0, maximum=1, default=DEFAULT_IMAGE_STRENGTH)
    return _order(reader, spec | {"strength": 1 - image_strength}, {"image": image})


def parse_inpaint(call: Call, _account: Account) -> Order:
    """Read a form with an image and a mask."""
    reader = Reader(filled(call.form), lenient=True)
    image = _file(call, "image")
    spec = _common(reader) | _sides_like(reader, image, field="image")
    spec["output_format"] = reader.choice("output_format", OUTPUT_FORMATS, default="png")
    return _order(reader, spec, {"image": image, "mask_image": _file(call, "mask")})


def render(job: Job, view: View) -> Reply:
    """Answer a job that has ended."""
    if job.status is not Status.SUCCEEDED:
        return failure(str((job.result.error or {}).get("message", f"The job was {job.status}.")))
    (artifact,) = job.result.artifacts
    image = base64.b64encode(view.image(artifact)).decode()
    return Reply(body={"code": 0, "message": "success", "data": {"image": image, "seed": artifact.seed}})


def render_error(error: DarkroomError, _call: Call) -> Reply:
    """Answer any error, naming the field."""
    if isinstance(error, InvalidField):
        return failure(f"{FIELDS.get(error.field, error.field)}: {error.message}")
    return failure(error.message)


def failure(message: str) -> Reply:
    """Return the envelope of a failure."""
    return Reply(body={"code": -1, "message": message, "data": None})


def key(call: Call) -> str:
    """Return the key: of the two header names in the documentation, `Authorization` wins."""
    return call.bearer() or call.bearer("authentication")


def _common(reader: Reader) -> dict[str, Any]:
    preset = reader.choice("clip_guidance_preset", CLIP_GUIDANCE_PRESETS, default="NONE")
    seed = reader.integer("seed", minimum=0, maximum=MAX_SEED, default=0)
    return {
        "prompt": reader.required_text("prompt", most=MAX_PROMPT_CHARS),
        "negative_prompt": reader.text("negative_prompt", most=MAX_PROMPT_CHARS, default=""),
        "guidance_scale": reader.number(
            "cfg_scale", minimum=CFG_SCALE[0], maximum=CFG_SCALE[1], default=DEFAULT_CFG_SCALE
        ),
        "num_inference_steps": reader.integer("steps", minimum=STEPS[0], maximum=STEPS[1], default=DEFAULT_STEPS),
        "seed": seed or None,  # 0 is random
        "style_preset": reader.choice("style_preset", STYLES, default=None),
        "clip_guidance_preset": preset,
        **STABILITY[reader.choice("sampler", STABILITY, default=AUTOMATIC_SAMPLERS[preset != "NONE"])],
    }


def _side(reader: Reader, name: str) -> int:
    side = reader.integer(name, minimum=SIDE_MIN, maximum=SIDE_MAX, multiple_of=SIDE_STEP, default=None)
    if side is None:
        raise MissingField(name, "is required")
    return side


def _sides_like(reader: Reader, image: Inline, *, field: str) -> dict[str, int]:
    found = check_image(image.data, field=field)
    own: Mapping[str, int] = {"width": found.width, "height": found.height}
    return {name: _side(reader, name) if reader.has(name) else _nearest_side(own[name]) for name in own}


def _nearest_side(pixels: int) -> int:
    return min(SIDE_MAX, max(SIDE_MIN, round(pixels / SIDE_STEP) * SIDE_STEP))


def _file(call: Call, name: str) -> Inline:
    if name not in call.files:
        raise MissingField(name, "is required: send it as a file")
    return Inline(call.files[name])


def _order(reader: Reader, spec: Mapping[str, Any], images: Mapping[str, Inline]) -> Order:
    names, inputs = named(images)
    submission = Submission(
        spec=JobSpec(**{**spec, **names}),
        dialect=NAME,
        # A flagged picture is a failure here, and costs nothing.
        options=(("flagged_fails", True),),
        ignored=reader.ignored,
    )
    return Order(submission=submission, inputs=inputs)


def _webhook(job: Job, links: Links) -> dict[str, Any]:
    return render_webhook(job, links)  # it has none of its own: its calls are synchronous


DIALECT: Final = Dialect(
    name=NAME,
    routes=tuple(
        Submit(
            path=f"/api/{path}",
            parse=parse,
            render=render,
            wait=lambda _: Wait.END,
            summary=summary,
            schema=body,
            page=page,
        )
        for path, parse, summary, body, page in (
            ("generate/basic/textToImage", parse_text_to_image, "Text to image.", schema.TEXT, schema.TEXT_PAGE),
            (
                "generate/basic/imageToImage",
                parse_image_to_image,
                "Image to image.",
                schema.IMAGE,
                schema.FORM_PAGE,
            ),
            ("edit/inpaint", parse_inpaint, "Inpaint.", schema.INPAINT, schema.FORM_PAGE),
        )
    ),
    key=key,
    render_error=render_error,
    render_webhook=_webhook,
    manual=schema.MANUAL,
)
