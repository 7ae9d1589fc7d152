"""Prompts to embeddings: as diffusers does it up to 77 tokens, and in chunks beyond, where diffusers cuts off.

A prompt's content tokens are cut into chunks of 75; each chunk is framed by the begin and end tokens, padded and
encoded by itself, and the encodings are joined along the token axis. The shorter of prompt and negative prompt gets
empty chunks, since guidance subtracts one from the other.

Weights (`shared.weighting`) scale the vectors of their tokens; then the whole chunk is scaled so that the mean of its
magnitudes is what it was. The mean itself, which A1111 restores, is no measure: a layer norm puts it near 0, and
negative weights change its sign.

`clip_skip` takes the state that many layers before the last, through the final layer norm, for prompt and negative
prompt alike.

A textual inversion's trigger is a word of the prompt, in whatever case, that its vectors stand for; all of them stay in
one chunk. Neither tokenizer nor text encoder learns it: triggers are cut out before anything reads the prompt, and get
ids beyond the vocabulary, which only a call's own table of embeddings knows.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from shared import weighting as weights
from shared.errors import InvalidField, PromptTooLong

#: Tokens of a chunk beside its content: begin and end.
FRAME_TOKENS = 2

#: Characters that stand for triggers while a prompt is read: of Unicode's area for private use, which no text has.
FIRST_STAND_IN = 0xE000
LAST_STAND_IN = 0xF8FF

#: A token's id and its weight.
Token = tuple[int, float]
#: A trigger and its vectors, of shape (count, width).
Inverted = tuple[str, Any]


@dataclass(frozen=True, slots=True)
class Embeddings:
    """A prompt and its negative, each of shape (1, chunks * 77, width)."""

    positive: Any
    negative: Any

    @property
    def tokens(self) -> int:
        """Length of the token axis; only equal lengths may share a call."""
        return int(self.positive.shape[1])


class Encoder:
    """Encodes prompts with one model's tokenizer and text encoder, as they are at the time of the call."""

    def __init__(self, tokenizer: Any, text_encoder: Any, *, inversions: Sequence[Inverted] = ()) -> None:
        self._tokenizer = tokenizer
        self._text_encoder = text_encoder
        self._inversions = Inversions(inversions, first=text_encoder.get_input_embeddings().num_embeddings)
        # A tokenizer saved without its length claims to take any.
        self._window = min(int(tokenizer.model_max_length), int(text_encoder.config.max_position_embeddings))

    def encode(self, prompt: str, negative_prompt: str, *, weighting: str = "none", clip_skip: int = 0) -> Embeddings:
        """Return both prompts' embeddings, equally long.

        Raises `InvalidField` naming clip_skip where the text encoder has too few layers.
        """
        self._check_clip_skip(clip_skip)
        chunks, negative_chunks = (self.chunks(text, weighting) for text in (prompt, negative_prompt))
        count = max(len(chunks), len(negative_chunks))
        with self._inversions.known_to(self._text_encoder):
            return Embeddings(self._embed(chunks, count, clip_skip), self._embed(negative_chunks, count, clip_skip))

    def check(self, prompt: str, *, weighting: str = "none", clip_skip: int = 0, most: int | None = None) -> None:
        """Raise `PromptTooLong` for more than `most` content tokens, `InvalidField` for more layers than there are."""
        self._check_clip_skip(clip_skip)
        count = self.count_tokens(prompt, weighting)
        if most is not None and count > most:
            raise PromptTooLong("prompt", f"must have at most {most} tokens; this has {count}")

    def count_tokens(self, text: str, weighting: str = "none") -> int:
        """Return how many content tokens the text has; 75 fill a chunk. Syntax does not count."""
        return sum(len(unit) for unit in self._units(text, weighting))

    def chunks(self, text: str, weighting: str = "none") -> list[list[Token]]:
        """Return the text's content tokens in pieces of 75; at least one piece, which may be empty."""
        return _packed(self._units(text, weighting), self._window - FRAME_TOKENS)

    def _check_clip_skip(self, clip_skip: int) -> None:
        layers = self._text_encoder.config.num_hidden_layers
        if not 0 <= clip_skip < layers:
            depth = f"this model's text encoder has {layers} layers"
            raise InvalidField("clip_skip", f"must lie between 0 and {layers - 1}, not {clip_skip}: {depth}")

    def _units(self, text: str, weighting: str) -> list[list[Token]]:
        """Return the tokens that belong together: one each, or all the vectors of a textual inversion."""
        marked, ids = self._inversions.marked(text)
        return [
            [(token, fragment.weight) for token in unit]
            for fragment in weights.parse(marked, weighting)
            for unit in self._units_of(fragment.text, ids)
        ]

    def _units_of(self, text: str, inverted: dict[str, tuple[int, ...]]) -> Iterator[tuple[int, ...]]:
        """Yield the ids of a text without syntax; those that stand for one trigger together."""
        for part in re.split(f"([{''.join(inverted)}])", text) if inverted else [text]:
            if part in inverted:
                yield inverted[part]
            else:
                yield from ((token,) for token in self._ids(part))

    def _ids(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False, truncation=False, verbose=False).input_ids)

    def _embed(self, chunks: list[list[Token]], count: int, clip_skip: int) -> Any:
        padded = chunks + [[]] * (count - len(chunks))
        # One at a time: an encoding must not depend on what else is encoded with it.
        return torch.cat([self._embed_one(chunk, clip_skip) for chunk in padded], dim=1)

    def _embed_one(self, chunk: list[Token], clip_skip: int) -> Any:
        tokenizer, encoder = self._tokenizer, self._text_encoder
        framed = [(tokenizer.bos_token_id, 1.0), *chunk, (tokenizer.eos_token_id, 1.0)]
        framed += [(tokenizer.pad_token_id, 1.0)] * (self._window - len(framed))
        ids = torch.tensor([[token for token, _ in framed]], device=encoder.device)
        output = encoder(ids, output_hidden_states=clip_skip > 0)
        encoding = encoder.final_layer_norm(output.hidden_states[-1 - clip_skip]) if clip_skip else output[0]
        return _weighted(encoding, [weight for _, weight in framed])


