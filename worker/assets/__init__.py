"""What models wear for a job: LoRAs, VAEs, textual inversions.

    source.py      an entry of the catalog -> a place on this machine
    lora_keys.py   a LoRA file's names -> layers
    loras.py       LoRA files, and the hooks that apply them
    vaes.py inversions.py
    wardrobe.py    assets by name, the latest kept; a job's outfit
    kept.py        least recently used, bounded by memory

Every tensor of a file is applied, or the load fails: half an asset is another asset. An outfit is put on for a batch
and taken off after it, by adding to layers' outputs or by exchanging a part, never by changing weights: nothing can be
left behind.
"""

from shared.errors import JobError


class AssetIncompatible(JobError):
    """An asset does not fit the model."""

    code = "asset_incompatible"


class AssetLoadFailed(JobError):
    """An asset could not be loaded."""

    code = "asset_load_failed"
