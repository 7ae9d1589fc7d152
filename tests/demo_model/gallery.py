"""Contact sheets of all that the engine does: `python -m tests.demo_model.gallery --to FOLDER [SHEET …]`.

Every picture goes through the worker's own engine, from a JobSpec, as a job's does. Seeds are fixed: drawn twice, a
sheet is the same.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont
from PIL.Image import Image as Picture

from shared.catalog import Catalog
from shared.dialects.samplers import OCTOAI, STABILITY
from shared.schedulers import SCHEDULERS
from shared.settings import Settings
from shared.spec import CLIP_GUIDANCE_PRESETS, SAFETY, ControlNet, JobSpec, Lora
from shared.styles import STYLES
from worker.controlnet.hints import hint
from worker.demo_model.world.captions import held_out_basics
from worker.engine import Engine
from worker.images import fit
from worker.pipelines import Shot
from worker.pipelines.tasks import DRAW
from worker.safety import screened
from worker.token_merging import token_merging
from worker.wording import worded

STAR = "a large yellow star in the middle on a blue background"
CIRCLE = "a large red circle in the middle on a white background"
HOUSE = "a sunny day over green hills with a red house"
SIDE, STEPS = 384, 20
THUMBNAIL, GAP, LABEL = 176, 8, 30


@dataclass(frozen=True, slots=True)
class Tile:
    """One picture and what is written under it."""

    label: str
    picture: Picture


class Studio:
    """Draws specs with the engine, one picture each."""

    def __init__(self) -> None:
        settings = Settings(device="cpu")
        self._catalog = Catalog.load(settings)
        self._engine = Engine(settings, self._catalog)

    def draw(
        self, prompt: str, *, start: Picture | None = None, mask: Picture | None = None, hints: tuple[Any, ...] = (),
        **fields: Any,
    ) -> Picture:  # fmt: skip
        """Draw a prompt. `start` and `mask` stand for the spec's images, which are not read from a storage here."""
        given = {"width": SIDE, "height": SIDE, "num_inference_steps": STEPS, "seed": 1, "model": "demo"}
        named = {"image": start and "inputs/start", "mask_image": mask and "inputs/mask"}
        spec = JobSpec(**{**given, "prompt": prompt, **named, **fields})
        model, _ = self._engine.model(spec.model)
        words, negative = worded(spec)
        shot = Shot(
            prompt=words, negative_prompt=negative if spec.guidance_scale > 1 else "", seed=spec.image_seeds()[0],
            weighting=spec.prompt_weighting, clip_skip=spec.clip_skip or 0, hints=hints, mask=mask,
            image=start and fit(start, spec.width, spec.height),
        )  # fmt: skip
        with self._engine.dressed(model, spec), token_merging(model, spec):
            (picture,) = DRAW[spec.task](model, spec, [shot], on_step=lambda: None)
        return screened(model, spec, picture).image

    def has(self, kind: str, name: str) -> bool:
        """Whether an asset was shipped."""
        return (Path("worker/demo_model/bundle/assets") / kind / name).exists()


def prompts(studio: Studio) -> Iterator[Tile]:
    """Held-out captions, then the rest of the world."""
    for basic in held_out_basics(12, seed=3):
        yield Tile(basic.caption(), studio.draw(basic.caption(), width=512, height=512))
    others = (
        "three red stars on a blue background", "a red circle above a blue square on a white background",
        "a large striped green square in the middle on a white background", HOUSE,
        "a golden sunset over the calm sea with a white boat", "a starry night over snowy mountains",
    )  # fmt: skip
    for prompt in others:
        yield Tile(prompt, studio.draw(prompt, width=512, height=512))


def schedulers(studio: Studio) -> Iterator[Tile]:
    """Every scheduler by its class, then the providers' other names for settings of one."""
    shown: list[dict[str, Any]] = []
    named = [(name, {"scheduler": name}) for name in SCHEDULERS]
    for label, options in [*named, *OCTOAI.items(), *STABILITY.items()]:
        settled = {key: value for key, value in options.items() if value}
        if settled in shown:
            continue
        shown.append(settled)
        start = studio.draw(STAR) if SCHEDULERS[options["scheduler"]].needs_image else None
        prompt = CIRCLE if start else STAR
        yield Tile(label.removesuffix("Scheduler"), studio.draw(prompt, start=start, **options))


def styles(studio: Studio) -> Iterator[Tile]:
    """The prompt alone, then with each preset."""
    yield Tile("no preset", studio.draw(STAR))
    for preset in STYLES:
        yield Tile(preset, studio.draw(STAR, style_preset=preset))


def guidance(studio: Studio) -> Iterator[Tile]:
    """guidance_scale, steps, CLIP guidance and clip_skip."""
    for scale in (0, 1, 2, 4, 7.5, 15):
        yield Tile(f"guidance_scale {scale}", studio.draw(STAR, guidance_scale=scale))
    for steps in (1, 2, 4, 8, 20, 50):
        yield Tile(f"{steps} steps", studio.draw(STAR, num_inference_steps=steps))
    for preset in CLIP_GUIDANCE_PRESETS:
        yield Tile(f"CLIP {preset}", studio.draw(STAR, guidance_scale=3, clip_guidance_preset=preset))
    for skip in (1, 2, 4, 6, 8):
        yield Tile(f"clip_skip {skip}", studio.draw(STAR, clip_skip=skip))


