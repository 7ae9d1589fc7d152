"""aithriving's requests and answers as JSON Schema: the same bounds and words that the reader checks by."""

from typing import Any, Final

from shared.dialects import aithriving_fields as fields
from shared.dialects.pages import FORM, Manual, Page, Told, record, text, whole
from shared.dialects.samplers import STABILITY
from shared.spec import CLIP_GUIDANCE_PRESETS
from shared.styles import STYLES

_FILE: Final = {"type": "string", "format": "binary", "description": "PNG, JPEG or WebP."}
_PROMPT: Final = {
    "type": "string",
    "minLength": 1,
    "maxLength": fields.MAX_PROMPT_CHARS,
    "description": "What to draw.",
}


def _side(name: str) -> dict[str, Any]:
    step = fields.SIDE_STEP
    bounds = {"minimum": fields.SIDE_MIN, "maximum": fields.SIDE_MAX, "multipleOf": step}
    says = f"{name} in pixels. In a form, left out: the image's own, to the nearest {step}."
    return {"type": "integer", **bounds, "description": says}


_COMMON: Final[dict[str, dict[str, Any]]] = {
    "prompt": _PROMPT,
    "negative_prompt": {
        "type": "string",
        "maxLength": fields.MAX_PROMPT_CHARS,
        "default": "",
        "description": "What should not be in the image.",
    },
    "width": _side("Width"),
    "height": _side("Height"),
    "cfg_scale": {
        "type": "number",
        "minimum": fields.CFG_SCALE[0],
        "maximum": fields.CFG_SCALE[1],
        "default": fields.DEFAULT_CFG_SCALE,
        "description": "How closely the prompt is followed; fractions too.",
    },
    "clip_guidance_preset": {
        "enum": [*CLIP_GUIDANCE_PRESETS],
        "default": "NONE",
        "description": "How much CLIP guides.",
    },
    "sampler": {
        "enum": [*STABILITY],
        "description": "Left out: {}, or {} with CLIP guidance.".format(*fields.AUTOMATIC_SAMPLERS),
    },
    "seed": {
        "type": "integer",
        "minimum": 0,
        "maximum": fields.MAX_SEED,
        "default": 0,
        "description": "Equal seeds give equal images; 0 draws one.",
    },
    "steps": {
        "type": "integer",
        "minimum": fields.STEPS[0],
        "maximum": fields.STEPS[1],
        "default": fields.DEFAULT_STEPS,
        "description": "Denoising steps.",
    },
    "style_preset": {"enum": [*STYLES], "description": "Phrases for the prompt."},
}
_IMAGE_STRENGTH: Final = {
    "type": "number",
    "minimum": 0,
    "maximum": 1,
    "default": fields.DEFAULT_IMAGE_STRENGTH,
    "description": "1 keeps the init image, 0 forgets it.",
}
_OUTPUT_FORMAT: Final = {"enum": [*fields.OUTPUT_FORMATS], "default": "png", "description": "The image's format."}


def _body(title: str, properties: dict[str, Any], *required: str) -> dict[str, Any]:
    return {"title": title, "type": "object", "required": ["prompt", *required], "properties": properties}


TEXT: Final = _body("AithrivingTextToImage", _COMMON, "width", "height")
IMAGE: Final = _body(
    "AithrivingImageToImage", {"init_image": _FILE, **_COMMON, "image_strength": _IMAGE_STRENGTH}, "init_image"
)
INPAINT: Final = _body(
    "AithrivingInpaint",
    {
        "image": _FILE,
        "mask": {**_FILE, "description": "White is painted."},
        **_COMMON,
        "output_format": _OUTPUT_FORMAT,
    },
    "image",
    "mask",
)
_SUCCESS: Final = record(
    "AithrivingSuccess",
    {
        "code": whole("0.", const=0),
        "message": text("success", const="success"),
        "data": record(
            "AithrivingImage",
            {"image": text("The image, in base64.", contentEncoding="base64"), "seed": whole("What drew it.")},
        ),
    },
)
_FAILURE: Final = record(
    "AithrivingFailure",
    {
        "code": whole("-1.", const=-1),
        "message": text("The reason, naming the field at fault."),
        "data": {"type": "null", "description": "Nothing."},
    },
)
_ANSWERS: Final = {
    200: (
        Told(
            description="The image; or, with `code` -1, why there is none: a field, the key, the credits, the time, a "
            "failure. A failure costs nothing.",
            schema={"title": "AithrivingEnvelope", "oneOf": [_SUCCESS, _FAILURE]},
        ),
    )
}
TEXT_PAGE: Final = Page(answers=_ANSWERS)
FORM_PAGE: Final = Page(answers=_ANSWERS, content_types=(FORM,))
MANUAL: Final = Manual(
    title="aithriving",
    description="All calls answer once the image is there, and always with HTTP 200: `code` tells. Text to image takes "
    "JSON whatever its Content-Type says, the others a form. Numbers may be strings.",
    keys={
        f"aithriving-{name}".lower(): {
            "type": "apiKey",
            "in": "header",
            "name": name,
            "description": "An API key, with or without `Bearer` before it.",
        }
        for name in ("Authorization", "Authentication")
    },
    error=lambda _: _FAILURE,
)
