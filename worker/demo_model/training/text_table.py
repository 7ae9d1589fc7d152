"""Captions encoded once and kept, so that the UNet's training does not run the text tower."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from worker.demo_model.architecture import TEXT_WIDTH
from worker.demo_model.tokenizer import MAX_TOKENS
from worker.demo_model.training.loop import half_precision
from worker.demo_model.training.progress import bar

_BATCH = 64


class TextTable:
    """The embeddings of each distinct caption, (captions, 77, 128) in half precision; row 0 is the empty caption's."""

    def __init__(self, captions: Iterable[str], *, encoder: tuple[CLIPTextModel, CLIPTokenizer], folder: Path) -> None:
        """Take from this tower's file in `folder` what is there, encode the rest and write it back."""
        path = folder / f"captions-{_digest(encoder[0])}.safetensors"
        known, table = _read(path)
        missing = [caption for caption in dict.fromkeys(["", *captions]) if caption not in set(known)]
        if missing:
            table = torch.cat([table, _encode_all(missing, encoder)])
            known += missing
            save_file({"table": table}, path, metadata={"captions": "\n".join(known)})
        self.table = table
        self._row = {caption: row for row, caption in enumerate(known)}

    def rows(self, captions: list[str]) -> list[int]:
        """Where the captions stand in the table."""
        return [self._row[caption] for caption in captions]


def encode(captions: list[str], encoder: tuple[CLIPTextModel, CLIPTokenizer]) -> Tensor:
    """Captions to (n, 77, 128), as the pipeline does it: padded, cut, no attention mask, last layer normalised."""
    text_model, tokenizer = encoder
    tokens = tokenizer(captions, padding="max_length", max_length=MAX_TOKENS, truncation=True, return_tensors="pt")
    with torch.no_grad():
        hidden: Tensor = text_model(tokens.input_ids).last_hidden_state
    return hidden


def _encode_all(captions: list[str], encoder: tuple[CLIPTextModel, CLIPTokenizer]) -> Tensor:
    parts = []
    for start in bar(range(0, len(captions), _BATCH), name="text"):
        with half_precision(torch.device("cpu")):
            parts.append(encode(captions[start : start + _BATCH], encoder).half())
    return torch.cat(parts)


def _digest(tower: CLIPTextModel) -> str:
    """Name the tower's weights: another tower's embeddings are of no use."""
    digest = hashlib.sha256()
    for tensor in tower.state_dict().values():
        digest.update(tensor.cpu().numpy().tobytes())
    return digest.hexdigest()[:12]


def _read(path: Path) -> tuple[list[str], Tensor]:
    if not path.is_file():
        return [], torch.empty(0, MAX_TOKENS, TEXT_WIDTH, dtype=torch.float16)
    with safe_open(path, framework="pt") as file:
        return file.metadata()["captions"].split("\n"), file.get_tensor("table")