class Inversions:
    """Triggers in prompts, and the ids and vectors that they stand for."""

    def __init__(self, inversions: Sequence[Inverted], *, first: int) -> None:
        """`first` is the first id beyond the vocabulary."""
        self._first = first
        self._vectors = [vectors for _, vectors in inversions]
        self._ids: dict[str, tuple[int, ...]] = {}
        for trigger, vectors in inversions:
            self._ids[trigger.casefold()] = tuple(range(first, first + len(vectors)))
            first += len(vectors)
        # The longest first: <cat-2> is not <cat with something behind it.
        words = sorted(self._ids, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(_word, words)), re.IGNORECASE) if words else None

    def marked(self, text: str) -> tuple[str, dict[str, tuple[int, ...]]]:
        """Return the text with a character for each trigger, and what each character stands for."""
        if self._pattern is None:
            return text, {}
        free = (chr(code) for code in range(FIRST_STAND_IN, LAST_STAND_IN + 1) if chr(code) not in text)
        stand_ins = dict(zip(self._ids, free, strict=False))
        marked = self._pattern.sub(lambda match: stand_ins.get(match[0].casefold(), match[0]), text)
        return marked, {stand_in: self._ids[word] for word, stand_in in stand_ins.items()}

    @contextmanager
    def known_to(self, text_encoder: Any) -> Iterator[None]:
        """Let a text encoder know the ids while the block runs."""
        if self._pattern is None:
            yield
            return
        own = text_encoder.get_input_embeddings()
        text_encoder.set_input_embeddings(_Extended(own, torch.cat(self._vectors), first=self._first))
        try:
            yield
        finally:
            text_encoder.set_input_embeddings(own)


class _Extended(nn.Module):
    """A table of embeddings, and more of them beyond its end."""

    def __init__(self, own: Any, more: Any, *, first: int) -> None:
        super().__init__()
        self._own, self._more, self._first = own, more, first

    def forward(self, ids: Any) -> Any:
        """Return the embeddings (…, width) of ids."""
        known = self._own(ids.clamp(max=self._first - 1))
        more = self._more.to(known.device, known.dtype)[(ids - self._first).clamp(min=0)]
        return torch.where((ids >= self._first)[..., None], more, known)


def _word(trigger: str) -> str:
    """Return the pattern of a trigger; one that begins or ends like a word is not found inside of another word."""
    before = r"(?<!\w)" if re.match(r"\w", trigger) else ""
    after = r"(?!\w)" if re.search(r"\w\Z", trigger) else ""
    return before + re.escape(trigger) + after


def _packed(units: Iterable[list[Token]], size: int) -> list[list[Token]]:
    chunks: list[list[Token]] = [[]]
    for unit in units:
        for start in range(0, len(unit), size):
            piece = unit[start : start + size]
            if len(chunks[-1]) + len(piece) > size:
                chunks.append([])
            chunks[-1] += piece
    return chunks


def _weighted(encoding: Any, factors: list[float]) -> Any:
    """Scale the vectors (1, tokens, width) by one factor each, keeping the mean of their magnitudes."""
    if all(factor == 1 for factor in factors):
        return encoding
    # In single precision: weights of hundreds are beyond the range of half.
    plain = encoding.float()
    scaled = plain * torch.tensor(factors, device=plain.device)[None, :, None]
    return (scaled * (plain.abs().mean() / scaled.abs().mean())).to(encoding.dtype)
