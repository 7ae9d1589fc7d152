"""Train the demo model from nothing: `python -m worker.demo_model.train --work-dir DIR [stage ...]`.

Each stage goes on from its checkpoint in the work directory, or starts; naming none runs them all in order.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from worker.demo_model.training.adopt import adopt
from worker.demo_model.training.assets import CHECKPOINT_STYLE, train_loras
from worker.demo_model.training.clip import train_clip
from worker.demo_model.training.controlnet import train_controlnet
from worker.demo_model.training.export import export_bundle
from worker.demo_model.training.latents import cache_latents
from worker.demo_model.training.restyled import train_checkpoint
from worker.demo_model.training.text import train_text
from worker.demo_model.training.unet import train_unet
from worker.demo_model.training.vae import train_decoder, train_vae

#: Steps of each stage that learns.
STEPS: dict[str, int] = {
    "vae": 700, "text": 500, "unet": 8000, "clip": 300, "decoder": 2000, "checkpoint": 250, "loras": 250,
    "controlnet": 500,
}  # fmt: skip
STAGES: tuple[str, ...] = (
    "vae",
    "latents",
    "text",
    "unet",
    "clip",
    "decoder",
    "checkpoint",
    "loras",
    "controlnet",
    "export",
)


def main() -> None:
    """Parse the command line and run the stages asked for."""
    parser = argparse.ArgumentParser(prog="python -m worker.demo_model.train", description=__doc__)
    parser.add_argument("stages", nargs="*", metavar="stage", help=f"of {', '.join(STAGES)}; all when none is named")
    parser.add_argument("--work-dir", type=Path, required=True, help="checkpoints, cached latents and sample sheets")
    parser.add_argument("--from", dest="bundle", type=Path, help="a bundle to go on from where checkpoints are missing")
    parser.add_argument("--steps", type=int, help="steps of each stage named, instead of its default")
    parser.add_argument("--part", default="0/1", help="i/n: every n-th shard of the latents, for n processes at once")
    parser.add_argument("--sizes", nargs="+", default=[], help="of the latents, such as 256x256; default: all")
    parser.add_argument("--share", type=float, default=1, help="of the latents' pictures, 0..1")
    parser.add_argument("--minutes", type=float, help="squeeze the unet stage into these")
    parser.add_argument("--rate", type=float, help="learning rate of the unet stage, instead of its own")
    parser.add_argument("--to", type=Path, help="where export writes the bundle; default: WORK_DIR/bundle")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.work_dir.mkdir(parents=True, exist_ok=True)
    if options.bundle is not None:
        adopt(options.bundle, work_dir=options.work_dir)
    for stage in options.stages or STAGES:
        _run(stage, options)


def _run(stage: str, options: argparse.Namespace) -> None:
    work_dir, seed = options.work_dir, options.seed
    steps = options.steps or STEPS.get(stage, 0)
    part, parts = (int(number) for number in options.part.split("/"))
    runs: dict[str, Callable[[], None]] = {
        "vae": lambda: train_vae(work_dir=work_dir, steps=steps, seed=seed),
        "latents": lambda: cache_latents(
            work_dir=work_dir, seed=seed, part=(part, parts), sizes=options.sizes, share=options.share
        ),
        "text": lambda: train_text(work_dir=work_dir, steps=steps, seed=seed),
        "unet": lambda: train_unet(
            work_dir=work_dir, steps=steps, seed=seed, minutes=options.minutes, **_rate(options)
        ),
        "clip": lambda: train_clip(work_dir=work_dir, steps=steps, seed=seed),
        "decoder": lambda: train_decoder(work_dir=work_dir, steps=steps, seed=seed + 1),
        "checkpoint": lambda: train_checkpoint(work_dir=work_dir, style=CHECKPOINT_STYLE, steps=steps, seed=seed),
        "loras": lambda: train_loras(work_dir=work_dir, steps=steps, seed=seed),
        "controlnet": lambda: train_controlnet(work_dir=work_dir, steps=steps, seed=seed),
        "export": lambda: export_bundle(work_dir=work_dir, to=options.to or work_dir / "bundle", seed=seed),
    }
    if stage not in runs:
        raise SystemExit(f"no stage is called {stage}; there are {', '.join(STAGES)}")
    runs[stage]()


def _rate(options: argparse.Namespace) -> dict[str, float]:
    return {} if options.rate is None else {"learning_rate": options.rate}


if __name__ == "__main__":
    main()
