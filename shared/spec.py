"""JobSpec: the canonical vocabulary of a job, with its bounds.

One JobSpec means one picture: whatever dialect a request came through, an equal JobSpec gives equal pixels.
Field names are diffusers'. The bounds are data (`BOUNDS`), read by every dialect, by the OpenAPI document and by
the tests.
"""

import hashlib
import json
import secrets
from collections.abc import Callable, Collection, Mapping
from dataclasses import MISSING, astuple, dataclass, fields, replace
from enum import StrEnum
from typing import Any, Final, Self

from shared.errors import InvalidField, MissingField, PromptTooLong
from shared.schedulers import ALGORITHM_TYPES, SCHEDULERS
from shared.styles import STYLES
from shared.weighting import WEIGHTINGS

#: Seeds are unsigned 32-bit.
SEED_LIMIT: Final = 2**32
#: Pixels are counted in blocks of 64 x 64 (8 x 8 latents) when work is weighed for fairness.
WORK_BLOCK_PIXELS: Final = 64 * 64
OUTPUT_FORMATS: Final = ("png", "jpeg", "webp")


class Task(StrEnum):
    """What a job draws from."""

    TEXT_TO_IMAGE = "text_to_image"
    IMAGE_TO_IMAGE = "image_to_image"
    INPAINT = "inpaint"
    OUTPAINT = "outpaint"


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a number may be; both ends belong to it."""

    minimum: float
    maximum: float
    multiple_of: int = 1


#: field -> its bounds: characters for strings, the value itself for numbers
BOUNDS: Final[dict[str, Bounds]] = {
    "prompt": Bounds(1, 10_000),
    "negative_prompt": Bounds(0, 10_000),
    "width": Bounds(64, 2048, multiple_of=8),
    "height": Bounds(64, 2048, multiple_of=8),
    "num_inference_steps": Bounds(1, 200),
    "guidance_scale": Bounds(0, 50),
    "num_images": Bounds(1, 16),
    "seed": Bounds(0, SEED_LIMIT - 1),
    "quality": Bounds(1, 100),
    "strength": Bounds(0, 1),
    "inpaint_full_res_padding": Bounds(0, 256),
    "clip_skip": Bounds(0, 11),
    "preview_every": Bounds(1, 20),
}

#: Where an image that came in is kept: such a key follows it, an http(s) URL has still to be fetched.
INPUT_PREFIX: Final = "inputs/"
MAX_LORAS: Final = 8
LORA_WEIGHT: Final = Bounds(-5, 5)
MAX_TEXTUAL_INVERSIONS: Final = 8
MAX_TRIGGER_CHARS: Final = 255
#: Each is a network of its own, of half a UNet's size.
MAX_CONTROLNETS: Final = 4
#: `start` and `end` are parts of the steps that run.
CONTROLNET_BOUNDS: Final[dict[str, Bounds]] = {"scale": Bounds(0, 2), "start": Bounds(0, 1), "end": Bounds(0, 1)}
CLIP_GUIDANCE_PRESETS: Final = ("NONE", "SIMPLE", "FAST_BLUE", "FAST_GREEN", "SLOW", "SLOWER", "SLOWEST")
#: What becomes of a picture that the safety checker flags; `off` checks nothing.
SAFETY: Final = ("off", "blank", "blur", "pixelate", "black", "sensitive_content_text")
DEFAULT_STRENGTH: Final = 0.8
DEFAULT_INPAINT_STRENGTH: Final = 1.0


@dataclass(frozen=True, slots=True)
class Lora:
    """A LoRA by its catalog name, and how strongly it works."""

    name: str
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class ControlNet:
    """A ControlNet by its catalog name, its picture (as `JobSpec.image`), and when and how strongly it works."""

    name: str
    image: str
    scale: float = 1.0
    start: float = 0.0
    end: float = 1.0
    preprocess: bool = True

    @property
    def works(self) -> bool:
        """Whether it changes the picture at all."""
        return self.scale > 0 and self.start < self.end


@dataclass(frozen=True, kw_only=True, slots=True)
class JobSpec:
    """What to draw. `seed` is None or holds None where the caller leaves it to chance, until `with_seeds`."""

    prompt: str
    negative_prompt: str = ""
    model: str = "default"
    width: int = 512
    height: int = 512
    num_inference_steps: int = 30
    guidance_scale: float = 7.5
    scheduler: str | None = None
    use_karras_sigmas: bool | None = None
    algorithm_type: str | None = None
    seed: int | tuple[int | None, ...] | None = None
    num_images: int = 1
    #: The key of a stored input, or its URL until it is fetched.
    image: str | None = None
    mask_image: str | None = None
    strength: float | None = None
    outpainting: bool = False
    inpaint_full_res: bool = False
    inpaint_full_res_padding: int = 32
    clip_skip: int | None = None
    prompt_weighting: str = "none"
    style_preset: str | None = None
    enhance_prompt: bool = False
    loras: tuple[Lora, ...] = ()
    vae: str | None = None
    #: (name, trigger) of each; an empty trigger leaves it to the catalog, until the job is taken
    textual_inversions: tuple[tuple[str, str], ...] = ()
    controlnets: tuple[ControlNet, ...] = ()
    #: ControlNets steer more freely: nothing where there is no prompt, and more in the depths than at the surface.
    guess_mode: bool = False
    clip_guidance_preset: str = "NONE"
    tomesd: bool = False
    safety: str = "sensitive_content_text"
    preview_every: int | None = None
    output_format: str = "png"
    quality: int = 95
    embed_parameters: bool = True

    def __post_init__(self) -> None:
        """Check every field against its bounds; `InvalidField` names the first that fails."""
        _check_prompt("prompt", self.prompt)
        _check_prompt("negative_prompt", self.negative_prompt)
        for name in ("width", "height", "num_inference_steps", "num_images", "quality", "inpaint_full_res_padding"):
            _check_number(name, getattr(self, name), whole=True)
        _check_number("guidance_scale", self.guidance_scale, whole=False)
        if self.clip_skip is not None:
            _check_number("clip_skip", self.clip_skip, whole=True)
        if self.preview_every is not None:
            _check_number("preview_every", self.preview_every, whole=True)
        _check_images(self)
        _check_assets(self)
        _check_controlnets(self)
        _check_scheduler(self)
        _check_seed(self)
        _check_choice("output_format", self.output_format, OUTPUT_FORMATS)
        _check_choice("clip_guidance_preset", self.clip_guidance_preset, CLIP_GUIDANCE_PRESETS)
        _check_choice("safety", self.safety, SAFETY)
        _check_choice("prompt_weighting", self.prompt_weighting, WEIGHTINGS)
        if self.style_preset is not None:
            _check_choice("style_preset", self.style_preset, STYLES)

    def evolve(self, **changes: Any) -> Self:
        """Return a copy with the given fields changed."""
        return replace(self, **changes)

    def with_seeds(self) -> Self:
        """Return a copy whose seeds are all known, drawing those left to chance."""
        if self.seed is None:
            return self.evolve(seed=secrets.randbelow(SEED_LIMIT))
        if isinstance(self.seed, tuple):
            return self.evolve(seed=tuple(secrets.randbelow(SEED_LIMIT) if s is None else s for s in self.seed))
        return self

    def image_seeds(self) -> tuple[int, ...]:
        """Return one seed per image: seed + i, or the caller's list. Only after `with_seeds`."""
        if isinstance(self.seed, int):
            return tuple((self.seed + index) % SEED_LIMIT for index in range(self.num_images))
        if self.seed is None or None in self.seed:
            raise ValueError("seeds are not drawn yet")
        return tuple(seed for seed in self.seed if seed is not None)

    @property
    def task(self) -> Task:
        """What kind of drawing this is."""
        if self.image is None:
            return Task.TEXT_TO_IMAGE
        if self.mask_image is None:
            return Task.IMAGE_TO_IMAGE
        return Task.OUTPAINT if self.outpainting else Task.INPAINT

    @property
    def strength_used(self) -> float:
        """The strength of a job with an image: its own, or the task's default."""
        if self.strength is not None:
            return float(self.strength)
        return DEFAULT_STRENGTH if self.mask_image is None else DEFAULT_INPAINT_STRENGTH

    @property
    def steps_used(self) -> int:
        """Steps that run: with an image only the last part of the schedule, and none at strength 0."""
        if self.image is None:
            return self.num_inference_steps
        if self.strength_used == 0:
            return 0
        return max(1, int(self.num_inference_steps * self.strength_used))

    @property
    def controlnets_used(self) -> tuple[ControlNet, ...]:
        """The ControlNets that have an effect."""
        return tuple(net for net in self.controlnets if net.works)

    def images(self) -> dict[str, str]:
        """Return field -> key or URL of every image that comes in; `controlnets.0.image` is the first ControlNet's."""
        named = {"image": self.image, "mask_image": self.mask_image}
        found = {name: image for name, image in named.items() if image is not None}
        return found | {f"controlnets.{index}.image": net.image for index, net in enumerate(self.controlnets)}

    def with_images(self, renamed: Mapping[str, str]) -> Self:
        """Return a copy in which each image that `renamed` knows, wherever it is named, has the name given there."""
        named = {"image": self.image, "mask_image": self.mask_image}
        changed = {name: renamed.get(image, image) for name, image in named.items() if image is not None}
        nets = tuple(replace(net, image=renamed.get(net.image, net.image)) for net in self.controlnets)
        return self.evolve(**changed, controlnets=nets)

    def remote_inputs(self) -> dict[str, str]:
        """Return field -> URL of the images that have still to be fetched, each once, by the first field it is in."""
        first: dict[str, str] = {}
        for name, image in self.images().items():
            if not image.startswith(INPUT_PREFIX):
                first.setdefault(image, name)
        return {name: url for url, name in first.items()}

    @property
    def has_stored_inputs(self) -> bool:
        """Whether one of its images lies in the storage."""
        return any(image.startswith(INPUT_PREFIX) for image in self.images().values())

    def work(self) -> int:
        """Return the job's weight for fairness: 64 x 64 blocks times steps times images, at least 1."""
        blocks = -(-self.width * self.height // WORK_BLOCK_PIXELS)
        return max(1, blocks * self.steps_used * self.num_images)

    def batch_key(self) -> str:
        """Return 12 hex digits equal for specs that may share one pipeline call.

        Everything counts but what is given per image (prompt, seed) or applied afterwards (how it is encoded).
        """
        shared = {k: v for k, v in self.to_dict().items() if k not in _PER_IMAGE} | {"task": self.task}
        # Each draws after pictures of its own.
        shared["controlnets"] = [(net.name, net.scale, net.start, net.end) for net in self.controlnets]
        return hashlib.sha256(canonical_json(shared).encode()).hexdigest()[:12]

    def to_dict(self) -> dict[str, Any]:
        """Return the fields that differ from their defaults, JSON-ready."""
        found = {}
        for f in fields(self):
            value = getattr(self, f.name)
            if f.default is MISSING or value != f.default:
                found[f.name] = _plain(value)
        return found

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Build from `to_dict`'s form, as it is: fields that are not known are left out, and nothing is checked.

        It was checked when its job was accepted, perhaps by a version with other bounds.
        """
        spec = cls.__new__(cls)
        for f in fields(cls):
            value = data.get(f.name, f.default)
            read = _KINDS.get(f.name) if f.name in data else None
            object.__setattr__(spec, f.name, read(value) if read else value)
        return spec


def _plain(value: Any) -> Any:
    """Return a field's value as JSON has it."""
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return astuple(value) if isinstance(value, Lora | ControlNet) else value


def _of_list(kind: type[Any], values: list[Any]) -> Any:
    """Return a dataclass of a list's values; those past its fields are a later version's."""
    return kind(*values[: len(fields(kind))])


#: field -> how its JSON form is read, where that is not its value
_KINDS: Final[dict[str, Callable[[Any], Any]]] = {
    "seed": lambda value: tuple(value) if isinstance(value, list) else value,
    "loras": lambda value: tuple(_of_list(Lora, item) for item in value),
    "controlnets": lambda value: tuple(_of_list(ControlNet, item) for item in value),
    "textual_inversions": lambda value: tuple((name, trigger) for name, trigger, *_ in value),
}

#: Fields that batch-mates may differ in.
_PER_IMAGE: Final = frozenset(
    {
        "prompt",
        "negative_prompt",
        "seed",
        "num_images",
        "image",
        "mask_image",
        "prompt_weighting",
        "clip_skip",
        "style_preset",
        "enhance_prompt",
        "output_format",
        "quality",
        "embed_parameters",
        "preview_every",
        "safety",
    }
)


def canonical_json(data: Any) -> str:
    """Return compact JSON with sorted keys: equal data, equal text."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def input_key(handle: str, field: str) -> str:
    """Return where a job's input image is stored."""
    return f"{INPUT_PREFIX}{handle}/{field}.png"


def model_limits(spec: JobSpec, *, max_pixels: int) -> None:
    """Check what depends on the model; raise `InvalidField` naming width."""
    if spec.width * spec.height > max_pixels:
        raise InvalidField(
            "width", f"{spec.width}x{spec.height} is more than the {max_pixels:,} pixels this model draws"
        )


def _check_prompt(name: str, value: str) -> None:
    if not isinstance(value, str):
        raise InvalidField(name, "must be a string")
    bounds = BOUNDS[name]
    if len(value) > bounds.maximum:
        raise PromptTooLong(name, f"must have at most {bounds.maximum:,} characters, not {len(value):,}")
    if bounds.minimum and not value.strip():
        raise MissingField(name, "must not be empty")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise InvalidField(name, "must be valid Unicode text")


def _check_number(name: str, value: float, *, whole: bool) -> None:
    kinds = (int,) if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds):
        raise InvalidField(name, "must be a whole number" if whole else "must be a number")
    bounds = BOUNDS[name]
    if not bounds.minimum <= value <= bounds.maximum:
        raise InvalidField(name, f"must lie between {bounds.minimum:,} and {bounds.maximum:,}, not {value}")
    if whole and value % bounds.multiple_of:
        raise InvalidField(name, f"must be a multiple of {bounds.multiple_of}, not {value}")


