"""The model's own safety checker, asked of every finished picture, and what becomes of one that it flags.

The checker is the one that Stable Diffusion 1.x ships: a CLIP vision tower whose embedding of a picture is compared
with embeddings of what is not to be shown. Pictures are asked one by one, so no verdict depends on a batch-mate; those
on the way are asked as well. A model without a checker draws unchecked, and its records say so.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np
import torch
from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from safetensors.torch import load_file
from transformers import CLIPConfig
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from shared.errors import OutOfMemory
from worker.pipelines import DeviceBroken

if TYPE_CHECKING:
    from shared.spec import JobSpec
    from worker.device import Device
    from worker.engine import Model

#: What a record says of pictures that no checker saw, although one was asked for: their model has none.
UNCHECKED: Final = "unchecked"
OFF: Final = "off"
#: Of the longer side: the blur's radius, and how many blocks a pixelated picture keeps. Shapes are gone, colours stay.
BLUR_SHARE: Final = 1 / 12
BLOCKS: Final = 12
CARD_TEXT: Final = "sensitive content"
CARD_COLOUR, CARD_TEXT_COLOUR = "#303030", "#f0f0f0"
#: Of the card's width that its words take.
CARD_TEXT_SHARE: Final = 0.8
_PROBE_FONT_PX: Final = 100

#: Older files nest the vision tower once more, and hold the positions' numbers, which are no weights.
_NESTED, _FLAT = "vision_model.vision_model.", "vision_model."
_NO_WEIGHT: Final = "position_ids"

# It says of each hit that a black picture is returned, which is not so here.
logging.getLogger("diffusers.pipelines.stable_diffusion.safety_checker").setLevel(logging.ERROR)


@dataclass(frozen=True, slots=True)
class Screened:
    """A picture as it may be shown, and whether it was flagged before."""

    image: Image.Image
    flagged: bool = False


class Checker:
    """A model's safety checker."""

    def __init__(self, network: StableDiffusionSafetyChecker, processor: CLIPImageProcessorPil) -> None:
        self._network = network
        self._processor = processor

    @classmethod
    def load(cls, folder: Path, *, device: Device) -> Self:
        """Read a checker's folder, safetensors only; the picture processor's lies beside it, where there is one.

        Raises `OSError` where a file is missing, and `RuntimeError` where a weight is missing or has no place: a
        checker with random weights would let everything pass.
        """
        config = CLIPConfig.from_pretrained(folder)
        network = StableDiffusionSafetyChecker(config)
        network.load_state_dict(_weights(folder))
        network.to(device.torch_name, device.dtype).eval().requires_grad_(requires_grad=False)
        return cls(network, _processor(folder.with_name("feature_extractor"), side=config.vision_config.image_size))

    def flags(self, image: Image.Image) -> bool:
        """Whether the picture shows what it must not."""
        weight = self._network.visual_projection.weight
        pixels = self._processor(image, return_tensors="pt").pixel_values.to(weight.device, weight.dtype)
        try:
            with torch.inference_mode():
                # It blackens the pictures that it is given beside their embeddings' source; ours is none.
                _, (flagged,) = self._network(pixels, [np.zeros(1)])
        except torch.AcceleratorError as error:
            raise DeviceBroken from error
        except torch.OutOfMemoryError as error:
            raise OutOfMemory from error
        return bool(flagged)


def screened(model: Model, spec: JobSpec, image: Image.Image) -> Screened:
    """Return what may be shown of a picture: itself, or what the spec makes of one that is flagged.

    Raises `OutOfMemory`, and `DeviceBroken`: a picture that cannot be checked is not shown.
    """
    if spec.safety == OFF or model.checker is None or not model.checker.flags(image):
        return Screened(image)
    return Screened(replaced(image, spec.safety), flagged=True)


def checked(model: Model, spec: JobSpec) -> str:
    """Return how pictures are checked, as a record says it: the spec's own word, or that the model has no checker."""
    return UNCHECKED if spec.safety != OFF and model.checker is None else spec.safety


def replaced(image: Image.Image, kind: str) -> Image.Image:
    """Return what is shown in place of a flagged picture, of the same size; `kind` is one of `JobSpec.safety`'s."""
    return _REPLACEMENTS[kind](image)


def _blank(image: Image.Image) -> Image.Image:
    return Image.new("RGB", image.size, "white")


def _black(image: Image.Image) -> Image.Image:
    return Image.new("RGB", image.size, "black")


def _blur(image: Image.Image) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(BLUR_SHARE * max(image.size)))


def _pixelate(image: Image.Image) -> Image.Image:
    block = -(-max(image.size) // BLOCKS)
    coarse = tuple(-(-side // block) for side in image.size)
    return image.resize((coarse[0], coarse[1]), Image.Resampling.BOX).resize(image.size, Image.Resampling.NEAREST)


def _card(image: Image.Image) -> Image.Image:
    card = Image.new("RGB", image.size, CARD_COLOUR)
    probe = ImageFont.load_default(_PROBE_FONT_PX).getlength(CARD_TEXT)
    font = ImageFont.load_default(_PROBE_FONT_PX * CARD_TEXT_SHARE * image.width / probe)
    middle = (image.width / 2, image.height / 2)
    ImageDraw.Draw(card).text(middle, CARD_TEXT, fill=CARD_TEXT_COLOUR, font=font, anchor="mm")
    return card


_REPLACEMENTS: Final[Mapping[str, Callable[[Image.Image], Image.Image]]] = {
    "blank": _blank,
    "blur": _blur,
    "pixelate": _pixelate,
    "black": _black,
    "sensitive_content_text": _card,
}


def _weights(folder: Path) -> dict[str, Any]:
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise FileNotFoundError(f"{folder} holds no .safetensors file")
    found = {name: tensor for file in files for name, tensor in load_file(file).items()}
    return {name.replace(_NESTED, _FLAT, 1): tensor for name, tensor in found.items() if _NO_WEIGHT not in name}


def _processor(folder: Path, *, side: int) -> CLIPImageProcessorPil:
    if folder.is_dir():
        found: CLIPImageProcessorPil = CLIPImageProcessorPil.from_pretrained(folder)
        return found
    return CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
