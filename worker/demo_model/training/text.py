"""Stage 3: the text tower learns to say all of the caption at every padding token.

Contrastive training alone would leave a shortcut: colours and sizes tell nearly all pictures of a batch apart, so the
tower would forget where things are and what shape they have. The UNet listens mostly to the padding tokens, since most
of the 77 are padding. Here each of them learns two things: which words the caption had (read off linearly), and how the
picture roughly looks, as the mean colours of its blocks (read off by a small network, which is what binds colours to
places).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPTextModel, CLIPTokenizer

from worker.demo_model.architecture import TEXT_WIDTH, build_clip
from worker.demo_model.tokenizer import MAX_TOKENS, build_tokenizer, vocabulary_size
from worker.demo_model.training.latents import latent_scale, load_cached
from worker.demo_model.training.loop import (
    Chance,
    Part,
    Plan,
    default_device,
    half_precision,
    in_parts,
    load_average,
    train,
)

_BATCH = 48
#: Side of the thumbnails in blocks: those of the 128 px pictures.
_SIDE = 16
_COLOURS = 3
#: Of the thumbnail's differences from its own mean: what is where, as against the background's colour.
_LAYOUT_WEIGHT = 4.0
_WORDS_WEIGHT = 20.0
#: Captions are padded to one of these lengths: all positions learn, and most steps are short.
_LENGTHS = (32, 32, 48, MAX_TOKENS)
_CHECKPOINT = "text"


@dataclass(frozen=True, kw_only=True)
class Material:
    """Captions as tokens, (n, 77), and thumbnails, (n, 3, 16, 16)."""

    tokens: Tensor
    thumbnails: Tensor


class Reader(nn.Module):
    """The text tower with the two heads that are thrown away afterwards."""

    def __init__(self, tower: CLIPTextModel) -> None:
        super().__init__()
        self.tower = tower
        self.words = nn.Linear(TEXT_WIDTH, vocabulary_size())
        self.picture = nn.Sequential(
            nn.Linear(TEXT_WIDTH, 512), nn.GELU(), nn.Linear(512, 512), nn.GELU(),
            nn.Linear(512, _COLOURS * _SIDE * _SIDE),
        )  # fmt: skip

    def forward(self, tokens: Tensor, where: Tensor) -> tuple[Tensor, Tensor]:
        """Read tokens (n, length) at one position each, (n,): word scores and thumbnails (n, 3, 16, 16)."""
        hidden = self.tower(tokens).last_hidden_state[torch.arange(len(tokens)), where]
        return self.words(hidden), self.picture(hidden).unflatten(-1, (_COLOURS, _SIDE, _SIDE))


def train_text(*, work_dir: Path, steps: int, seed: int = 0, learning_rate: float = 7e-4) -> None:
    """Train the text tower; the checkpoint is `text.pt`."""
    torch.manual_seed(seed)
    device = default_device()
    reader = Reader(build_clip().text_model).to(device).train()
    material = _material(work_dir, build_tokenizer(work_dir / "tokenizer"))
    end = vocabulary_size() - 1

    def loss_of(tokens: Tensor, where: Tensor, words: Tensor, thumbnails: Tensor) -> Tensor:
        with half_precision(device):
            scores, pictures = reader(tokens, where)
        error = pictures.float() - thumbnails
        mean = error.mean(dim=(2, 3), keepdim=True)
        picture_loss = mean.square().mean() + _LAYOUT_WEIGHT * (error - mean).square().mean()
        return picture_loss + _WORDS_WEIGHT * functional.binary_cross_entropy_with_logits(scores.float(), words)

    def parts_of(_: int, chance: Chance) -> list[Part]:
        rows = torch.randint(len(material.tokens), (_BATCH,), generator=chance.torch)
        tokens = material.tokens[rows][:, : chance.python.choice(_LENGTHS)]
        words = torch.zeros(_BATCH, vocabulary_size()).scatter_(1, tokens, 1.0)
        first = (tokens == end).int().argmax(dim=1)
        where = first + (torch.rand(_BATCH, generator=chance.torch) * (tokens.shape[1] - first)).long()
        batch = (tokens, where, words, material.thumbnails[rows].float())
        return in_parts(loss_of, *(tensor.to(device) for tensor in batch))

    plan = Plan(name=_CHECKPOINT, steps=steps, learning_rate=learning_rate, seed=seed, ema_decay=0.98)
    train(reader, parts_of, plan=plan, work_dir=work_dir)


def load_text_tower(work_dir: Path) -> tuple[CLIPTextModel, CLIPTokenizer]:
    """Read the trained tower, in float32, and build its tokenizer."""
    reader = Reader(build_clip().text_model)
    load_average(reader, work_dir / f"{_CHECKPOINT}.pt")
    return reader.tower.eval(), build_tokenizer(work_dir / "tokenizer")


def _material(work_dir: Path, tokenizer: CLIPTokenizer) -> Material:
    cached = load_cached(work_dir)
    (squares,) = (part for part in cached if part.bucket.width == part.bucket.height == _SIDE * 8)
    tokens = tokenizer(
        squares.captions, padding="max_length", max_length=MAX_TOKENS, truncation=True, return_tensors="pt"
    )
    return Material(tokens=tokens.input_ids, thumbnails=squares.latents[:, :_COLOURS] * latent_scale(work_dir))
