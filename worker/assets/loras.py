"""LoRAs (Hu et al., arXiv 2106.09685): a low-rank change of a layer, `output + weight * scale * up(down(input))`.

Read from any of the formats that `lora_keys` knows. The scale is alpha / rank, and 1 where a file tells no alpha.
Convolutions may have a third part between the two, at a core of full kernel size (LoCon, arXiv 2309.14859, appendix).
Other decompositions (LoHa, LoKr, DoRA) are refused by name of their tensors.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from safetensors import safe_open
from torch import nn
from torch.nn import functional

from worker.assets import AssetIncompatible
from worker.assets.lora_keys import Layers, Place

#: Under this name diffusers keeps PEFT's configuration in a file's header.
ADAPTER_METADATA: Final = "lora_adapter_metadata"
NETWORKS: Final = ("unet", "text_encoder")
#: As many names of tensors are told in an error.
_TOLD: Final = 3
_KERNEL: Final = (1, 1)


@dataclass(frozen=True, slots=True)
class Change:
    """One layer's change: tensors on the device, of the layer's shapes."""

    down: Any
    up: Any
    mid: Any
    scale: float

    def to(self, device: Any) -> Change:
        """Return a copy on a device, in its precision."""
        down, up, mid = (
            None if part is None else part.to(device.torch_name, device.dtype)
            for part in (self.down, self.up, self.mid)
        )
        return Change(down, up, mid, self.scale)

    def apply(self, layer: nn.Module, given: Any, *, weight: float) -> Any:
        """Return what is added to the layer's output for what it was given."""
        down, up = self.down.to(given.dtype), self.up.to(given.dtype)
        if isinstance(layer, nn.Linear):
            return functional.linear(functional.linear(given, down), up) * (weight * self.scale)
        assert isinstance(layer, nn.Conv2d)  # noqa: S101 - the only other kind that `read` lets through
        options = {"stride": layer.stride, "padding": layer.padding, "dilation": layer.dilation}
        if self.mid is None:
            narrow = functional.conv2d(given, down, **options)
        else:
            narrow = functional.conv2d(functional.conv2d(given, down), self.mid.to(given.dtype), **options)
        return functional.conv2d(narrow, up) * (weight * self.scale)


@dataclass(frozen=True, eq=False, slots=True)
class Lora:
    """A LoRA as loaded for one model."""

    name: str
    digest: str
    #: (network, layer) -> its change
    changes: Mapping[tuple[str, str], Change]

    @property
    def size(self) -> int:
        """Bytes of its tensors."""
        tensors = [part for change in self.changes.values() for part in (change.down, change.up, change.mid)]
        return sum(tensor.nbytes for tensor in tensors if tensor is not None)

    @property
    def changes_text(self) -> bool:
        """Whether prompts mean something else with it."""
        return any(network == "text_encoder" for network, _ in self.changes)


def read_lora(file: Path, pipeline: Any, *, name: str, digest: str, device: Any) -> Lora:
    """Read a LoRA for a pipeline's networks onto a device.

    Raises `AssetIncompatible` where a tensor of the file belongs to no layer, lacks its counterpart, or is of another
    shape than the layer asks for.
    """
    with safe_open(file, framework="pt") as opened:
        metadata = opened.metadata() or {}
        tensors = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118 - no mapping
    modules = {network: dict(getattr(pipeline, network).named_modules()) for network in NETWORKS}
    layers = Layers(
        {network: [name for name, module in found.items() if _can_change(module)] for network, found in modules.items()}
    )
    parts = _sorted_out(tensors, layers, name=name)
    alphas = _Alphas(metadata, name=name)
    changes = {}
    for (network, layer), found in parts.items():
        change = _change(modules[network][layer], found, alpha=alphas.of(network, layer), place=f"{name}: {layer}")
        changes[network, layer] = change.to(device)
    return Lora(name, digest, changes)


@contextmanager
def applied(pipeline: Any, loras: Sequence[tuple[Lora, float]]) -> Iterator[None]:
    """Apply LoRAs, each with its weight, while the block runs. The networks' weights are not touched."""
    by_layer: dict[tuple[str, str], list[tuple[Change, float]]] = {}
    for lora, weight in loras:
        for place, change in lora.changes.items() if weight else ():
            by_layer.setdefault(place, []).append((change, weight))
    modules = {network: dict(getattr(pipeline, network).named_modules()) for network in NETWORKS} if by_layer else {}
    with ExitStack() as stack:
        for (network, layer), changes in by_layer.items():
            handle = modules[network][layer].register_forward_hook(_hook(changes))
            stack.callback(handle.remove)
        yield


