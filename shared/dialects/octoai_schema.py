"""OctoAI's request body as JSON Schema: the same bounds and words that the reader checks by."""

from http import HTTPStatus
from typing import Any, Final

from shared.dialects import octoai_request as request
from shared.dialects.pages import BEARER, Manual, Page, Told, number, record, text, whole
from shared.dialects.samplers import OCTOAI
from shared.spec import BOUNDS, LORA_WEIGHT, MAX_LORAS
from shared.styles import STYLES

_SEED: Final = {"type": "integer", "minimum": request.SEED_MIN, "maximum": request.SEED_MAX}
_NAME: Final = {"minLength": 1, "maxLength": request.MAX_NAME_CHARS}
_BASE64: Final = {"type": "string", "contentEncoding": "base64"}


def _number(low: float, high: float, default: float | None, text: str, **more: Any) -> dict[str, Any]:
    return {"type": "number", "minimum": low, "maximum": high, **_default(default), "description": text, **more}


def _whole(low: float, high: float, default: int | None, text: str, **more: Any) -> dict[str, Any]:
    return {**_number(low, high, default, text), "type": "integer", **more}


def _positive(high: float, default: float | None, text: str) -> dict[str, Any]:
    return {"type": "number", "exclusiveMinimum": 0, "maximum": high, **_default(default), "description": text}


def _default(value: float | None) -> dict[str, Any]:
    return {} if value is None else {"default": value}


def _side(text: str) -> dict[str, Any]:
    size = (request.SIDE_MIN, request.SIDE_MAX, request.DEFAULT_SIDE)
    return _whole(*size, f"{text} in pixels.", multipleOf=request.SIDE_STEP)


def _flag(text: str, *, default: bool) -> dict[str, Any]:
    return {"type": "boolean", "default": default, "description": text}


def _name(text: str) -> dict[str, Any]:
    return {"type": "string", "description": text, **_NAME}


_PROPERTIES: Final[dict[str, dict[str, Any]]] = {
    "prompt": {
        "type": "string",
        "minLength": 1,
        "maxLength": request.MAX_PROMPT_CHARS,
        "description": f"At most {request.MAX_PROMPT_TOKENS} tokens; (words:1.5) weigh more.",
    },
    "negative_prompt": {
        "type": "string",
        "maxLength": request.MAX_PROMPT_CHARS,
        "default": "",
        "description": "What should not be in the image.",
    },
    "sampler": {"enum": [*OCTOAI], "default": request.DEFAULT_SAMPLER, "description": "How noise becomes an image."},
    "cfg_scale": _positive(50, request.DEFAULT_CFG_SCALE, "How closely the prompt is followed."),
    "image_encoding": {
        "enum": [*request.IMAGE_ENCODINGS],
        "default": request.IMAGE_ENCODINGS[0],
        "description": "The images' format.",
    },
    "num_images": _whole(1, request.MAX_IMAGES, 1, "How many images; left out with a list of seeds: its length."),
    "seed": {
        "anyOf": [
            _SEED,
            {
                "type": "array",
                "items": {"anyOf": [_SEED, {"type": "null"}]},
                "minItems": 1,
                "maxItems": request.MAX_IMAGES,
            },
        ],
        "description": "Equal seeds give equal images. A list has one per image; null draws one.",
    },
    "steps": _whole(1, 200, request.DEFAULT_STEPS, "Denoising steps; LCM takes 50 at most."),
    "init_image": {**_BASE64, "description": "The image to start from."},
    "strength": _positive(1, None, "1 forgets the init image. Left out: 0.8, and 1 with a mask."),
    "height": _side("Height"),
    "width": _side("Width"),
    "checkpoint": {"type": "string", "maxLength": request.MAX_NAME_CHARS, "description": "A model of the catalog."},
    "loras": {
        "type": "object",
        "maxProperties": MAX_LORAS,
        "propertyNames": _NAME,
        "additionalProperties": {
            "type": ["number", "null"],
            "minimum": LORA_WEIGHT.minimum,
            "maximum": LORA_WEIGHT.maximum,
        },
        "description": "LoRAs of the catalog and their weights; null is 1.",
    },
    "textual_inversions": {
        "type": "object",
        "maxProperties": request.MAX_INVERSIONS,
        "propertyNames": _NAME,
        "additionalProperties": {"type": ["string", "null"], **_NAME},
        "description": "Textual inversions of the catalog and their trigger words; null is the name itself.",
    },
    "vae": _name("A VAE of the catalog."),
    "mask_image": {**_BASE64, "description": "Where to paint: white. Needs an init_image."},
    "outpainting": _flag("Whether white is a new area round the image. Needs a mask_image.", default=False),
    "inpaint_full_res": _flag("Paint what is under the mask at full size.", default=False),
    "inpaint_full_res_padding": _whole(
        0, BOUNDS["inpaint_full_res_padding"].maximum, 32, "Pixels round the mask that are looked at with it."
    ),
    "clip_skip": _whole(0, BOUNDS["clip_skip"].maximum, None, "How many of the text encoder's last layers to skip."),
    "style_preset": {"enum": [*STYLES], "description": "Phrases for the prompt."},
    "enable_safety": _flag("Remove unsafe images.", default=True),
    "log_prompt": _flag("No prompt is ever logged.", default=True),
    "transfer_images": {"type": "object", "maxProperties": 0, "description": "Not available."},
    "controlnet": _name("A ControlNet of the catalog."),
    "controlnet_image": {**_BASE64, "description": "The ControlNet's picture, which it must have."},
    "controlnet_conditioning_scale": _number(0, request.MAX_CONTROLNET_SCALE, 1.0, "The ControlNet's strength."),
    "controlnet_early_stop": _number(0, 1, 1.0, "The part of the steps for which the ControlNet works."),
    "controlnet_preprocess": _flag("Whether the ControlNet's picture is prepared for it.", default=True),
}


