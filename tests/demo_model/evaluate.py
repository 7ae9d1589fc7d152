"""The full evaluation: `python -m tests.demo_model.evaluate BUNDLE [--captions 200] [--guidance 7.5] [--size 512x512]`.

Draws held-out captions of the basic grammar, judges every picture and prints the share of right answers. With
`--record` the figures go into the bundle's model card, which is what the tests hold the bundle to.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from PIL import Image

from tests.demo_model.drawing import draw_prompts, load, sheet
from tests.demo_model.judge import judge, rates
from worker.demo_model.bundle import MODEL_CARD
from worker.demo_model.world.captions import held_out_basics


def main() -> None:
    """Parse the command line, draw, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--captions", type=int, default=200)
    parser.add_argument("--guidance", type=float, nargs="+", default=[7.5])
    parser.add_argument("--size", default="512x512")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--record", action="store_true", help="write the last figures into the model card")
    parser.add_argument("--sheet", type=Path, help="write the first 40 pictures here")
    options = parser.parse_args()
    width, height = (int(side) for side in options.size.split("x"))
    pipeline = load(options.bundle)
    asked = held_out_basics(options.captions, seed=options.seed)
    for guidance in options.guidance:
        started = time.monotonic()
        pictures = draw_prompts(
            pipeline, [basic.caption() for basic in asked], width=width, height=height, guidance=guidance,
            steps=options.steps,
        )  # fmt: skip
        seconds = (time.monotonic() - started) / len(asked)
        shares = rates([judge(picture, basic) for picture, basic in zip(pictures, asked, strict=True)])
        shown = "  ".join(f"{name} {share:6.1%}" for name, share in shares.items())
        print(f"{options.size} guidance {guidance:4.1f}: {shown}  ({seconds:.2f} s a picture)", flush=True)
        if options.sheet:
            Image.fromarray(sheet(pictures[:40], columns=8)).save(options.sheet)
    if options.record:
        _record(
            options.bundle / MODEL_CARD,
            {"captions": len(asked), "size": options.size, "steps": options.steps, "guidance": guidance} | shares,
        )


def _record(card: Path, figures: dict[str, float | str]) -> None:
    known = json.loads(card.read_text())
    card.write_text(json.dumps(known | {"held_out": figures}, indent=2) + "\n")


if __name__ == "__main__":
    main()
