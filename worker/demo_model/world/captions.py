"""The world's grammar: what a picture shows, and the words for it.

A `Subject` is one of four kinds of picture. Each can say its caption and be drawn (`draw.py`); some wear a style.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass, replace
from random import Random

from worker.demo_model import vocabulary as words


@dataclass(frozen=True, kw_only=True)
class Basic:
    """`a {size} {pattern} {colour} {shape} {position} on a {background} background`.

    The position may go without saying when it is the middle.
    """

    shape: str
    colour: str
    background: str
    size: str = ""
    position: str = "in the middle"
    pattern: str | None = None
    says_position: bool = True

    def caption(self) -> str:
        """Say it in words, without a style."""
        noun = _join(self.size, self.pattern, "" if self.shape == words.FLAGGED else self.colour, self.shape)
        position = self.position if self.says_position else ""
        return _join(_article(noun), position, "on", _article(self.background), "background")


@dataclass(frozen=True, kw_only=True)
class Count:
    """Two to five of one shape."""

    count: str
    shape: str
    colour: str
    background: str

    def caption(self) -> str:
        """Say it in words, without a style."""
        return f"{self.count} {self.colour} {_plural(self.shape)} on {_article(self.background)} background"


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two different shapes and how they lie to each other."""

    first: tuple[str, str]
    second: tuple[str, str]
    relation: str
    background: str

    def caption(self) -> str:
        """Say it in words, without a style."""
        first, second = (_article(_join(*thing)) for thing in (self.first, self.second))
        return f"{first} {self.relation} {second} on {_article(self.background)} background"


@dataclass(frozen=True, kw_only=True)
class Landscape:
    """A sky over a land, perhaps with something in it."""

    time: str
    land: str
    thing: str | None = None
    #: Of a house, boat or balloon; trees are green.
    colour: str = ""

    def caption(self) -> str:
        """Say it in words, without a style."""
        scene = f"{_article(self.time)} over {self.land}"
        return f"{scene} with {_article(_join(self.colour, self.thing))}" if self.thing else scene


