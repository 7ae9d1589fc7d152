"""Prompt enhancement: a few phrases that make most pictures better, added to the prompt and to its negative.

No model guesses here: the same prompt always gets the same phrases. They come in pairs, a quality for the prompt and
its opposite for the negative prompt, and each is added at the end, after a comma, where it is not there yet. A caller
who asks for the opposite (`blurry` in the prompt, or `crisp` in the negative prompt) is left alone with that pair.
So enhancing twice is the same as enhancing once.

The phrases name no medium: they suit a drawing as well as a photograph. The embedded model knows every one of their
words, and draws what they say as higher contrast.
"""

from typing import Final

from shared.styles import has_phrase, with_phrase

#: (quality for the prompt, its opposite for the negative prompt)
PAIRS: Final = (
    ("crisp", "blurry"),
    ("high contrast", "low contrast"),
    ("fine detail", "dull"),
)


def enhance(prompt: str, negative_prompt: str) -> tuple[str, str]:
    """Return prompt and negative prompt, enhanced."""
    for quality, opposite in PAIRS:
        if has_phrase(prompt, opposite) or has_phrase(negative_prompt, quality):
            continue
        prompt = with_phrase(prompt, quality)
        negative_prompt = with_phrase(negative_prompt, opposite)
    return prompt, negative_prompt
