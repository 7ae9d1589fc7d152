"""The fields of ModelsLab's requests: their bounds as data, and how they are read into JobSpec's.

All values may be strings. `"yes"` and `true` are the same, and so are a null, an empty string and a field left out.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

from shared.dialects.base import Call
from shared.dialects.reading import Reader
from shared.errors import InvalidField, MissingField, TaskNotAvailable
from shared.inputs import Inline, Remote, parse_source
from shared.order import named
from shared.schedulers import SCHEDULERS
from shared.spec import CONTROLNET_BOUNDS, MAX_LORAS, SEED_LIMIT, Bounds, ControlNet, Lora


class Kind(StrEnum):
    """What is asked for, as the paths call it."""

    TEXT = "text2img"
    IMAGE = "img2img"
    INPAINT = "inpaint"
    CONTROLNET = "controlnet"


MAX_PROMPT_CHARS: Final = 10_000
MAX_NAME_CHARS: Final = 255
MAX_LIST_CHARS: Final = 2_048
MAX_WEBHOOK_CHARS: Final = 2_048

BOUNDS: Final[Mapping[str, Bounds]] = {
    "width": Bounds(64, 1024, multiple_of=8),
    "height": Bounds(64, 1024, multiple_of=8),
    "samples": Bounds(1, 4),
    "num_inference_steps": Bounds(1, 50),
    "guidance_scale": Bounds(1, 20),
    "strength": Bounds(0, 1),
    "clip_skip": Bounds(1, 8),
    "seed": Bounds(0, SEED_LIMIT - 1),
    "lora_strength": Bounds(-5, 5),
    "controlnet_conditioning_scale": CONTROLNET_BOUNDS["scale"],
}
#: What is taken for a number that is left out; None leaves it open.
DEFAULTS: Final[Mapping[str, int | float | None]] = {
    "width": 512,
    "height": 512,
    "samples": 1,
    "num_inference_steps": 20,
    "guidance_scale": 7.5,
    "strength": 0.7,
    "clip_skip": None,
    "seed": None,
    "lora_strength": 1.0,
    "controlnet_conditioning_scale": 1.0,
}
FLAGS: Final[Mapping[str, bool]] = {
    "safety_checker": True,
    "enhance_prompt": True,
    "tomesd": True,
    "use_karras_sigmas": True,
    "base64": False,
    "temp": False,
    "loadbalancer": False,
    "auto_hint": True,
    "guess_mode": False,
}
#: Flags that may only be "no" so far.
UNBUILT: Final = ("multi_lingual", "panorama", "self_attention", "upscale", "highres_fix")
SAFETY_TYPES: Final = ("sensitive_content_text", "blur", "pixelate", "black")
#: The provider's eighteen.
SCHEDULER_NAMES: Final = (
    "DDPMScheduler",
    "DDIMScheduler",
    "PNDMScheduler",
    "LMSDiscreteScheduler",
    "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler",
    "DPMSolverMultistepScheduler",
    "HeunDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "DPMSolverSinglestepScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "UniPCMultistepScheduler",
    "DDIMInverseScheduler",
    "DEISMultistepScheduler",
    "IPNDMScheduler",
    "KarrasVeScheduler",
    "ScoreSdeVeScheduler",
    "LCMScheduler",
)
#: The provider writes three pluses where diffusers has two; its `none` leaves the model's own.
ALGORITHMS: Final[Mapping[str, str | None]] = {
    "none": None,
    "dpmsolver+++": "dpmsolver++",
    "dpmsolver": "dpmsolver",
    "dpmsolver++": "dpmsolver++",
    "sde-dpmsolver": "sde-dpmsolver",
    "sde-dpmsolver++": "sde-dpmsolver++",
}
#: The images each kind needs, by their names in JobSpec.
_IMAGES: Final[Mapping[Kind, Mapping[str, str]]] = {
    Kind.TEXT: {},
    Kind.IMAGE: {"image": "init_image"},
    Kind.INPAINT: {"image": "init_image", "mask_image": "mask_image"},
}
#: Fields that count with some kinds alone, and the key, which was read before.
_ELSEWHERE: Final = (
    *("key", "init_image", "mask_image", "control_image", "strength", "auto_hint", "guess_mode"),
    *("controlnet_model", "controlnet_type", "controlnet_conditioning_scale"),
)
_Source = Inline | Remote


def fields_of(call: Call) -> dict[str, Any]:
    """Return a request's fields, whatever its Content-Type says: many clients send JSON as a form.

    A body of nothing has none: some calls need but a key, which may be in a header. Raises `MalformedBody` for a body
    that holds neither.
    """
    if not call.body.strip() and not call.form:
        return {}
    values = call.form if call.form and not call.body.lstrip().startswith(b"{") else call.json_object()
    return {name: None if isinstance(value, str) and not value.strip() else value for name, value in values.items()}


def read_spec(reader: Reader, kind: Kind) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Return JobSpec's fields, and the bytes of the images that came along; `InvalidField` for what cannot be."""
    reader.known(*_ELSEWHERE)
    for name in UNBUILT:
        _refuse_yes(reader, name)
    strength = _number(reader, "strength")
    images, inputs = _read_controlled(reader) if kind is Kind.CONTROLNET else _read_images(reader, kind)
    spec = {
        "prompt": reader.required_text("prompt", most=MAX_PROMPT_CHARS),
        "negative_prompt": reader.text("negative_prompt", most=MAX_PROMPT_CHARS, default=""),
        "prompt_weighting": "a1111",
        "model": reader.text("model_id", most=MAX_NAME_CHARS, default="default"),
        "width": _integer(reader, "width"),
        "height": _integer(reader, "height"),
        "num_images": _integer(reader, "samples"),
        "num_inference_steps": _integer(reader, "num_inference_steps"),
        "guidance_scale": _number(reader, "guidance_scale"),
        "seed": _integer(reader, "seed"),
        "enhance_prompt": flag(reader, "enhance_prompt"),
        "tomesd": flag(reader, "tomesd"),
        "safety": _read_safety(reader),
        **_read_scheduler(reader, with_image="image" in images),
        **_read_assets(reader),
        **images,
    }
    return (spec | {"strength": strength} if "image" in images else spec), inputs


