"""A byte-pair merge table in CLIP's format that gives each word of the world one token.

Other words still split into bytes, so that any prompt can be encoded.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from transformers import CLIPTokenizer

from worker.demo_model.vocabulary import words

#: Tokens of one prompt, the two special ones included; SD 1.5's figure.
MAX_TOKENS = 77

_START, _END = "<|startoftext|>", "<|endoftext|>"
_WORD_END = "</w>"

Merge = tuple[str, str]


def build_tokenizer(directory: Path) -> CLIPTokenizer:
    """Write CLIP's tokenizer files into `directory` and return the tokenizer they make."""
    directory.mkdir(parents=True, exist_ok=True)
    merges = merge_table(words())
    alphabet = list(_byte_alphabet().values())
    tokens = [*alphabet, *(char + _WORD_END for char in alphabet), *("".join(pair) for pair in merges), _START, _END]
    (directory / "vocab.json").write_text(json.dumps({token: index for index, token in enumerate(tokens)}))
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (directory / "merges.txt").write_text("\n".join(lines) + "\n")
    special = {"bos_token": _START, "eos_token": _END, "unk_token": _END, "pad_token": _END}
    (directory / "special_tokens_map.json").write_text(json.dumps(special, indent=2))
    config = {
        **special,
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": MAX_TOKENS,
        "do_lower_case": True,
        "add_prefix_space": False,
        "errors": "replace",
    }
    (directory / "tokenizer_config.json").write_text(json.dumps(config, indent=2))
    return CLIPTokenizer.from_pretrained(directory)


def vocabulary_size() -> int:
    """Count the tokens: both forms of the 256 bytes, one per merge, two special ones."""
    return 2 * 256 + len(merge_table(words())) + 2


def merge_table(vocabulary: Iterable[str]) -> list[Merge]:
    """Make the merges after which every word of `vocabulary` is a single token.

    A merge added later ranks below all earlier ones, so it cannot undo a word that is already whole: each word is first
    split by the merges so far, and what is left of it is then joined from the left.
    """
    merges: list[Merge] = []
    ranks: dict[Merge, int] = {}
    for word in vocabulary:
        pieces = _split(word, ranks=ranks)
        while len(pieces) > 1:
            pair = (pieces[0], pieces[1])
            ranks[pair] = len(merges)
            merges.append(pair)
            pieces = _split(word, ranks=ranks)
    return merges


def _split(word: str, *, ranks: dict[Merge, int]) -> list[str]:
    """Byte-pair encoding of one word: always the lowest-ranked pair first."""
    pieces = [*word[:-1], word[-1] + _WORD_END]
    while len(pieces) > 1:
        pairs = [(pieces[i], pieces[i + 1]) for i in range(len(pieces) - 1)]
        best = min(pairs, key=lambda pair: ranks.get(pair, len(ranks)))
        if best not in ranks:
            break
        joined: list[str] = []
        for piece in pieces:
            if joined and (joined[-1], piece) == best:
                joined[-1] += piece
            else:
                joined.append(piece)
        pieces = joined
    return pieces


def _byte_alphabet() -> dict[int, str]:
    """GPT-2's printable stand-in for each byte, which CLIP took over."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    table = {byte: chr(byte) for byte in printable}
    hidden = (byte for byte in range(256) if byte not in table)
    table.update({byte: chr(256 + offset) for offset, byte in enumerate(hidden)})
    return table
