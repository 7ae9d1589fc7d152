"""Reads OctoAI's requests, as its documentation of Stable Diffusion 1.5 and its client `octoai` have them.

Numbers are JSON's own; numeric strings are refused. All calls share one set of fields.
"""

from collections.abc import Mapping
from typing import Any, Final

from shared.accounts import Account
from shared.dialects.base import Call
from shared.dialects.octoai_tokens import least_tokens
from shared.dialects.reading import Reader
from shared.dialects.samplers import OCTOAI
from shared.errors import InvalidField, MissingField, PromptTooLong, TaskNotAvailable
from shared.inputs import Inline, Remote, parse_source
from shared.job import Submission
from shared.order import Order, named
from shared.spec import BOUNDS, CONTROLNET_BOUNDS, LORA_WEIGHT, MAX_LORAS, ControlNet, JobSpec, Lora
from shared.styles import STYLES

NAME: Final = "octoai"
#: An answer to come, instead of an answer: the header's value is not empty then.
ASYNC_HEADER: Final = "x-octoai-async"
#: 77 with the begin and the end.
MAX_PROMPT_TOKENS: Final = 75
MAX_PROMPT_CHARS: Final = 10_000
MAX_NAME_CHARS: Final = 255
SIDE_MIN, SIDE_MAX, SIDE_STEP = 128, 1536, 64
SEED_MIN, SEED_MAX = 1, 2**32 - 1
MAX_IMAGES: Final = 16
MAX_INVERSIONS: Final = 8
MAX_CONTROLNET_SCALE: Final = CONTROLNET_BOUNDS["scale"].maximum
DEFAULT_SAMPLER: Final = "DDIM"
DEFAULT_CFG_SCALE: Final = 12.0
DEFAULT_STEPS: Final = 30
DEFAULT_SIDE: Final = 512
DEFAULT_STRENGTH: Final = 0.8
DEFAULT_INPAINT_STRENGTH: Final = 1.0
IMAGE_ENCODINGS: Final = ("jpeg", "png")


def parse(call: Call, _account: Account) -> Order:
    """Read a call of `/generate/sd`."""
    return _read(call, controlnet=False)


def parse_controlnet(call: Call, _account: Account) -> Order:
    """Read a call of `/generate/controlnet-…`, which needs a ControlNet and its picture."""
    return _read(call, controlnet=True)


def is_async(call: Call) -> bool:
    """Whether the caller wants an answer to come. Clients that do not may send the header with nothing in it."""
    return call.headers.get(ASYNC_HEADER, "").strip().lower() not in {"", "0", "false"}


def _read(call: Call, *, controlnet: bool) -> Order:
    reader = Reader(call.json_object(), lenient=False)
    assets = _assets(reader)
    prompt = _prompt(reader, [trigger for _, trigger in assets["textual_inversions"]])
    spec = assets | _drawing(reader) | _seeds(reader) | {"prompt": prompt, "prompt_weighting": "octoai"}
    drawn_from, images = _drawn_from(reader)
    nets, hints = _controlnets(reader, required=controlnet)
    _without_effect(reader)
    names, inputs = named(images | hints)
    spec |= drawn_from | {name: names[name] for name in images}
    spec["controlnets"] = tuple(ControlNet(image=names["controlnet_image"], **net) for net in nets)
    options: dict[str, str | int | float | bool] = {"max_prompt_tokens": MAX_PROMPT_TOKENS}
    if is_async(call):
        options["async"] = True
    submission = Submission(spec=JobSpec(**spec), dialect=NAME, options=tuple(options.items()), ignored=reader.ignored)
    return Order(submission=submission, inputs=inputs)


def _prompt(reader: Reader, triggers: list[str]) -> str:
    prompt = reader.required_text("prompt", most=MAX_PROMPT_CHARS)
    count = least_tokens(prompt, triggers=triggers)
    if count > MAX_PROMPT_TOKENS:
        raise PromptTooLong("prompt", f"must have at most {MAX_PROMPT_TOKENS} tokens; this has {count} or more")
    return prompt


def _drawing(reader: Reader) -> dict[str, Any]:
    return {
        "negative_prompt": reader.text("negative_prompt", most=MAX_PROMPT_CHARS, default=""),
        "width": _side(reader, "width"),
        "height": _side(reader, "height"),
        "num_inference_steps": reader.integer("steps", minimum=1, maximum=200, default=DEFAULT_STEPS),
        "guidance_scale": reader.number("cfg_scale", minimum=0, maximum=50, above=True, default=DEFAULT_CFG_SCALE),
        "clip_skip": reader.integer("clip_skip", minimum=0, maximum=int(BOUNDS["clip_skip"].maximum), default=None),
        "style_preset": reader.choice("style_preset", STYLES, default=None),
        "output_format": reader.choice("image_encoding", IMAGE_ENCODINGS, default="jpeg"),
        "safety": "blank" if reader.flag("enable_safety", default=True) else "off",
        **OCTOAI[reader.choice("sampler", OCTOAI, default=DEFAULT_SAMPLER)],
    }


def _side(reader: Reader, name: str) -> int:
    return reader.integer(name, minimum=SIDE_MIN, maximum=SIDE_MAX, multiple_of=SIDE_STEP, default=DEFAULT_SIDE)


