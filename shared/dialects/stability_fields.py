"""Stability's fields: bounds, words and defaults as data, what reads them, and the JSON Schema that they make."""

from typing import Any, Final

from shared.dialects.reading import Reader
from shared.dialects.samplers import STABILITY
from shared.dialects.stability_images import MAX_PIXELS, MIN_PIXELS, SIDE_MAX, SIDE_MIN, SIDE_STEP
from shared.dialects.stability_prompts import FIELD, MAX_CHARS, MAX_PROMPTS, MAX_WEIGHT
from shared.spec import CLIP_GUIDANCE_PRESETS
from shared.styles import STYLES

#: field -> (minimum, maximum, default, what it is); whole numbers but for `FRACTIONS`
NUMBERS: Final[dict[str, tuple[int, int, float, str]]] = {
    "width": (SIDE_MIN, SIDE_MAX, 512, f"In pixels; width x height lies between {MIN_PIXELS:,} and {MAX_PIXELS:,}."),
    "height": (SIDE_MIN, SIDE_MAX, 512, "In pixels."),
    "cfg_scale": (0, 35, 7.0, "How closely the prompts are followed."),
    "samples": (1, 10, 1, "How many images; one where image/png is accepted."),
    "seed": (0, 2**32 - 1, 0, "Equal seeds give equal images; 0 draws one."),
    "steps": (10, 150, 50, "Denoising steps."),
    "image_strength": (0, 1, 0.35, "1 keeps the init image, 0 forgets it."),
    "step_schedule_start": (0, 1, 0.65, "With STEP_SCHEDULE: 1 forgets the init image, 0 keeps it."),
    "step_schedule_end": (0, 1, 1.0, "With STEP_SCHEDULE: 1. Ending early is not available."),
}
FRACTIONS: Final = frozenset({"cfg_scale", "image_strength", "step_schedule_start", "step_schedule_end"})
SIDES: Final = ("width", "height")
#: field -> (words, default, what it is)
WORDS: Final[dict[str, tuple[tuple[str, ...], str | None, str]]] = {
    "clip_guidance_preset": (CLIP_GUIDANCE_PRESETS, "NONE", "How much CLIP guides."),
    "sampler": (tuple(STABILITY), None, "Left out: K_DPMPP_2M, or K_DPMPP_2S_ANCESTRAL with CLIP guidance."),
    "style_preset": (tuple(STYLES), None, "Phrases for the prompt."),
    "init_image_mode": (("IMAGE_STRENGTH", "STEP_SCHEDULE"), "IMAGE_STRENGTH", "Which field tells the strength."),
    "mask_source": (("MASK_IMAGE_WHITE", "MASK_IMAGE_BLACK", "INIT_IMAGE_ALPHA"), None, "What says where to paint."),
}
COMMON: Final = ("cfg_scale", "clip_guidance_preset", "sampler", "samples", "seed", "steps", "style_preset")
STRENGTHS: Final = ("init_image_mode", "image_strength", "step_schedule_start", "step_schedule_end")
_FILE: Final = {"type": "string", "format": "binary", "description": "PNG, JPEG or WebP."}


def whole(reader: Reader, name: str) -> int:
    """Return a whole number, or its default."""
    low, high, default, _ = NUMBERS[name]
    step = SIDE_STEP if name in SIDES else 1
    return reader.integer(name, minimum=low, maximum=high, multiple_of=step, default=int(default))


def fraction(reader: Reader, name: str) -> float:
    """Return a number, or its default."""
    low, high, default, _ = NUMBERS[name]
    return reader.number(name, minimum=low, maximum=high, default=default)


def word(reader: Reader, name: str) -> str | None:
    """Return one of a field's words, or its default."""
    words, default, _ = WORDS[name]
    return reader.choice(name, words, default=default)


def text_schema() -> dict[str, Any]:
    """Return the JSON Schema of text-to-image's body."""
    prompt = {
        "type": "object",
        "required": ["text"],
        "properties": {
            "text": {"type": "string", "minLength": 1, "maxLength": MAX_CHARS},
            "weight": {"type": "number", "minimum": -MAX_WEIGHT, "maximum": MAX_WEIGHT, "default": 1},
        },
    }
    prompts = {
        "type": "array",
        "minItems": 1,
        "maxItems": MAX_PROMPTS,
        "items": prompt,
        "description": "What to draw; texts of negative weight say what not to.",
    }
    return _object("StabilityTextToImage", {FIELD: prompts, **_fields(*SIDES, *COMMON)}, FIELD)


def form_schema(*, masking: bool) -> dict[str, Any]:
    """Return the JSON Schema of the forms, of which `text_prompts` are spelled one by one."""
    text = f"{FIELD}[0][text]"
    prompts = {
        text: {"type": "string", "minLength": 1, "maxLength": MAX_CHARS, "description": "The first prompt."},
        f"{FIELD}[0][weight]": {"type": "number", "minimum": -MAX_WEIGHT, "maximum": MAX_WEIGHT, "default": 1},
    }
    if not masking:
        properties = {**prompts, "init_image": _FILE, **_fields(*COMMON, *STRENGTHS)}
        return _object("StabilityImageToImage", properties, text, "init_image")
    files = {"init_image": _FILE, "mask_image": {**_FILE, "description": "Not with INIT_IMAGE_ALPHA."}}
    properties = {**prompts, **files, **_fields("mask_source", *COMMON)}
    return _object("StabilityMasking", properties, text, "init_image", "mask_source")


def _object(title: str, properties: dict[str, Any], *required: str) -> dict[str, Any]:
    return {"title": title, "type": "object", "required": list(required), "properties": properties}


def _fields(*names: str) -> dict[str, Any]:
    return {name: _number(name) if name in NUMBERS else _word(name) for name in names}


def _number(name: str) -> dict[str, Any]:
    low, high, default, text = NUMBERS[name]
    kind = {"type": "number"} if name in FRACTIONS else {"type": "integer"}
    step = {"multipleOf": SIDE_STEP} if name in SIDES else {}
    return {**kind, "minimum": low, "maximum": high, **step, "default": default, "description": text}


def _word(name: str) -> dict[str, Any]:
    words, default, text = WORDS[name]
    return {"enum": [*words], **({} if default is None else {"default": default}), "description": text}
