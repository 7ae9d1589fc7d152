"""What files of weights say of themselves, without being read whole."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

#: Of each weight file this many spots of 4 KiB enter the model's hash, beside its header and size.
HASHED_SPOTS: Final = 16
#: The folders of a checkpoint that are loaded, beside its tokenizer and scheduler.
NETWORKS: Final = ("unet", "vae", "text_encoder")


def weights_hash(place: Path) -> str:
    """Return 16 hex digits that tell weights apart without reading them whole.

    Every .safetensors file enters with its path, size, header and some spots of its data: fine-tunes of one model
    agree in all but the data.
    """
    digest = hashlib.sha256()
    files = [place] if place.is_file() else sorted(place.rglob("*.safetensors"))
    for file in files:
        name = file.name if file == place else file.relative_to(place).as_posix()
        digest.update(json.dumps([name, file.stat().st_size]).encode())
        for piece in _pieces(file):
            digest.update(piece)
    return digest.hexdigest()[:16]


def weight_files(place: Path, network: str, *, variant: str = "") -> list[Path]:
    """Return the files of one network in a folder: of the variant, where there is one, else the plain ones."""
    files = sorted((place / network).glob("*.safetensors"))
    marked = [file for file in files if f".{variant}." in file.name] if variant else []
    return marked or [file for file in files if file.name.count(".") == 1]


def tensors_of(file: Path) -> dict[str, Any]:
    """Return what a file's header says of its tensors, by name."""
    with file.open("rb") as stream:
        # The format: eight bytes of length, then so much JSON, then the data.
        length = int.from_bytes(stream.read(8), "little")
        header: dict[str, Any] = json.loads(stream.read(min(length, file.stat().st_size)))
    return {name: told for name, told in header.items() if name != "__metadata__"}


def count_numbers(files: Iterable[Path]) -> int:
    """Return how many numbers files hold: times the bytes of one, the memory that they will take."""
    return sum(math.prod(told["shape"]) for file in files for told in tensors_of(file).values())


def _pieces(file: Path) -> Iterator[bytes]:
    size = file.stat().st_size
    with file.open("rb") as stream:
        header = int.from_bytes(stream.read(8), "little")
        yield stream.read(min(header, size))
        for spot in range(HASHED_SPOTS):
            stream.seek(8 + header + (size - header) * spot // HASHED_SPOTS)
            yield stream.read(4096)
