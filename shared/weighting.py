r"""Prompt weighting: a text and its syntax to fragments with weights. Pure text work, linear in its length.

The weight of a fragment is the product of all brackets round it. In both syntaxes a number is written `1`, `1.25`,
`1.` or `.5`, with a sign if wanted (a negative weight turns the words' vectors round), and counts only right before
a closing round bracket: in `(a:b:1.5)` the text is `a:b`. A bracket ends a word, as a space does: `(red)(blue)` are
two words whatever their weights, and so weights never change which tokens a prompt has.

- `none`: brackets are text.
- `octoai`: `(x:1.5)`; `(x)` is 1.0. Brackets without a partner are text. There is no escape: in `\(x)` the
  backslash is text and the brackets are brackets. Square brackets are text.
- `a1111`: `(x)` is 1.1, `[x]` is 1/1.1, `(x:1.3)`; a backslash makes the bracket or backslash after it text. Round
  and square brackets are paired each for themselves; one left open holds to the end, as it does there, and a closing
  one without a partner is text. Its further inventions are text: `[a:b:0.5]` and `[a|b]` are square brackets round
  words, `BREAK`, `AND` and `<lora:a:1>` are words.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

#: What the weight of a fragment is held within, both ways; beyond it all other words have long vanished.
WEIGHT_LIMIT: Final = 1000.0


class Fragment(NamedTuple):
    """A piece of a prompt, without syntax, and its weight."""

    text: str
    weight: float


@dataclass(frozen=True, kw_only=True, slots=True)
class _Syntax:
    #: Finds all that may be syntax; groups open, close, number (before a close), and literal (an escaped character).
    marks: re.Pattern[str]
    #: Opening bracket -> its factor where no number is given.
    factors: Mapping[str, float]
    #: Whether a bracket left open holds to the end; otherwise it is text.
    open_ended: bool


_NUMBER: Final = r"(?::\s*(?P<number>[+-]?(?:[0-9]++(?:\.[0-9]*+)?|\.[0-9]++))\s*(?=\)))?"
_PARTNER: Final = {")": "(", "]": "["}
_SYNTAXES: Final = {
    "octoai": _Syntax(
        # No escapes: its group literal never matches.
        marks=re.compile(rf"(?P<literal>(?!))|(?P<open>\()|{_NUMBER}(?P<close>\))"),
        factors={"(": 1.0},
        open_ended=False,
    ),
    "a1111": _Syntax(
        marks=re.compile(rf"\\(?P<literal>[\\()\[\]])|(?P<open>[(\[])|{_NUMBER}(?P<close>[)\]])"),
        factors={"(": 1.1, "[": 1 / 1.1},
        open_ended=True,
    ),
}

WEIGHTINGS: Final = ("none", *_SYNTAXES)


def parse(text: str, weighting: str) -> list[Fragment]:
    """Return the text in fragments, in order; those of syntax alone are left out. `weighting` is one of `WEIGHTINGS`.

    Every character that is not syntax is in exactly one fragment.
    """
    if weighting == "none":
        return [Fragment(text, 1.0)]
    syntax = _SYNTAXES[weighting]
    marks = list(syntax.marks.finditer(text))
    return [fragment for fragment in _fragments(text, marks, _effects(marks, syntax)) if fragment.text]


def without_syntax(text: str, weighting: str) -> str:
    """Return the text's words alone; the same tokens, one space or more between two fragments."""
    return " ".join(fragment.text for fragment in parse(text, weighting))


def _effects(marks: list[re.Match[str]], syntax: _Syntax) -> dict[int, float | None]:
    """Return where brackets are syntax: the factor of an opening one, None for a closing one."""
    effects: dict[int, float | None] = {}
    waiting: dict[str, list[int]] = {bracket: [] for bracket in syntax.factors}
    for mark in marks:
        if mark["open"]:
            waiting[mark["open"]].append(mark.start())
        elif mark["close"] and waiting[_PARTNER[mark["close"]]]:
            bracket = _PARTNER[mark["close"]]
            effects[waiting[bracket].pop()] = float(mark["number"] or syntax.factors[bracket])
            effects[mark.start()] = None
    if syntax.open_ended:
        effects |= {start: syntax.factors[bracket] for bracket, starts in waiting.items() for start in starts}
    return effects


def _fragments(text: str, marks: list[re.Match[str]], effects: dict[int, float | None]) -> Iterator[Fragment]:
    #: Per kind of bracket the products of the open ones, the outermost first.
    products: dict[str, list[float]] = {"(": [1.0], "[": [1.0]}
    pieces: list[str] = []
    position = 0
    for mark in marks:
        if not mark["literal"] and mark.start() not in effects:
            continue
        pieces.append(text[position : mark.start()])
        position = mark.end()
        if mark["literal"]:
            pieces.append(mark["literal"])
            continue
        yield Fragment("".join(pieces), _weight(products))
        pieces.clear()
        factor = effects[mark.start()]
        if factor is None:
            products[_PARTNER[mark["close"]]].pop()
        else:
            open_products = products[mark["open"]]
            open_products.append(_limited(open_products[-1] * _limited(factor)))
    yield Fragment("".join([*pieces, text[position:]]), _weight(products))


def _weight(products: dict[str, list[float]]) -> float:
    return _limited(products["("][-1] * products["["][-1])


def _limited(weight: float) -> float:
    return max(-WEIGHT_LIMIT, min(WEIGHT_LIMIT, weight))
