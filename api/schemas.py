"""What the native API takes: marshmallow schemas that check a request and document it.

Every fault of a request is reported at once. What only the whole job can tell (a seed list against `num_images`, a
scheduler's own step limit) is checked by `JobSpec` afterwards.
"""

from collections.abc import Mapping
from dataclasses import MISSING
from dataclasses import fields as dataclass_fields
from typing import Any, Final

from marshmallow import RAISE, Schema, ValidationError, fields, post_load, pre_load, validate, validates_schema
from marshmallow.types import UnknownOption

from api.asset_fields import INVERSIONS_SCHEMA, LORAS_SCHEMA, Inversions, Loras
from api.controlnet_fields import CONTROLNETS_SCHEMA, ControlNets, controlnets_of, sources_of, with_files
from api.fields import (
    REQUIRED,
    TOO_LONG,
    UNKNOWN,
    Flag,
    ImageSource,
    Known,
    Number,
    QueryNumber,
    Seed,
    Text,
    TrackId,
    WholeNumber,
    between,
    multiple_of,
)
from shared.job import DEFAULT_WEBHOOK_EVENTS, PRIORITIES, WEBHOOK_EVENTS, Status, Submission
from shared.order import Order, named
from shared.schedulers import ALGORITHM_TYPES, SCHEDULERS
from shared.spec import (
    BOUNDS,
    CLIP_GUIDANCE_PRESETS,
    DEFAULT_INPAINT_STRENGTH,
    DEFAULT_STRENGTH,
    OUTPUT_FORMATS,
    SAFETY,
    JobSpec,
)
from shared.styles import STYLES
from shared.weighting import WEIGHTINGS

MAX_WEBHOOK_URL_CHARACTERS: Final = 2048
MAX_TRACK_ID_CHARACTERS: Final = 255

_DEFAULTS: Final = {f.name: f.default for f in dataclass_fields(JobSpec) if f.default is not MISSING}
LONGEST_DEADLINE_S: Final = 30 * 86400
_SECONDS: Final = validate.Range(
    min=1, max=LONGEST_DEADLINE_S, error=f"must lie between 1 and {LONGEST_DEADLINE_S:,} seconds"
)
_IMAGE: Final = {"type": "string"}
_SEED: Final = {"type": "integer", "minimum": BOUNDS["seed"].minimum, "maximum": BOUNDS["seed"].maximum}


class Request(Schema):
    """A request's body, query or headers, with our words for what is wrong with it."""

    class Meta:
        """Settings of every request schema."""

        unknown: UnknownOption = RAISE

    error_messages = {"unknown": UNKNOWN}  # noqa: RUF012 - marshmallow's way

    def on_bind_field(self, field_name: str, field_obj: fields.Field[Any]) -> None:
        """Give every field our words for a missing value."""
        field_obj.error_messages = {**field_obj.error_messages, "required": REQUIRED, "null": REQUIRED}
        super().on_bind_field(field_name, field_obj)


def without_nulls(data: Mapping[str, Any], schema: Schema) -> dict[str, Any]:
    """Return what was given: null is as good as omitted, but for fields that do not exist."""
    return {name: value for name, value in data.items() if value is not None or name not in schema.fields}


def _options(name: str, description: str, **metadata: Any) -> dict[str, Any]:
    """Return what a field of JobSpec has in common: its default, and its description."""
    return {
        "load_default": _DEFAULTS[name],
        "allow_none": True,
        "metadata": {"description": description, **metadata},
    }


