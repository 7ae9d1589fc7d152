"""How long a prompt is at least, in CLIP's tokens, without CLIP's vocabulary.

CLIP's tokenizer cuts a text into pieces before it looks anything up: a run of letters, a single digit, a run of other
signs, an English ending such as 's. A piece is one token or more, so their number is a bound from below that no model
and no vocabulary can change. The exact count is the model's own tokenizer's, which workers have and the API has not.
"""

import re
import unicodedata
from collections.abc import Iterable
from typing import Final

from shared.weighting import without_syntax

#: The pieces, as in CLIP's own pattern: https://github.com/openai/CLIP/blob/main/clip/simple_tokenizer.py. Python's
#: classes differ a little: a few numerals pass for letters here, which makes the count smaller, never larger.
_PIECES: Final = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d|[^\W\d_]+|\d|(?:[^\s\w]|_)+", re.IGNORECASE)
#: Words that are cut out before, one token each.
_WHOLE: Final = ("<|startoftext|>", "<|endoftext|>")


def least_tokens(prompt: str, *, triggers: Iterable[str] = ()) -> int:
    """Return how many content tokens a prompt in OctoAI's syntax has at least; syntax does not count.

    `triggers` are words that a textual inversion makes one token, whatever signs they have.
    """
    words = sorted({*_WHOLE, *(unicodedata.normalize("NFC", word) for word in triggers)}, key=len, reverse=True)
    text = unicodedata.normalize("NFC", without_syntax(prompt, "octoai"))
    text = re.sub("|".join(map(re.escape, words)), " 0 ", text, flags=re.IGNORECASE)
    return sum(1 for _ in _PIECES.finditer(text))