def _seeds(reader: Reader) -> dict[str, Any]:
    """Return seed and num_images; a list of seeds says how many images, unless both are given."""
    given, count = reader.raw("seed"), 1
    seed: Any = given
    if isinstance(given, list):
        count = len(given)
        if not 1 <= count <= MAX_IMAGES:
            raise InvalidField("seed", f"must have between 1 and {MAX_IMAGES} entries, not {count}")
        seed = tuple(_seed(entry) for entry in given)
    else:
        seed = _seed(given)
    return {"seed": seed, "num_images": reader.integer("num_images", minimum=1, maximum=MAX_IMAGES, default=count)}


def _seed(value: Any) -> int | None:
    return _alone("seed", value).integer("seed", minimum=SEED_MIN, maximum=SEED_MAX, default=None)


def _assets(reader: Reader) -> dict[str, Any]:
    inversions = _names(reader, "textual_inversions", most=MAX_INVERSIONS)
    return {
        "model": reader.text("checkpoint", most=MAX_NAME_CHARS, default="default"),
        "vae": reader.text("vae", most=MAX_NAME_CHARS, least=1, default=None),
        "loras": tuple(Lora(*pair) for pair in _weights(reader)),
        "textual_inversions": tuple((name, _trigger(name, trigger)) for name, trigger in inversions.items()),
    }


def _weights(reader: Reader) -> list[tuple[str, float]]:
    low, high = LORA_WEIGHT.minimum, LORA_WEIGHT.maximum
    return [
        (name, _alone("loras", weight).number("loras", minimum=low, maximum=high, default=1.0))
        for name, weight in _names(reader, "loras", most=MAX_LORAS).items()
    ]


def _trigger(name: str, trigger: Any) -> str:
    field = "textual_inversions"
    return _alone(field, trigger).text(field, most=MAX_NAME_CHARS, least=1, default=name)


def _names(reader: Reader, field: str, *, most: int) -> Mapping[str, Any]:
    found = reader.raw(field)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise InvalidField(field, "must be an object of names")
    if len(found) > most:
        raise InvalidField(field, f"must be at most {most}, not {len(found)}")
    if not all(name.strip() and len(name) <= MAX_NAME_CHARS for name in found):
        raise InvalidField(field, f"must have names of 1 to {MAX_NAME_CHARS} characters")
    return found


def _drawn_from(reader: Reader) -> tuple[dict[str, Any], dict[str, Inline]]:
    """Return the fields that say how images are drawn from, as far as they have an effect, and the images."""
    strength = reader.number("strength", minimum=0, maximum=1, above=True, default=None)
    outpainting = reader.flag("outpainting", default=False)
    full_res = reader.flag("inpaint_full_res", default=False)
    most = int(BOUNDS["inpaint_full_res_padding"].maximum)
    padding = reader.integer("inpaint_full_res_padding", minimum=0, maximum=most, default=32)
    image, mask = _image(reader, "init_image"), _image(reader, "mask_image")
    if mask is not None and image is None:
        raise InvalidField("mask_image", "needs an init_image")
    if outpainting and mask is None:
        raise InvalidField("outpainting", "needs an init_image and a mask_image")
    if image is None:
        return {}, {}
    if mask is None:
        return {"strength": DEFAULT_STRENGTH if strength is None else strength}, {"image": image}
    fields: dict[str, Any] = {
        "strength": DEFAULT_INPAINT_STRENGTH if strength is None else strength,
        "outpainting": outpainting,
        "inpaint_full_res": full_res,
    }
    if full_res:
        fields["inpaint_full_res_padding"] = padding
    return fields, {"image": image, "mask_image": mask}


def _controlnets(reader: Reader, *, required: bool) -> tuple[list[dict[str, Any]], dict[str, Inline]]:
    """Return the ControlNet there may be, and its picture; without a name its other fields have no effect."""
    net = {
        "name": reader.text("controlnet", most=MAX_NAME_CHARS, least=1, default=None),
        "scale": reader.number("controlnet_conditioning_scale", minimum=0, maximum=MAX_CONTROLNET_SCALE, default=1.0),
        "end": reader.number("controlnet_early_stop", minimum=0, maximum=1, default=1.0),
        "preprocess": reader.flag("controlnet_preprocess", default=True),
    }
    image = _image(reader, "controlnet_image")
    if net["name"] is None:
        if required:
            raise MissingField("controlnet", "is required")
        return [], {}
    if image is None:
        raise MissingField("controlnet_image", "is required with a controlnet")
    return [net], {"controlnet_image": image}


def _image(reader: Reader, field: str) -> Inline | None:
    if not reader.has(field):
        return None
    source = parse_source(reader.raw(field), field=field)
    if isinstance(source, Remote):
        raise InvalidField(field, "must be base64, not a URL")
    return source


def _without_effect(reader: Reader) -> None:
    reader.flag("log_prompt", default=True)  # no prompt is ever logged
    if _names(reader, "transfer_images", most=MAX_INVERSIONS):
        raise TaskNotAvailable("transfer_images", "is not available in this version")


def _alone(field: str, value: Any) -> Reader:
    """Return a reader of one value inside a field."""
    return Reader({field: value}, lenient=False)
