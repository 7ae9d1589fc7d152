"""The head of a .safetensors file: whether it is whole, and what its tensors are those of. No torch is needed."""

import json
import struct
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final

from shared.catalog.entries import Kind
from shared.catalog.reading import SAFETENSORS

#: Longer headers than the format's own bound are none.
_LONGEST_HEADER: Final = 100_000_000
_LORA_WORDS: Final = (".lora_A.", ".lora_B.", ".lora_down.", ".lora_up.", ".lora.down.", ".lora.up.", ".hada_w1_")
_CONTROLNET_STARTS: Final = ("controlnet_", "control_model.")
_VAE_STARTS: Final = ("encoder.", "decoder.", "quant_conv.", "post_quant_conv.")
_CHECKPOINT_START: Final = "model.diffusion_model."
_INVERSION: Final = frozenset({"emb_params"})


def header_of(file: Path) -> Mapping[str, Any]:
    """Return name -> what is told of each tensor; ValueError, with the file's name, where it is not whole."""
    try:
        size = file.stat().st_size
        with file.open("rb") as source:
            (length,) = struct.unpack("<Q", source.read(8))
            if length > min(size - 8, _LONGEST_HEADER):
                raise ValueError(f"{file} is cut off, or no {SAFETENSORS} file")
            header = {name: told for name, told in json.loads(source.read(length)).items() if name != "__metadata__"}
        end = max((told["data_offsets"][1] for told in header.values()), default=0)
    except (OSError, struct.error, json.JSONDecodeError, KeyError, TypeError, AttributeError, IndexError) as failure:
        raise ValueError(f"{file} cannot be read: {failure}") from failure
    if size != 8 + length + end:
        raise ValueError(f"{file} is cut off")
    return header


def kind_of(names: Collection[str]) -> Kind | None:
    """Return what tensors of these names are those of, where that is beyond doubt."""
    if any(word in name for name in names for word in _LORA_WORDS):
        return Kind.LORA
    if any(name.startswith(_CONTROLNET_STARTS) for name in names):
        return Kind.CONTROLNET
    if any(name.startswith(_CHECKPOINT_START) for name in names):
        return Kind.MODEL
    if names and all(name.startswith(_VAE_STARTS) for name in names):
        return Kind.VAE
    return Kind.TEXTUAL_INVERSION if names and set(names) <= _INVERSION else None
