"""ControlNets by their catalog names: loaded when first asked for, checked against the model, the last ones kept."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import structlog
import torch
from diffusers import ControlNetModel
from safetensors.torch import load_file

from shared.catalog import Kind
from shared.controlnets import hint_of
from worker import measures
from worker.assets import AssetIncompatible, AssetLoadFailed
from worker.assets.source import asset_place
from worker.loading.weights import weights_hash

if TYPE_CHECKING:
    from pathlib import Path

    from shared.catalog import Asset, Catalog
    from shared.spec import JobSpec
    from worker.assets.kept import Kept
    from worker.device import Device

#: What of a network's configuration decides whether another's layers can be added to its own.
_SHAPE: Final = ("block_out_channels", "layers_per_block", "cross_attention_dim", "down_block_types")

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A ControlNet on the device, and what tells its weights from another's."""

    network: Any
    digest: str


class ControlNets:
    """A worker's ControlNets, on its device. Not for several threads at once."""

    def __init__(self, catalog: Catalog, device: Device, *, kept: Kept[Any]) -> None:
        """`kept` holds other assets too: all of them have one bound of memory."""
        self._catalog = catalog
        self._device = device
        self._kept = kept

    def hint_kind(self, name: str) -> str:
        """Return what kind of hint the ControlNet of that name looks at; `AssetLoadFailed` where there is none."""
        return hint_of(self._asset(name))

    def fetch(self, spec: JobSpec, unet: Any) -> tuple[dict[str, str], float]:
        """Load the spec's ControlNets that have an effect; raises what `get` raises.

        Returns what the record tells of their weights, and the seconds it took.
        """
        started = time.perf_counter()
        told = {f"controlnet {net.name}": self._get(net.name, unet).digest for net in spec.controlnets_used}
        return told, time.perf_counter() - started if told else 0.0

    def get(self, name: str, unet: Any) -> Any:
        """Return the ControlNet of that name, in the precision of the network that it is to steer.

        Raises `AssetLoadFailed`, and `AssetIncompatible` where it is made for another kind of network.
        """
        return self._get(name, unet).network

    def _get(self, name: str, unet: Any) -> Loaded:
        key = (Kind.CONTROLNET, name)
        with torch.inference_mode(mode=False):  # what is made in it can be changed nowhere else
            loaded: Loaded | None = self._kept.get(key)
            measures.looked_up(str(Kind.CONTROLNET), found=loaded is not None)
            if loaded is None:
                loaded = self._load(self._asset(name), unet)
                size = sum(weight.nbytes for weight in loaded.network.state_dict().values())
                self._kept.put(key, loaded, size=size)
            if any(loaded.network.config[key] != unet.config[key] for key in _SHAPE):
                raise AssetIncompatible(f"the ControlNet {name!r} does not fit the model")
            if loaded.network.dtype != unet.dtype:
                # diffusers' own `to` warns of layers to be kept in float32 even where there are none.
                torch.nn.Module.to(loaded.network, unet.dtype)
            return loaded

    def _asset(self, name: str) -> Asset:
        try:
            return self._catalog.asset(Kind.CONTROLNET, name)
        except KeyError:
            raise AssetLoadFailed(f"the ControlNet {name!r} is not in this worker's catalog") from None

    def _load(self, entry: Asset, unet: Any) -> Loaded:
        try:
            place = asset_place(entry)
            net = _from_file(place, unet) if place.is_file() else _from_folder(place, entry)
            net.to(self._device.torch_name)
            digest = weights_hash(place)
        except Exception as error:
            # Whatever a foreign file makes the libraries raise, it is this ControlNet that cannot be had.
            log.exception("controlnet.load_failed", controlnet=entry.name, source=entry.source)
            raise AssetLoadFailed(f"the ControlNet {entry.name!r} could not be loaded") from error
        log.info("controlnet.loaded", controlnet=entry.name)
        return Loaded(net.eval().requires_grad_(requires_grad=False).to(memory_format=torch.channels_last), digest)


def _from_folder(folder: Path, entry: Asset) -> Any:
    """Return the network in a folder of diffusers' format; `ValueError` where its weights are not all of its own."""
    net, told = ControlNetModel.from_pretrained(
        str(folder), variant=entry.variant or None, use_safetensors=True, output_loading_info=True
    )
    amiss = {what: found for what, found in told.items() if found}
    if amiss:
        raise ValueError(f"the weights are not the network's: {amiss}")
    return net


def _from_file(file: Path, unet: Any) -> Any:
    """Return the network in one file of diffusers' layout, shaped after the UNet.

    Safetensors' own error for another kind of file, `RuntimeError` where a tensor of the file, or of the network, would
    be left over.
    """
    net = ControlNetModel.from_unet(unet, load_weights_from_unet=False)
    net.load_state_dict(load_file(file))
    return net