def _check_choice(name: str, value: str, allowed: Collection[str]) -> None:
    if value not in allowed:
        raise InvalidField(name, f"must be one of {', '.join(allowed)}")


def _check_images(spec: JobSpec) -> None:
    if spec.strength is not None:
        _check_number("strength", spec.strength, whole=False)
    if spec.mask_image is not None and spec.image is None:
        raise InvalidField("mask_image", "needs an image")
    if spec.outpainting and spec.mask_image is None:
        raise InvalidField("outpainting", "needs an image and a mask_image")


def _check_assets(spec: JobSpec) -> None:
    if len(spec.loras) > MAX_LORAS:
        raise InvalidField("loras", f"must be at most {MAX_LORAS}, not {len(spec.loras)}")
    low, high = LORA_WEIGHT.minimum, LORA_WEIGHT.maximum
    for lora in spec.loras:
        if not low <= lora.weight <= high:
            raise InvalidField("loras", f"{lora.name}: weight must lie between {low} and {high}")
    if len(spec.textual_inversions) > MAX_TEXTUAL_INVERSIONS:
        raise InvalidField("textual_inversions", f"must be at most {MAX_TEXTUAL_INVERSIONS}")
    for name, trigger in spec.textual_inversions:
        if len(trigger) > MAX_TRIGGER_CHARS or trigger != trigger.strip():
            limit = f"must have at most {MAX_TRIGGER_CHARS} characters, no blanks around them"
            raise InvalidField("textual_inversions", f"{name}: the trigger {limit}")