def _hook(changes: Sequence[tuple[Change, float]]) -> Any:
    def add(layer: nn.Module, given: tuple[Any, ...], output: Any) -> Any:
        for change, weight in changes:
            output = output + change.apply(layer, given[0], weight=weight)
        return output

    return add


def _can_change(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.groups == 1)


def _sorted_out(tensors: Mapping[str, Any], layers: Layers, *, name: str) -> dict[tuple[str, str], dict[str, Any]]:
    """Return (network, layer) -> part -> tensor; every tensor has its place, every layer a way down and up."""
    places: dict[str, Place] = {key: place for key in tensors if (place := layers.place(key)) is not None}
    if strangers := sorted(tensors.keys() - places.keys()):
        raise AssetIncompatible(
            f"the LoRA {name!r} has tensors that belong to no layer of the model: {_some(strangers)}"
        )
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for key, place in places.items():
        parts = found.setdefault((place.network, place.layer), {})
        if place.part in parts:
            raise AssetIncompatible(f"the LoRA {name!r} changes {place.layer} twice")
        parts[place.part] = tensors[key]
    lacking = sorted(layer for (_, layer), parts in found.items() if not {"down", "up"} <= parts.keys())
    if lacking or not found:
        raise AssetIncompatible(f"the LoRA {name!r} is not complete: {_some(lacking) or 'it has no tensors'}")
    return found


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _TOLD} more" if len(names) > _TOLD else ""
    return ", ".join(names[:_TOLD]) + more


def _change(layer: Any, parts: Mapping[str, Any], *, alpha: float | None, place: str) -> Change:
    """Return a layer's change with tensors of the shapes that it needs; `AssetIncompatible` where that cannot be."""
    down, up, mid = parts["down"], parts["up"], parts.get("mid")
    rank = down.shape[0]
    if "alpha" in parts:
        alpha = float(parts["alpha"])
    scale = 1.0 if alpha is None else alpha / rank
    wanted: dict[str, tuple[int, ...]]
    if isinstance(layer, nn.Linear):
        wanted = {"down": (rank, layer.in_features), "up": (layer.out_features, rank)}
        down, up = (t.flatten(1) if t.ndim > 1 and t[0, 0].numel() == 1 else t for t in (down, up))  # fmt: skip
    else:
        kernel = tuple(layer.kernel_size)
        down, up = (t[..., None, None] if t.ndim == 2 else t for t in (down, up))  # noqa: PLR2004 - a matrix
        wanted = {
            "down": (rank, layer.in_channels, *(kernel if mid is None else _KERNEL)),
            "up": (layer.out_channels, rank, *_KERNEL),
        }
        if mid is not None:
            wanted["mid"] = (rank, rank, *kernel)
    given = {"down": tuple(down.shape), "up": tuple(up.shape)} | ({} if mid is None else {"mid": tuple(mid.shape)})
    if given != wanted or not math.isfinite(scale):
        raise AssetIncompatible(f"the LoRA {place} is of another shape: {given}, where the model has {wanted}")
    return Change(down, up, mid, scale)


class _Alphas:
    """What PEFT's configuration in a file's header says of alpha."""

    def __init__(self, metadata: Mapping[str, str], *, name: str) -> None:
        try:
            found = json.loads(metadata.get(ADAPTER_METADATA, "{}"))
        except ValueError as error:
            raise AssetIncompatible(f"the LoRA {name!r} has a header that cannot be read") from error
        self._told: dict[str, Any] = found if isinstance(found, dict) else {}
        odd = [
            key for key, value in self._told.items() if value and key.rpartition(".")[2] in {"use_dora", "use_rslora"}
        ]
        if odd:
            raise AssetIncompatible(f"the LoRA {name!r} is of a kind that is not known: {_some(odd)}")

    def of(self, network: str, layer: str) -> float | None:
        """Return a layer's alpha, None where the file's header tells none."""
        for pattern, alpha in (self._told.get(f"{network}.alpha_pattern") or {}).items():
            if layer.endswith(pattern.removeprefix("text_model.")):
                return float(alpha)
        alpha = self._told.get(f"{network}.lora_alpha")
        return None if alpha is None else float(alpha)
