"""ModelsLab's request bodies as JSON Schema: the same bounds and words that the reader checks by."""

from collections.abc import Mapping
from typing import Any, Final

from shared.dialects import modelslab_fields as fields
from shared.dialects.modelslab_fields import Kind

_NUMBERS: Final = {
    "width": "Width in pixels.",
    "height": "Height in pixels.",
    "samples": "How many images.",
    "num_inference_steps": "Denoising steps.",
    "guidance_scale": "How closely the prompt is followed.",
    "strength": "1 forgets the init image, 0 keeps it.",
    "clip_skip": "Which layer of the text encoder counts, from its end; 1 is the last.",
    "seed": "Equal seeds give equal images; null draws one.",
}
_WHOLE: Final = frozenset(_NUMBERS) - {"guidance_scale", "strength"}
_FLAGS: Final = {
    "safety_checker": "Check for unsafe images.",
    "enhance_prompt": "Add quality phrases to the prompt, and their opposites to the negative prompt.",
    "tomesd": "Merge alike tokens, which is faster.",
    "use_karras_sigmas": "Karras' noise levels, with schedulers that take them.",
    "base64": "Answer with base64 strings instead of links.",
    "temp": "Links open the images for 24 hours, after which the job and its files are gone.",
    "loadbalancer": "Let any pool that serves the model take the job, not the account's own alone.",
}
_WORDS: Final[Mapping[str, tuple[tuple[str, ...], str | None, str]]] = {
    "safety_checker_type": (fields.SAFETY_TYPES, fields.SAFETY_TYPES[0], "What becomes of an unsafe image."),
    "algorithm_type": (tuple(fields.ALGORITHMS), "none", "The solver of DPMSolverMultistepScheduler."),
    "scheduler": (fields.SCHEDULER_NAMES, None, "Left out: the model's own."),
}
_LISTS: Final = {
    "lora_model": "LoRAs, with commas between them.",
    "lora_strength": "A number for each LoRA, with commas between them, or one for all; -5 to 5.",
    "embeddings_model": "Textual inversions, with commas between them; each is triggered by its name.",
}
_TEXTS: Final = {
    "negative_prompt": (fields.MAX_PROMPT_CHARS, "What should not be in the image."),
    "model_id": (fields.MAX_NAME_CHARS, "A model of the catalog; left out: the default one."),
    "vae": (fields.MAX_NAME_CHARS, "A VAE of the catalog."),
    "webhook": (fields.MAX_WEBHOOK_CHARS, "Called once the job has ended."),
}
#: The images that each kind must have.
_IMAGES: Final[Mapping[Kind, tuple[str, ...]]] = {
    Kind.IMAGE: ("init_image",),
    Kind.INPAINT: ("init_image", "mask_image"),
}
_AN_IMAGE: Final = "A URL, a data: URI or base64."


def schema(kind: Kind) -> dict[str, Any]:
    """Return the JSON Schema of one kind of request."""
    images = _IMAGES.get(kind, ())
    return {
        "title": f"Modelslab{kind.name.title()}Request",
        "type": "object",
        "required": ["prompt", *images],
        "properties": {
            "key": {"type": "string", "description": "The API key; a Bearer header does as well."},
            "prompt": {"type": "string", "minLength": 1, "maxLength": fields.MAX_PROMPT_CHARS},
            **{name: {"type": "string", "description": _AN_IMAGE} for name in images},
            **{name: _text(most, says) for name, (most, says) in _TEXTS.items()},
            **{name: _number(name, says) for name, says in _NUMBERS.items()},
            **{name: _flag(name, says) for name, says in _FLAGS.items()},
            **{name: _only_no() for name in fields.UNBUILT},
            **{name: _word(*row) for name, row in _WORDS.items()},
            **{name: {"type": ["string", "number", "null"], "description": says} for name, says in _LISTS.items()},
            "track_id": {"type": ["string", "integer", "null"], "maxLength": fields.MAX_NAME_CHARS},
            **(_controlnet() if kind is Kind.CONTROLNET else {}),
        },
    }


def _controlnet() -> dict[str, Any]:
    nets = "ControlNets, with commas between them."
    return {
        "controlnet_model": _text(fields.MAX_LIST_CHARS, nets),
        "controlnet_type": _text(fields.MAX_LIST_CHARS, f"Taken where controlnet_model is left out: {nets}"),
        "init_image": _text(None, f"What steers, or what is changed where there is a control_image. {_AN_IMAGE}"),
        "control_image": _text(None, f"What steers. {_AN_IMAGE}"),
        "mask_image": _text(None, f"White is drawn anew. {_AN_IMAGE}"),
        "controlnet_conditioning_scale": _number(
            "controlnet_conditioning_scale",
            "How strongly each steers: one number, or one for each, with commas.",
        ),
        "auto_hint": _flag("auto_hint", "Make the hint out of the image, for instance its edges."),
        "guess_mode": _flag("guess_mode", "Let them see for themselves what they are shown, whatever the prompt."),
    }


def _text(most: int | None, says: str) -> dict[str, Any]:
    return {"type": ["string", "null"], **({"maxLength": most} if most else {}), "description": says}


def _number(name: str, says: str) -> dict[str, Any]:
    bounds, default = fields.BOUNDS[name], fields.DEFAULTS[name]
    return {
        "type": ["integer" if name in _WHOLE else "number", "string", "null"],
        "minimum": bounds.minimum,
        "maximum": bounds.maximum,
        **({"multipleOf": bounds.multiple_of} if bounds.multiple_of > 1 else {}),
        **({} if default is None else {"default": default}),
        "description": says,
    }


def _flag(name: str, says: str) -> dict[str, Any]:
    return {"enum": ["yes", "no", True, False, None], "default": _YES_NO[fields.FLAGS[name]], "description": says}


def _only_no() -> dict[str, Any]:
    return {"enum": ["no", False, None], "default": "no", "description": "Only no: this version does not do it."}


def _word(allowed: tuple[str, ...], default: str | None, says: str) -> dict[str, Any]:
    return {"enum": [*allowed, None], **({"default": default} if default else {}), "description": says}


_YES_NO: Final = {True: "yes", False: "no"}
