"""Textual inversions (Gal et al., arXiv 2208.01618): vectors that stand in a prompt where words' embeddings would."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from worker.assets import AssetIncompatible


@dataclass(frozen=True, eq=False, slots=True)
class Inversion:
    """A textual inversion as loaded: vectors of shape (count, width)."""

    digest: str
    vectors: Any

    @property
    def size(self) -> int:
        """Bytes of its vectors."""
        return int(self.vectors.nbytes)


def read_inversion(file: Path, pipeline: Any, *, name: str, digest: str, device: Any) -> Inversion:
    """Read a textual inversion: a file of one tensor, whatever its name, of one vector or several.

    Raises `AssetIncompatible` where there are more tensors, or vectors of another width than the text encoder's.
    """
    tensors = load_file(file)
    width = pipeline.text_encoder.get_input_embeddings().embedding_dim
    if len(tensors) != 1:
        raise AssetIncompatible(f"the textual inversion {name!r} has {len(tensors)} tensors, not one")
    (vectors,) = tensors.values()
    vectors = vectors[None] if vectors.ndim == 1 else vectors
    if vectors.ndim != 2 or vectors.shape[1] != width or not len(vectors):  # noqa: PLR2004 - a matrix
        shape = tuple(vectors.shape)
        raise AssetIncompatible(
            f"the textual inversion {name!r} is of shape {shape}; the model takes vectors of {width}"
        )
    return Inversion(digest, vectors.to(device.torch_name, device.dtype))