def schema(*, controlnet: bool) -> dict[str, Any]:
    """Return the JSON Schema of a request; null stands for omitted everywhere but in the required fields."""
    required = ["prompt", *(["controlnet", "controlnet_image"] if controlnet else [])]
    title = "OctoaiControlnet" if controlnet else "OctoaiGenerate"
    return {"title": title, "type": "object", "required": required, "properties": {**_PROPERTIES}}


_RESULT: Final = Told(
    description="The images.",
    schema=record(
        "OctoaiResult",
        {
            "images": {
                "type": "array",
                "items": record(
                    "OctoaiImage",
                    {
                        "image_b64": text("The image, in base64; null where it was removed.", null=True),
                        "removed_for_safety": {"type": "boolean", "description": "Whether it was removed as unsafe."},
                        "seed": whole("The seed that draws this very image again."),
                        "safety_score": {"type": "null", "description": "No score is told."},
                    },
                ),
                "description": "One per image asked for.",
            },
            "prediction_time_ms": number("How long they were drawn, in milliseconds."),
        },
    ),
)
_ACCEPTED: Final = Told(
    description="With `X-OctoAI-Async`: where the answer will be.",
    schema=record(
        "OctoaiAccepted",
        {"response_id": text("The key to the answer: whoever has it may read it."), "poll_url": text("Ask here.")},
    ),
)
_STANDS: Final = Told(
    description="How it stands.",
    schema=record(
        "OctoaiPoll",
        {
            "status": text(
                "A job that ended without images is completed too.", enum=["pending", "running", "completed"]
            ),
            "response_url": text("Where the answer is, once it is completed."),
        },
    ),
)
_FAULTS: Final = record(
    "OctoaiFaults",
    {
        "detail": {
            "type": "array",
            "description": "One entry.",
            "items": record(
                "OctoaiFault",
                {
                    "loc": {"type": "array", "items": {"type": "string"}, "description": "`body`, then the field."},
                    "msg": text("What is wrong."),
                    "type": text("Its stable name."),
                },
            ),
        }
    },
)
_MESSAGE: Final = record("OctoaiMessage", {"message": text("What is wrong.")})
SUBMIT_PAGE: Final = Page(
    answers={200: (_RESULT,), 201: (_ACCEPTED,)},
    errors=(401, 402, 403, 409, 413, 422, 429, 500, 503, 504),
    headers={"X-OctoAI-Async": "Not empty: answer 201 at once, with an address to poll."},
)
POLL_PAGE: Final = Page(answers={200: (_STANDS,)}, errors=(404, 410, 500, 503), public=True)
RESPONSE_PAGE: Final = Page(answers={200: (_RESULT,)}, errors=(404, 409, 410, 422, 500, 503, 504), public=True)
MANUAL: Final = Manual(
    title="OctoAI",
    description="A call answers with its images; with `X-OctoAI-Async` it answers at once with an address to poll. A "
    "fault in a field is 422 with a list `detail`, all else a `message`. Numbers are JSON numbers; null is left out.",
    keys=BEARER,
    error=lambda status: _FAULTS if status == HTTPStatus.UNPROCESSABLE_ENTITY else _MESSAGE,
    arguments={"id": "`response_id` of the asynchronous call."},
)