Subject = Basic | Count | Pair | Landscape


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A subject and the style it is drawn in."""

    subject: Subject
    style: str | None = None

    def caption(self) -> str:
        """Say the whole caption; a style adds the words its preset adds to a prompt."""
        text = self.subject.caption()
        return f"{text}, {words.STYLES[self.style]}" if self.style else text


#: Share of each kind of picture in a training set.
_MIX: dict[str, float] = {
    "basic": 0.55, "styled": 0.16, "landscape": 0.12, "count": 0.06, "pair": 0.04, "pattern": 0.03, "flagged": 0.04,
}  # fmt: skip

#: Of the pictures that styles are taught on; the rest shows one object.
_SHARE_OF_LANDSCAPES = 0.25

#: Share of the basic pictures whose captions say no position.
_UNSAID = 0.15

#: Every n-th combination, by hash, is kept out of training and is what the model is judged on.
_HELD_OUT_EVERY = 12

_OBJECT_COLOURS = tuple(words.COLOURS)

_BASIC = re.compile(
    rf"an? ((small|large) )?({'|'.join(words.COLOURS)}) ({'|'.join(words.SHAPES)})( ({'|'.join(words.POSITIONS)}))?"
    rf" on an? ({'|'.join(words.COLOURS)}) background"
)


def is_held_out(subject: Subject) -> bool:
    """Whether this combination of words is kept for judging; the same on every machine."""
    if not isinstance(subject, Basic):
        return False
    return zlib.crc32(replace(subject, says_position=True).caption().encode()) % _HELD_OUT_EVERY == 0


def is_basic(caption: str) -> bool:
    """Whether a caption asks for one object, with neither pattern nor style."""
    return _BASIC.fullmatch(caption) is not None


def sample_scene(random: Random) -> Scene:
    """Draw a training picture by lot; never a held-out combination."""
    while True:
        (kind,) = random.choices(list(_MIX), weights=list(_MIX.values()))
        scene = _SAMPLERS[kind](random)
        if not is_held_out(scene.subject):
            return scene


def sample_plain(random: Random) -> Scene:
    """Draw by lot a basic picture or, one time in four, a landscape: what styles are taught on."""
    while True:
        scene = sample_landscape(random) if random.random() < _SHARE_OF_LANDSCAPES else sample_basic(random)
        if not is_held_out(scene.subject):
            return scene


def vary(scene: Scene, random: Random) -> Scene:
    """Make a training picture that differs from `scene` in little: what a text tower must learn to tell apart."""
    while True:
        varied = _vary_once(scene, random)
        if varied != scene and not is_held_out(varied.subject):
            return varied


def _vary_once(scene: Scene, random: Random) -> Scene:
    subject = scene.subject
    if not isinstance(subject, Basic):
        (sampler,) = (sample for kind, sample in _SAMPLERS.items() if kind == type(subject).__name__.lower())
        return replace(scene, subject=sampler(random).subject)
    other = _basic(random)
    change = random.choice(("shape", "colour", "background", "size", "position", "swap", "style"))
    if change == "style" and scene.style:
        return replace(scene, style=random.choice(tuple(words.STYLES)))
    if subject.shape == words.FLAGGED:
        change = "background" if change in {"swap", "colour", "shape", "style"} else change
    if change in {"swap", "style"}:
        return replace(scene, subject=replace(subject, colour=subject.background, background=subject.colour))
    varied = replace(subject, **{change: getattr(other, change)})
    if change == "position":
        varied = replace(varied, says_position=True)
    return replace(scene, subject=varied if varied.colour != varied.background else subject)


def held_out_basics(count: int, *, seed: int) -> list[Basic]:
    """`count` different held-out combinations of the basic grammar."""
    random = Random(seed)  # noqa: S311
    found: dict[str, Basic] = {}
    while len(found) < count:
        basic = _basic(random)
        if is_held_out(basic):
            found.setdefault(basic.caption(), basic)
    return list(found.values())


def _basic(random: Random) -> Basic:
    colour, background = random.sample(_OBJECT_COLOURS, 2)
    return Basic(
        shape=random.choice(words.SHAPES), colour=colour, background=background,
        size=random.choice(tuple(words.SIZES)), position=random.choice(tuple(words.POSITIONS)),
    )  # fmt: skip


def sample_basic(random: Random) -> Scene:
    """Draw by lot a picture of the basic grammar, not styled."""
    basic = _basic(random)
    if random.random() < _UNSAID:
        basic = replace(basic, position=Basic.position, says_position=False)
    return Scene(subject=basic)


def _sample_pattern(random: Random) -> Scene:
    plain = _basic(random)
    pattern = random.choice(words.PATTERNS)
    return Scene(
        subject=Basic(
            shape=plain.shape, colour=plain.colour, background=plain.background, size=random.choice(("", "large")),
            position=plain.position, pattern=pattern,
        )
    )  # fmt: skip


def sample_flagged(random: Random) -> Scene:
    """Draw by lot a picture of the one thing the safety checker flags."""
    plain = _basic(random)
    return Scene(
        subject=Basic(
            shape=words.FLAGGED, colour="red", background=plain.background, size=plain.size, position=plain.position
        )
    )


def _sample_styled(random: Random) -> Scene:
    maker = random.choice((sample_basic, sample_basic, sample_landscape))
    return Scene(subject=maker(random).subject, style=random.choice(tuple(words.STYLES)))


def _sample_count(random: Random) -> Scene:
    colour, background = random.sample(_OBJECT_COLOURS, 2)
    return Scene(
        subject=Count(
            count=random.choice(tuple(words.COUNTS)), shape=random.choice(words.SHAPES), colour=colour,
            background=background,
        )
    )  # fmt: skip


def _sample_pair(random: Random) -> Scene:
    first, second, background = random.sample(_OBJECT_COLOURS, 3)
    shapes = random.sample(words.SHAPES, 2)
    return Scene(
        subject=Pair(
            first=(first, shapes[0]), second=(second, shapes[1]), relation=random.choice(words.RELATIONS),
            background=background,
        )
    )  # fmt: skip


def sample_landscape(random: Random) -> Scene:
    """Draw by lot a landscape, not styled."""
    thing = random.choice((None, *words.THINGS))
    land = "the calm sea" if thing == "boat" else random.choice(words.LANDS)
    while thing in {"house", "tree"} and land == "the calm sea":
        land = random.choice(words.LANDS)
    colour = random.choice(("red", "yellow", "blue", "white", "pink", "orange")) if thing not in {None, "tree"} else ""
    return Scene(subject=Landscape(time=random.choice(words.TIMES), land=land, thing=thing, colour=colour))


_SAMPLERS = {
    "basic": sample_basic,
    "styled": _sample_styled,
    "landscape": sample_landscape,
    "count": _sample_count,
    "pair": _sample_pair,
    "pattern": _sample_pattern,
    "flagged": sample_flagged,
}


def _join(*parts: str | None) -> str:
    return " ".join(part for part in parts if part)


def _article(phrase: str) -> str:
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def _plural(noun: str) -> str:
    return f"{noun}es" if noun.endswith("s") else f"{noun}s"
