"""Where an entry of the catalog lies on this machine; a Hugging Face id is fetched, once.

Hugging Face's own variables hold here as everywhere: HF_HOME says where its files are kept, HF_TOKEN opens what is not
public, and with HF_HUB_OFFLINE=1 only what is there already is found.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from diffusers import DiffusionPipeline
from huggingface_hub import hf_hub_download, snapshot_download

if TYPE_CHECKING:
    from shared.catalog import Asset, Entry, Model

#: Other formats can hold code that runs when they are loaded.
SINGLE_FILE: Final = ".safetensors"
#: Parts of a pipeline that are read elsewhere or not at all.
WITHOUT_CHECKER: Final = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}


def model_place(entry: Model) -> Path:
    """Return the folder or the single file of a model; whatever the libraries raise where it cannot be had."""
    if (local := _local(entry)) is not None:
        return local
    if entry.file:
        return Path(hf_hub_download(entry.source, entry.file, revision=entry.revision or None))
    options: dict[str, Any] = {"use_safetensors": True, **WITHOUT_CHECKER}
    chosen = {name: value for name in ("variant", "revision") if (value := getattr(entry, name))}
    return Path(DiffusionPipeline.download(entry.source, **chosen, **options))


def asset_place(entry: Asset) -> Path:
    """Return the folder or the single file of anything else."""
    if (local := _local(entry)) is not None:
        return local
    revision = entry.revision or None
    if entry.file:
        return Path(hf_hub_download(entry.source, entry.file, revision=revision))
    return Path(snapshot_download(entry.source, revision=revision, allow_patterns=["*.json", "*.safetensors"]))


def is_remote(entry: Entry) -> bool:
    """Whether a source is a Hugging Face id, and all of its repository is meant."""
    return _local(entry) is None and not entry.file


def _local(entry: Entry) -> Path | None:
    path = Path(entry.source)
    if path.is_dir():
        return path / entry.file if entry.file else path
    return path if path.suffix == SINGLE_FILE or path.is_absolute() else None