def _check_controlnets(spec: JobSpec) -> None:
    if len(spec.controlnets) > MAX_CONTROLNETS:
        raise InvalidField("controlnets", f"must be at most {MAX_CONTROLNETS}, not {len(spec.controlnets)}")
    for net in spec.controlnets:
        for name, bounds in CONTROLNET_BOUNDS.items():
            if not bounds.minimum <= getattr(net, name) <= bounds.maximum:
                raise InvalidField(
                    "controlnets", f"{net.name}: {name} must lie between {bounds.minimum} and {bounds.maximum}"
                )
        if net.start > net.end:
            raise InvalidField("controlnets", f"{net.name}: start must not come after end")


def _check_scheduler(spec: JobSpec) -> None:
    if spec.algorithm_type is not None and spec.algorithm_type not in ALGORITHM_TYPES:
        raise InvalidField("algorithm_type", f"must be one of {', '.join(ALGORITHM_TYPES)}")
    if spec.scheduler is None:
        return
    info = SCHEDULERS.get(spec.scheduler)
    if info is None:
        raise InvalidField("scheduler", f"must be one of {', '.join(SCHEDULERS)}, not {spec.scheduler!r}")
    if info.needs_image and spec.image is None:
        raise InvalidField("scheduler", f"{spec.scheduler} needs an init image")
    if spec.num_inference_steps > info.max_steps:
        raise InvalidField("num_inference_steps", f"must be at most {info.max_steps} with {spec.scheduler}")


def _check_seed(spec: JobSpec) -> None:
    if spec.seed is None:
        return
    seeds: tuple[int | None, ...]
    if isinstance(spec.seed, tuple):
        if len(spec.seed) != spec.num_images:
            raise InvalidField("seed", f"must have one entry per image ({spec.num_images}), not {len(spec.seed)}")
        seeds = spec.seed
    else:
        seeds = (spec.seed,)
    for seed in seeds:
        if seed is not None:
            _check_number("seed", seed, whole=True)