def sizes(studio: Studio) -> Iterator[Tile]:
    """One composition whatever the size."""
    for width, height in ((320, 320), (512, 512), (768, 768), (1024, 1024), (768, 512), (512, 768), (896, 384)):
        yield Tile(f"{width} x {height}", studio.draw(STAR, width=width, height=height))


def tasks(studio: Studio) -> Iterator[Tile]:
    """What is drawn from an image: each row begins with it."""
    start = studio.draw(CIRCLE)
    yield Tile("the image", start)
    for strength in (0.2, 0.4, 0.6, 0.8, 1.0):
        yield Tile(f"strength {strength}", studio.draw(STAR, start=start, strength=strength))
    mask = Image.new("L", start.size, 0)
    mask.paste(255, (SIDE // 4, SIDE // 4, 3 * SIDE // 4, 3 * SIDE // 4))
    painted = "a large blue square in the middle on a white background"
    yield Tile("the mask", mask.convert("RGB"))
    yield Tile("inpaint", studio.draw(painted, start=start, mask=mask))
    yield Tile("inpaint_full_res", studio.draw(painted, start=start, mask=mask, inpaint_full_res=True))
    wide = Image.new("L", start.size, 255)
    wide.paste(0, (SIDE // 4, SIDE // 4, 3 * SIDE // 4, 3 * SIDE // 4))
    yield Tile("the mask", wide.convert("RGB"))
    scene = studio.draw(HOUSE)
    yield Tile("the image", scene)
    yield Tile("outpaint", studio.draw(HOUSE, start=scene, mask=wide, outpainting=True))


def assets(studio: Studio) -> Iterator[Tile]:
    """What a model wears."""
    for name in ("comic-book", "anime"):
        if studio.has("loras", f"{name}.safetensors"):
            for weight in (0.0, 0.5, 1.0):
                yield Tile(f"LoRA {name} {weight}", studio.draw(STAR, loras=(Lora(name, weight),)))
    if studio.has("checkpoints", "3d-model"):
        yield Tile("checkpoint 3d-model", studio.draw(STAR, model="3d-model"))
    if studio.has("vaes", "contrast"):
        yield Tile("VAE contrast", studio.draw(STAR, vae="contrast"))
    if studio.has("textual_inversions", "neon.safetensors"):
        picture = studio.draw(f"{STAR}, <neon>", textual_inversions=(("neon", "<neon>"),))
        yield Tile("textual inversion <neon>", picture)
    if studio.has("controlnets", "canny"):
        yield from _controlled(studio)


def _controlled(studio: Studio) -> Iterator[Tile]:
    page = Image.new("RGB", (SIDE, SIDE), "white")
    ImageDraw.Draw(page).ellipse((30, 130, 170, 270), fill="black")
    edges = hint(page, kind="canny", preprocess=True, mask=None)
    yield Tile("ControlNet's edges", Image.fromarray((edges * 255).astype("uint8")))
    for scale in (0.5, 1.0):
        net = ControlNet("canny", "inputs/edges", scale=scale)
        yield Tile(
            f"ControlNet canny {scale}",
            studio.draw("a red circle on a white background", controlnets=(net,), hints=(edges,)),
        )


def safety(studio: Studio) -> Iterator[Tile]:
    """The flagged concept, as each setting shows it."""
    prompt = "a large mushroom in the middle on a white background"
    for way in SAFETY:
        yield Tile(f"safety {way}", studio.draw(prompt, safety=way))


SHEETS: dict[str, tuple[Callable[[Studio], Iterator[Tile]], int]] = {
    "prompts": (prompts, 6), "schedulers": (schedulers, 7), "styles": (styles, 6), "guidance": (guidance, 6),
    "sizes": (sizes, 7), "tasks": (tasks, 6), "assets": (assets, 6), "safety": (safety, 6),
}  # fmt: skip


def page_of(tiles: Sequence[Tile], *, columns: int) -> Picture:
    """Lay the pictures out in rows on white, each above its label."""
    rows = -(-len(tiles) // columns)
    across, down = THUMBNAIL + GAP, THUMBNAIL + LABEL + GAP
    page = Image.new("RGB", (columns * across + GAP, rows * down + GAP), "white")
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(11)
    for index, tile in enumerate(tiles):
        row, column = divmod(index, columns)
        left, top = GAP + column * across, GAP + row * down
        small = tile.picture.copy()
        small.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
        page.paste(small, (left + (THUMBNAIL - small.width) // 2, top + (THUMBNAIL - small.height) // 2))
        text = "\n".join(_lines(tile.label, font)[:2])
        pen.multiline_text((left + THUMBNAIL / 2, top + THUMBNAIL + 3), text, "#333", font, anchor="ma", align="center")
    return page


def _lines(text: str, font: Any) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= THUMBNAIL:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def main() -> None:
    """Draw the sheets asked for, all of them by default."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("sheets", nargs="*", choices=[*SHEETS, []], default=list(SHEETS))
    options = parser.parse_args()
    options.to.mkdir(parents=True, exist_ok=True)
    studio = Studio()
    for name in options.sheets:
        tiles_of, columns = SHEETS[name]
        tiles = list(tiles_of(studio))
        page_of(tiles, columns=min(columns, len(tiles))).save(options.to / f"{name}.webp", quality=88, method=6)
        print(f"{options.to / name}.webp: {len(tiles)} pictures", flush=True)


if __name__ == "__main__":
    main()
