"""What the queue costs: submit-to-result through the whole stack, beside the bare pipeline for the same picture.

Both are measured in turn in one run, so that a busy machine weighs on both alike; the ratio of medians is what counts.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

# As the worker has it, before torch loads: threads that spin would make the bare pipeline look slow on a busy machine.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import click
import torch
from diffusers import StableDiffusionPipeline

from tests import stack
from worker.demo_model.bundle import bundle_path

PROMPT = "a large red circle on a blue background"


class Bare:
    """The plain diffusers call, as anyone would write it."""

    def __init__(self, bundle: Path, **call) -> None:
        self._pipeline = StableDiffusionPipeline.from_pretrained(str(bundle), dtype=torch.float32, safety_checker=None)
        self._pipeline.set_progress_bar_config(disable=True)
        for network in (self._pipeline.unet, self._pipeline.vae):
            network.to(memory_format=torch.channels_last)
        self._call = call

    def run(self, seed: int) -> float:
        """Return the seconds that one picture takes."""
        started = time.perf_counter()
        with torch.inference_mode():
            self._pipeline(PROMPT, generator=torch.Generator().manual_seed(seed), **self._call)
        return time.perf_counter() - started


def through(darkroom: stack.Stack, seed: int, **fields) -> tuple[float, Mapping[str, float]]:
    """Return the seconds from submitting to having the picture's bytes, and the job's own timings."""
    started = time.perf_counter()
    uid = darkroom.submit(PROMPT, seed=seed, **fields)
    job = darkroom.finished(uid)
    darkroom.image(uid)
    assert job["status"] == "succeeded", job
    return time.perf_counter() - started, job["timings"]


@click.command()
@click.option("--rounds", default=7, show_default=True)
@click.option("--size", default=512, show_default=True)
@click.option("--steps", default=20, show_default=True)
def main(rounds: int, size: int, steps: int) -> None:
    """Measure and print."""
    fields = {"width": size, "height": size, "num_inference_steps": steps, "guidance_scale": 7.5}
    with tempfile.TemporaryDirectory() as folder, stack.running() as darkroom:
        bare = Bare(bundle_path(Path(folder)), **fields)
        bare.run(0)
        through(darkroom, 0, **fields)
        pairs = [(bare.run(seed), *through(darkroom, seed, **fields)) for seed in range(1, rounds + 1)]
    alone = statistics.median(seconds for seconds, _, _ in pairs)
    whole = statistics.median(seconds for _, seconds, _ in pairs)
    click.echo(f"{size}x{size}, {steps} steps, {rounds} rounds, medians")
    click.echo(f"  bare pipeline         {alone * 1000:8.0f} ms")
    click.echo(f"  submit to result      {whole * 1000:8.0f} ms")
    for stage in ("generate", "encode", "store"):
        click.echo(f"    {stage:<20}{statistics.median(t[stage] for _, _, t in pairs) * 1000:8.0f} ms")
    overhead = statistics.median((seconds - own) / own for own, seconds, _ in pairs)
    click.echo(f"  overhead              {overhead * 100:8.1f} %  (aim: at most 5 %)")


if __name__ == "__main__":
    main()