class JobRequest(Request):
    """What `POST /v1/jobs` takes."""

    prompt = Text(
        required=True,
        validate=validate.Length(max=int(BOUNDS["prompt"].maximum), error=TOO_LONG),
        metadata={
            "description": "What to draw.",
            "minLength": int(BOUNDS["prompt"].minimum),
            "example": "a red circle",
        },
    )
    negative_prompt = Text(
        validate=validate.Length(max=int(BOUNDS["negative_prompt"].maximum), error=TOO_LONG),
        **_options("negative_prompt", "What to keep out of the picture."),
    )
    model = Text(**_options("model", "A name or alias from `/v1/models`."))
    width = WholeNumber(
        validate=[between("width"), multiple_of("width")],
        **_options(
            "width",
            "Pixels. Width times height must not exceed the model's `max_pixels`.",
            multipleOf=BOUNDS["width"].multiple_of,
        ),
    )
    height = WholeNumber(
        validate=[between("height"), multiple_of("height")],
        **_options("height", "Pixels.", multipleOf=BOUNDS["height"].multiple_of),
    )
    num_inference_steps = WholeNumber(
        validate=between("num_inference_steps"),
        **_options("num_inference_steps", "Denoising steps. A scheduler may take fewer; LCMScheduler takes 50."),
    )
    guidance_scale = Number(
        validate=between("guidance_scale"),
        **_options("guidance_scale", "How closely the picture follows the prompt. Up to 1: without guidance."),
    )
    scheduler = Text(
        validate=Known(SCHEDULERS),
        **_options("scheduler", "A scheduler, by diffusers' class name. Null: the model's."),
    )
    use_karras_sigmas = Flag(
        **_options(
            "use_karras_sigmas", "Karras' noise schedule. Without effect on schedulers that have no such option."
        )
    )
    algorithm_type = Text(
        validate=Known(ALGORITHM_TYPES),
        **_options("algorithm_type", "The solver's variant. Without effect on schedulers that have no such option."),
    )
    seed = Seed(
        **_options(
            "seed",
            "Image i uses seed + i; a list gives each image its own. Null: drawn at random, and told in the job.",
            anyOf=[_SEED, {"type": "array", "items": {"anyOf": [_SEED, {"type": "null"}]}}, {"type": "null"}],
        )
    )
    num_images = WholeNumber(validate=between("num_images"), **_options("num_images", "How many images to draw."))
    output_format = Text(validate=Known(OUTPUT_FORMATS), **_options("output_format", "How images are stored."))
    quality = WholeNumber(validate=between("quality"), **_options("quality", "Of JPEG and WebP."))
    embed_parameters = Flag(
        **_options("embed_parameters", "Write the effective parameters into the image file. Nothing about the caller.")
    )
    webhook_url = Text(
        allow_none=True,
        validate=validate.Length(
            max=MAX_WEBHOOK_URL_CHARACTERS, error=f"must have at most {MAX_WEBHOOK_URL_CHARACTERS:,} characters"
        ),
        metadata={
            "description": "An http or https URL that is called, signed after Standard Webhooks, when the job ends.",
            "format": "uri",
        },
    )
    webhook_events = fields.List(
        Text(validate=Known(WEBHOOK_EVENTS)),
        allow_none=True,
        validate=validate.Length(min=1, error="must name at least one event"),
        metadata={
            "description": "What the webhook is called for. Default: every end of a job. `queued`, `started` and "
            "`progress` (at most every five seconds) are sent without a promise.",
            "default": list(DEFAULT_WEBHOOK_EVENTS),
        },
    )
    track_id = TrackId(
        allow_none=True,
        metadata={
            "description": "A reference of your own. It comes back in the job and its webhook, with the type it had.",
            "anyOf": [
                {"type": "string", "maxLength": MAX_TRACK_ID_CHARACTERS},
                {"type": "integer"},
                {"type": "null"},
            ],
        },
    )

    prompt_weighting = Text(
        validate=Known(WEIGHTINGS),
        **_options(
            "prompt_weighting",
            "How weights are written in the prompt: `octoai` as (word:1.5), `a1111` also as ((word)) and [word].",
        ),
    )
    image = ImageSource(
        **_options(
            "image",
            "The picture to start from: an http or https URL, a `data:` URI or base64. PNG, JPEG or WebP.",
            **_IMAGE,
        )
    )
    mask_image = ImageSource(
        **_options("mask_image", "Where to paint: white is painted, black is kept. Needs `image`.", **_IMAGE)
    )
    strength = Number(
        validate=between("strength"),
        **_options(
            "strength",
            "How much of `image` is redrawn: 0 gives it back, 1 keeps nothing. Needs `image`. "
            f"Default {DEFAULT_STRENGTH}, with `mask_image` {DEFAULT_INPAINT_STRENGTH}.",
        ),
    )
    outpainting = Flag(**_options("outpainting", "The mask's white is new ground around `image`."))
    inpaint_full_res = Flag(**_options("inpaint_full_res", "Draw the masked part at the full size of the output."))
    inpaint_full_res_padding = WholeNumber(
        validate=between("inpaint_full_res_padding"),
        **_options("inpaint_full_res_padding", "Pixels around the masked part that are drawn along."),
    )
    clip_skip = WholeNumber(
        validate=between("clip_skip"),
        **_options("clip_skip", "Last layers of the text encoder to leave out, as diffusers counts them."),
    )
    style_preset = Text(validate=Known(STYLES), **_options("style_preset", "A style: phrases added to both prompts."))
    enhance_prompt = Flag(**_options("enhance_prompt", "Add words to both prompts that make pictures crisper."))
    loras = Loras(**_options("loras", "LoRAs from `/v1/assets`, with their weights.", **LORAS_SCHEMA))
    vae = Text(**_options("vae", "Another VAE from `/v1/assets`. Null: the model's."))
    textual_inversions = Inversions(
        **_options(
            "textual_inversions",
            "Textual inversions from `/v1/assets`, and the words of the prompts that stand for them. "
            "Null: the first of its own `triggers`, else its name.",
            **INVERSIONS_SCHEMA,
        )
    )
    controlnets = ControlNets(
        **_options("controlnets", "ControlNets from `/v1/assets`, and what they draw after.", **CONTROLNETS_SCHEMA)
    )
    guess_mode = Flag(
        **_options("guess_mode", "Let ControlNets see for themselves what they are shown, with little or no prompt.")
    )
    clip_guidance_preset = Text(
        validate=Known(CLIP_GUIDANCE_PRESETS),
        **_options(
            "clip_guidance_preset",
            "Draw the picture towards what CLIP finds alike to the prompt; slower, `SLOWEST` most. Models without a "
            "CLIP refuse all but `NONE`.",
        ),
    )
    tomesd = Flag(**_options("tomesd", "Merge similar tokens: somewhat faster, and a slightly different picture."))
    safety = Text(
        validate=Known(SAFETY),
        **_options(
            "safety",
            "What is shown in place of a picture that the model's safety checker flags; `off` where nothing is "
            "checked, which the account's plan may rule out.",
        ),
    )
    preview_every = WholeNumber(
        validate=between("preview_every"),
        **_options("preview_every", "Keep a picture on the way every so many evaluations of the network."),
    )
    priority = Text(
        allow_none=True,
        validate=Known(PRIORITIES),
        metadata={
            "description": "Higher classes go first; a lower one is never passed over for ever. Null: the plan's.",
        },
    )
    start_deadline_s = Number(
        allow_none=True,
        validate=_SECONDS,
        metadata={
            "description": "Seconds in which the job must have started; else it expires. Null: the plan's, if any."
        },
    )
    run_deadline_s = Number(
        allow_none=True,
        validate=_SECONDS,
        metadata={"description": "Seconds that the job may run; then it expires. Null: the plan's, if any."},
    )

    @pre_load
    def _drop_nulls(self, data: dict[str, Any], **_: Any) -> dict[str, Any]:
        """Take null as omitted."""
        return with_files(without_nulls(data, self))

    @validates_schema
    def _belong_together(self, data: dict[str, Any], **_: Any) -> None:
        """Refuse what has no meaning without an image, rather than ignore it."""
        if data.get("image") is not None:
            return
        for name in ("strength", "mask_image"):
            if data.get(name) is not None:
                raise ValidationError("needs `image`", name)

    @post_load
    def _order(self, data: dict[str, Any], **_: Any) -> Order:
        given = {name: data[name] for name in ("prompt", *_DEFAULTS) if data.get(name) is not None}
        nets = given.pop("controlnets", ())
        images = {name: given[name] for name in ("image", "mask_image") if name in given}
        names, inputs = named(images | sources_of(nets))
        controlnets = controlnets_of(nets, names)
        submission = Submission(
            spec=JobSpec(**{**given, **names}, controlnets=controlnets),
            track_id=data.get("track_id"),
            priority=data.get("priority"),
            start_deadline_s=data.get("start_deadline_s"),
            run_deadline_s=data.get("run_deadline_s"),
            webhook_url=data.get("webhook_url"),
            webhook_events=tuple(dict.fromkeys(data.get("webhook_events") or DEFAULT_WEBHOOK_EVENTS)),
        )
        return Order(submission=submission, inputs=inputs)


