"""The style presets: phrases added to a prompt and its negative; the phrases are data (`styles.toml`)."""

import re
import string
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from shared.errors import InvalidField


@dataclass(frozen=True, kw_only=True, slots=True)
class Style:
    """What a preset adds."""

    prompt: str
    negative_prompt: str


def _read(path: Path) -> dict[str, Style]:
    return {name: Style(**phrases) for name, phrases in tomllib.loads(path.read_text(encoding="utf-8")).items()}


#: preset -> what it adds
STYLES: Final = _read(Path(__file__).with_name("styles.toml"))


def apply(preset: str, prompt: str, negative_prompt: str) -> tuple[str, str]:
    """Return prompt and negative prompt with the preset's phrases at their ends; twice is the same as once.

    Raises `InvalidField` naming style_preset where there is no such preset.
    """
    style = STYLES.get(preset)
    if style is None:
        raise InvalidField("style_preset", f"must be one of {', '.join(STYLES)}, not {preset!r}")
    return with_phrase(prompt, style.prompt), with_phrase(negative_prompt, style.negative_prompt)


def with_phrase(text: str, phrase: str) -> str:
    """Return the text with the phrase after a comma at its end, or as it is where it has the phrase already."""
    if has_phrase(text, phrase):
        return text
    kept = text.rstrip(string.whitespace + ",")
    return f"{kept}, {phrase}" if kept else phrase


def has_phrase(text: str, phrase: str) -> bool:
    """Whether the text has the phrase as whole words, in whatever case and spacing."""
    words = r"\s+".join(re.escape(word) for word in phrase.split())
    return re.search(rf"(?<!\w){words}(?!\w)", text, re.IGNORECASE) is not None
