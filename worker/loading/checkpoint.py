"""A folder, some parts of one, or a single file -> diffusers' pipeline.

A folder that lacks parts gets them from its core; a single file in the original layout, which holds neither
configuration nor tokenizer, is read with its core's. Without a core diffusers looks for Stable Diffusion 1.5's, which
it may have to fetch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import diffusers
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from worker.assets.source import WITHOUT_CHECKER
from worker.device import Device
from worker.loading.accounting import check_files, check_single_file
from worker.loading.weights import NETWORKS, count_numbers, weight_files

#: A part's folder -> what reads it.
_READERS: Final[Mapping[str, Any]] = {
    "unet": UNet2DConditionModel,
    "vae": AutoencoderKL,
    "text_encoder": CLIPTextModel,
    "tokenizer": CLIPTokenizer,
}


def read_checkpoint(place: Path, device: Device, *, core: Path | str | None = None, variant: str = "") -> Any:
    """Return the pipeline of a checkpoint, on the device, in the device's precision.

    `core` is a folder or, for a single file, the Hugging Face id of one. ValueError where tensors are left over or
    missing; whatever the libraries raise for a checkpoint that they cannot read.
    """
    # Weights are mapped, not read: reading 1.6 GB at once holds the interpreter, and the heartbeat, for seconds.
    options = {"dtype": device.dtype, **WITHOUT_CHECKER}
    if place.is_file():
        config = {} if core is None else {"config": str(core)}
        pipeline = StableDiffusionPipeline.from_single_file(str(place), **config, **options)
        check_single_file({name: getattr(pipeline, name) for name in NETWORKS}, place)
    elif (place / "model_index.json").is_file() or core is None:
        pipeline = _from_folder(place, options, variant=variant)
    else:
        pipeline = _from_parts(place, Path(core), options, variant=variant)
    return _settled(pipeline, device)


def memory_needed(place: Path, device: Device, *, core: Path | str | None = None, variant: str = "") -> int:
    """Return about how many bytes a checkpoint will take on the device."""
    files = [place] if place.is_file() else [
        file
        for network in NETWORKS
        for file in weight_files(place, network, variant=variant) or _core_files(core, network)
    ]  # fmt: skip
    return int(count_numbers(files) * device.dtype.itemsize)


def memory_taken(pipeline: Any) -> int:
    """Return how many bytes a pipeline's networks take."""
    return sum(weight.nbytes for name in NETWORKS for weight in getattr(pipeline, name).state_dict().values())


def _core_files(core: Path | str | None, network: str) -> list[Path]:
    return weight_files(core, network) if isinstance(core, Path) else []


def _from_folder(place: Path, options: Mapping[str, Any], *, variant: str) -> Any:
    chosen = {"variant": variant} if variant else {}
    pipeline = StableDiffusionPipeline.from_pretrained(str(place), use_safetensors=True, **chosen, **options)
    for name in NETWORKS:
        check_files(getattr(pipeline, name), weight_files(place, name, variant=variant), name=name)
    return pipeline


def _from_parts(place: Path, core: Path, options: Mapping[str, Any], *, variant: str) -> Any:
    """Read the parts that a folder has, and the rest of the core."""
    parts: dict[str, Any] = {}
    for name, reader in _READERS.items():
        if not (place / name).is_dir():
            continue
        if name not in NETWORKS:
            parts[name] = reader.from_pretrained(str(place), subfolder=name)
            continue
        marked = any(f".{variant}." in file.name for file in weight_files(place, name, variant=variant))
        chosen = {"variant": variant} if variant and marked else {}
        parts[name] = reader.from_pretrained(
            str(place), subfolder=name, use_safetensors=True, dtype=options["dtype"], **chosen
        )
        check_files(parts[name], weight_files(place, name, variant=variant), name=name)
    if (config := place / "scheduler" / "scheduler_config.json").is_file():
        told = json.loads(config.read_text(encoding="utf-8"))
        parts["scheduler"] = getattr(diffusers, told["_class_name"]).from_config(told)
    if not parts:
        raise ValueError("the folder has none of a checkpoint's parts")
    return StableDiffusionPipeline.from_pretrained(str(core), use_safetensors=True, **{**options, **parts})


def _settled(pipeline: Any, device: Device) -> Any:
    pipeline = pipeline.to(device.torch_name)
    pipeline.set_progress_bar_config(disable=True)
    for network in (pipeline.unet, pipeline.vae):
        network.eval().requires_grad_(requires_grad=False).to(memory_format=torch.channels_last)
    pipeline.text_encoder.eval().requires_grad_(requires_grad=False)
    return pipeline