class SubmitHeaders(Request):
    """Headers of `POST /v1/jobs`."""

    idempotency_key = Text(
        data_key="Idempotency-Key",
        validate=validate.Length(min=1, max=255, error="must have 1 to 255 characters"),
        metadata={"description": "Sent again with the same request, it gets the first answer and no second job."},
    )


class JobQuery(Request):
    """What `GET /v1/jobs/{uid}` takes."""

    wait = QueryNumber(
        load_default=0,
        validate=validate.Range(min=0, max=60, error="must lie between 0 and 60"),
        metadata={"description": "Seconds to wait for the job's end; the answer comes as soon as it has ended."},
    )


class ListQuery(Request):
    """What `GET /v1/jobs` takes."""

    status = Text(
        validate=Known(tuple(str(status) for status in Status)), metadata={"description": "Only jobs in this state."}
    )
    track_id = Text(
        validate=validate.Length(max=MAX_TRACK_ID_CHARACTERS, error="must have at most 255 characters"),
        metadata={"description": "Only jobs with this reference, whether it came as a string or as an integer."},
    )
    limit = QueryNumber(
        load_default=50,
        validate=validate.Range(min=1, max=200, error="must lie between 1 and 200"),
        metadata={"description": "Most jobs in one page. A page may be short although more follow."},
    )
    cursor = QueryNumber(
        validate=validate.Range(min=1, error="must be a page's next_cursor"),
        metadata={"description": "`next_cursor` of the page before."},
    )