def flag(reader: Reader, name: str) -> bool:
    """Return a yes or no, by the provider's default where it is left out."""
    return reader.flag(name, default=FLAGS[name])


def _read_safety(reader: Reader) -> str:
    kind = reader.choice("safety_checker_type", SAFETY_TYPES, default=SAFETY_TYPES[0])
    return kind if flag(reader, "safety_checker") else "off"


def _read_scheduler(reader: Reader, *, with_image: bool) -> dict[str, Any]:
    """Return the scheduler and what it takes: clients send the options of all of them, whichever they name."""
    name = reader.choice("scheduler", SCHEDULER_NAMES, default=None)
    karras: bool | None = flag(reader, "use_karras_sigmas")
    algorithm = ALGORITHMS[reader.choice("algorithm_type", ALGORITHMS, default="none")]
    info = SCHEDULERS[name] if name else None
    if info is not None:
        if info.needs_image and not with_image:
            raise InvalidField("scheduler", f"{name} needs an init image: it works on img2img and inpaint")
        karras = karras if info.karras else None
        algorithm = algorithm if info.algorithm else None
    return {"scheduler": name, "use_karras_sigmas": karras, "algorithm_type": algorithm}


def _read_assets(reader: Reader) -> dict[str, Any]:
    clip_skip = _integer(reader, "clip_skip")
    loras = _read_names(reader, "lora_model")
    embeddings = _read_names(reader, "embeddings_model")
    return {
        # The provider counts the layer that is taken, from the end; diffusers the layers that are skipped.
        "clip_skip": None if clip_skip is None else clip_skip - 1,
        "vae": reader.text("vae", most=MAX_NAME_CHARS, default=None),
        "loras": tuple(map(Lora, loras, _read_weights(reader, "lora_strength", len(loras)))),
        "textual_inversions": tuple((name, name) for name in embeddings),
    }


