"""Stability's `text_prompts`: several texts with weights, of which the negative ones say what to avoid.

One JobSpec has one prompt and one negative prompt: the texts are joined by commas. Weights other than 1 are written in
A1111's syntax, with what would be syntax in the texts escaped; without such weights brackets are plain text. Beside
others an empty text says nothing: clients send a negative prompt whether or not there is one.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from shared.dialects.reading import Reader
from shared.errors import InvalidField, MissingField

FIELD: Final = "text_prompts"
MAX_CHARS: Final = 2_000
MAX_PROMPTS: Final = 100
MAX_WEIGHT: Final = 10
_ITEM: Final = re.compile(r"text_prompts\[(\d{1,2})\]\[(text|weight)\]")
_SYNTAX: Final = re.compile(r"[\\()\[\]]")


def with_list(form: Mapping[str, str]) -> dict[str, Any]:
    """Return a form's fields, those named `text_prompts[0][text]` as the list of objects that they spell."""
    prompts: dict[int, dict[str, str]] = {}
    fields: dict[str, Any] = {}
    for name, value in form.items():
        if item := _ITEM.fullmatch(name):
            prompts.setdefault(int(item[1]), {})[item[2]] = value
        else:
            fields[name] = value
    if prompts:  # of an empty text the form's reader has left nothing but the weight
        fields[FIELD] = [{"text": "", **prompts[index]} for index in sorted(prompts)]
    return fields


def parse_prompts(reader: Reader) -> dict[str, str]:
    """Return prompt, negative_prompt and how weights are written in them."""
    given = reader.raw(FIELD)
    if given is None:
        raise MissingField(FIELD, "is required")
    if not isinstance(given, list) or not 1 <= len(given) <= MAX_PROMPTS:
        raise InvalidField(FIELD, f"must be a list of 1 to {MAX_PROMPTS} objects")
    entries = {f"{FIELD}[{index}]": entry for index, entry in enumerate(given)}
    written = {name: entry for name, entry in entries.items() if not _is_empty(entry)}
    prompts = [_prompt(entry, name) for name, entry in (written or entries).items()]
    if not any(weight > 0 for _, weight in prompts):
        raise InvalidField(FIELD, "must have a text of positive weight")
    plain = all(abs(weight) in {0, 1} for _, weight in prompts)
    return {
        "prompt": _joined([(text, weight) for text, weight in prompts if weight > 0], plain=plain),
        "negative_prompt": _joined([(text, -weight) for text, weight in prompts if weight < 0], plain=plain),
        "prompt_weighting": "none" if plain else "a1111",
    }


def _is_empty(entry: Any) -> bool:
    text = entry.get("text") if isinstance(entry, dict) else None
    return isinstance(text, str) and not text.strip()


def _prompt(entry: Any, name: str) -> tuple[str, float]:
    if not isinstance(entry, dict):
        raise InvalidField(name, "must be an object")
    reader = Reader({f"{name}.{key}": entry.get(key) for key in ("text", "weight")}, lenient=True)
    text = reader.required_text(f"{name}.text", most=MAX_CHARS)
    return text, reader.number(f"{name}.weight", minimum=-MAX_WEIGHT, maximum=MAX_WEIGHT, default=1.0)


def _joined(prompts: list[tuple[str, float]], *, plain: bool) -> str:
    if plain:
        return ", ".join(text for text, _ in prompts)
    return ", ".join(_weighted(_SYNTAX.sub(r"\\\g<0>", text), weight) for text, weight in prompts)


def _weighted(text: str, weight: float) -> str:
    number = f"{weight:.4f}".rstrip("0").rstrip(".")
    return text if weight == 1 else f"({text}:{number})"
