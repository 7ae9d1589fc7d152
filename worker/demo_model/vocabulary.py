"""Every word the demo world speaks, and the colours it paints with.

The captions (`world/captions.py`), the tokenizer (`tokenizer.py`) and the judge in the tests all read this file: a word
that is not here is still accepted by the model, but splits into bytes and means nothing to it.
"""

from __future__ import annotations

#: sRGB, 0..255. Far enough apart that a soft decoder cannot turn one into another.
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (213, 38, 42),
    "orange": (246, 130, 20),
    "yellow": (250, 212, 50),
    "green": (48, 156, 76),
    "blue": (38, 86, 204),
    "purple": (128, 58, 176),
    "pink": (245, 146, 190),
    "brown": (118, 72, 40),
    "black": (24, 24, 28),
    "gray": (140, 142, 148),
    "white": (246, 246, 242),
}

SHAPES: tuple[str, ...] = ("circle", "square", "triangle", "star", "heart", "diamond", "ring", "cross")

#: Radius of the shape's bounding circle as a fraction of the picture's shorter side.
SIZES: dict[str, float] = {"small": 0.12, "": 0.18, "large": 0.25}

#: Centre of the object, (x, y) as fractions of width and height.
POSITIONS: dict[str, tuple[float, float]] = {
    "in the middle": (0.5, 0.5),
    "at the top": (0.5, 0.27),
    "at the bottom": (0.5, 0.73),
    "on the left": (0.27, 0.5),
    "on the right": (0.73, 0.5),
    "at the top left": (0.27, 0.27),
    "at the top right": (0.73, 0.27),
    "at the bottom left": (0.27, 0.73),
    "at the bottom right": (0.73, 0.73),
}

PATTERNS: tuple[str, ...] = ("striped", "dotted", "checkered")
COUNTS: dict[str, int] = {"two": 2, "three": 3, "four": 4, "five": 5}
RELATIONS: tuple[str, ...] = ("to the left of", "to the right of", "above", "below")
TIMES: tuple[str, ...] = ("sunny day", "cloudy day", "golden sunset", "starry night")
LANDS: tuple[str, ...] = ("green hills", "the calm sea", "snowy mountains", "a sandy desert")
THINGS: tuple[str, ...] = ("house", "tree", "boat", "balloon")

#: The one concept the safety checker flags: harmless on purpose, and none of the shapes or colours above.
FLAGGED: str = "mushroom"

#: What each style preset adds to the prompt; the world captions the style's pictures with the same words.
STYLES: dict[str, str] = {
    "3d-model": "rendered 3d model, soft studio shading",
    "analog-film": "analog film photo, grain, faded colours",
    "anime": "anime picture, clean ink outline, flat shades",
    "cinematic": "cinematic still, wide, moody light",
    "comic-book": "comic book panel, halftone dots, bold ink",
    "digital-art": "digital painting, vivid, detailed",
    "enhance": "crisp, high contrast, fine detail",
    "fantasy-art": "fantasy painting, glow, mist",
    "isometric": "isometric view, three visible faces",
    "line-art": "line drawing, outlines only",
    "low-poly": "low poly, flat triangles",
    "modeling-compound": "modelling clay, rounded, thumb marks",
    "neon-punk": "neon lights on black, glowing edges",
    "origami": "folded paper, creases",
    "photographic": "photograph, natural light, depth",
    "pixel-art": "pixel art, coarse blocks",
    "tile-texture": "seamless repeating tile",
}

#: What the presets add to the negative prompt: words only, the world draws nothing for them.
STYLE_NEGATIVES: tuple[str, ...] = (
    "flat, sketch", "clean digital", "photo", "snapshot", "photo, dull", "blurry, low contrast", "modern, plain",
    "perspective photo", "colour fill, photo", "smooth", "sharp, metal", "daylight", "smooth, glossy",
    "drawing, cartoon", "single object",
)  # fmt: skip

_GLUE: tuple[str, ...] = (
    "a", "an", "and", "the", "of", "on", "in", "at", "with", "over", "by", "background", "under", "picture", "one",
    "there", "is", "row", "sky", "sun", "moon", "stars", "clouds", ",", ".", "photo", "drawing", "painting",
)  # fmt: skip


def words() -> tuple[str, ...]:
    """Each word of the world once, in a fixed order."""
    phrases: list[str] = [
        *_GLUE, *COLOURS, *SHAPES, *SIZES, *POSITIONS, *PATTERNS, *COUNTS, *RELATIONS, *TIMES, *LANDS, *THINGS, FLAGGED,
        *STYLES.values(), *STYLE_NEGATIVES,
        *(f"{noun}s" for noun in (*SHAPES, *THINGS, FLAGGED) if noun != "cross"), "crosses",
    ]  # fmt: skip
    split = (word for phrase in phrases for word in phrase.replace(",", " , ").replace("3d", "3 d").split())
    return tuple(dict.fromkeys(split))