def _read_images(reader: Reader, kind: Kind) -> tuple[dict[str, Any], dict[str, bytes]]:
    names, inputs = named({field: _source(reader, name) for field, name in _IMAGES[kind].items()})
    return dict(names), inputs


def _read_controlled(reader: Reader) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Return what steers a picture, and what it starts from, if anything.

    `init_image` steers, unless there is a `control_image`; then it is what is changed, as it is with a `mask_image`.
    """
    nets = _read_names(reader, "controlnet_model") or _read_names(reader, "controlnet_type")
    if not nets:
        raise MissingField("controlnet_model", "is required")
    scales = _read_weights(reader, "controlnet_conditioning_scale", len(nets))
    steering = steering_field(reader)
    sources = {steering: _source(reader, steering)}
    if reader.has("mask_image") or (steering == "control_image" and reader.has("init_image")):
        sources["image"] = _source(reader, "init_image")
    if reader.has("mask_image"):
        sources["mask_image"] = _source(reader, "mask_image")
    names, inputs = named(sources)
    hint, preprocess = names.pop(steering), flag(reader, "auto_hint")
    controlnets = tuple(
        ControlNet(net, hint, scale=scale, preprocess=preprocess) for net, scale in zip(nets, scales, strict=True)
    )
    return {**names, "controlnets": controlnets, "guess_mode": flag(reader, "guess_mode")}, inputs


def steering_field(reader: Reader) -> str:
    """Return the field of the picture that ControlNets draw after."""
    return "control_image" if reader.has("control_image") else "init_image"


def _source(reader: Reader, name: str) -> _Source:
    value = reader.raw(name)
    if value is None:
        raise MissingField(name, "is required")
    return parse_source(value, field=name)


def _read_names(reader: Reader, name: str) -> list[str]:
    text = reader.text(name, most=MAX_LIST_CHARS, default=None)
    if text is None:
        return []
    names = [part.strip() for part in text.split(",")]
    if not all(names):
        raise InvalidField(name, "must be names with commas between them")
    if len(names) > MAX_LORAS:
        raise InvalidField(name, f"must be at most {MAX_LORAS} names, not {len(names)}")
    return names


def _read_weights(reader: Reader, name: str, count: int) -> list[float]:
    """Return one number for each of `count` names; a single one counts for all of them."""
    value = reader.raw(name)
    parts = value.split(",") if isinstance(value, str) else [value]
    if len(parts) > 1 and not all(part.strip() for part in parts):
        raise InvalidField(name, "must be numbers with commas between them")
    numbers = [_number(Reader({name: part}, lenient=True), name) for part in parts]
    if not count:
        return []
    if len(numbers) == 1:
        return numbers * count
    if len(numbers) != count:
        raise InvalidField(name, f"must be one number, or one for each of the {count} names, not {len(numbers)}")
    return numbers


def _refuse_yes(reader: Reader, name: str) -> None:
    if reader.flag(name, default=False):
        raise TaskNotAvailable(name, "must be no: this version does not do it")


def _integer(reader: Reader, name: str) -> int | None:
    bounds, default = BOUNDS[name], DEFAULTS[name]
    return reader.integer(
        name,
        minimum=int(bounds.minimum),
        maximum=int(bounds.maximum),
        multiple_of=bounds.multiple_of,
        default=None if default is None else int(default),
    )


def _number(reader: Reader, name: str) -> float:
    bounds, default = BOUNDS[name], DEFAULTS[name]
    return reader.number(name, minimum=bounds.minimum, maximum=bounds.maximum, default=float(default or 0))
