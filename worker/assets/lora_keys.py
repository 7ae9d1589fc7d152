"""The names of tensors in LoRA files -> networks, layers, and what each tensor is there.

Three families of names are about: kohya's scripts' (`lora_unet_down_blocks_0_…_to_q.lora_down.weight`, dots written as
underscores), PEFT's in diffusers (`unet.down_blocks.0.….to_q.lora_A.weight`) and diffusers' own before it
(`….to_q.lora.down.weight`, `….processor.to_q_lora.down.weight`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

#: What kohya's and diffusers' names begin with, for the networks that a LoRA may change.
_KOHYA: Final = re.compile(
    r"lora_(?P<network>unet|te)_(?P<layer>.+)\.(?P<part>lora_down|lora_up|lora_mid|alpha)(\.weight)?"
)
_DOTTED: Final = re.compile(
    r"((?P<network>unet|text_encoder)\.)?(?P<layer>.+?)"
    r"(\.lora_(?P<peft>[AB])(\.default(_\d+)?)?\.weight"
    r"|(\.lora|\.lora_linear_layer|_lora)\.(?P<old>down|up)\.weight"
    r"|(\.lora|\.lora_linear_layer|_lora)?\.(?P<alpha>alpha))"
)
_PARTS: Final = {"lora_down": "down", "lora_up": "up", "lora_mid": "mid", "alpha": "alpha", "A": "down", "B": "up"}
#: Layers of the text encoder by the names that diffusers once gave them.
_OLD_LAYERS: Final = {"to_q": "q_proj", "to_k": "k_proj", "to_v": "v_proj", "to_out": "out_proj"}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tensor belongs."""

    #: "unet" or "text_encoder"
    network: str
    #: The layer, as the network's `named_modules` has it.
    layer: str
    #: "down", "up", "mid" or "alpha"
    part: str


class Layers:
    """The names of two networks' layers, found by how files write them."""

    def __init__(self, names: Mapping[str, Iterable[str]]) -> None:
        """`names` are network -> its layers' names."""
        self._dotted = {network: {_plain(name): name for name in found} for network, found in names.items()}
        self._flat = {
            network: {plain.replace(".", "_"): name for plain, name in found.items()}
            for network, found in self._dotted.items()
        }

    def place(self, key: str) -> Place | None:
        """Return where a tensor of that name belongs, None where there is no such layer."""
        if match := _KOHYA.fullmatch(key):
            network = "unet" if match["network"] == "unet" else "text_encoder"
            return self._found(network, self._flat, match["layer"].removeprefix("text_model_"), match["part"])
        if match := _DOTTED.fullmatch(key):
            network = match["network"] or "unet"
            part = _PARTS.get(match["peft"] or match["alpha"] or "", match["old"] or "")
            return self._found(network, self._dotted, _modern(network, _plain(match["layer"])), part)
        return None

    def _found(self, network: str, names: Mapping[str, Mapping[str, str]], layer: str, part: str) -> Place | None:
        name = names[network].get(layer)
        return None if name is None else Place(network, name, _PARTS.get(part, part))


def _plain(name: str) -> str:
    """Return a layer's name without the level that some versions of the text encoder have around all of it."""
    return name.removeprefix("text_model.")


def _modern(network: str, layer: str) -> str:
    """Return a layer's name of today for one that diffusers gave it when it kept LoRAs in attention processors."""
    layer = layer.replace(".processor.", ".")
    stem, _, last = layer.rpartition(".")
    if network == "text_encoder":
        return f"{stem}.{_OLD_LAYERS.get(last, last)}"
    return f"{layer}.0" if last == "to_out" else layer
