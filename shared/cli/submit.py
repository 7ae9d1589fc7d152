"""`darkroom submit`: a prompt in, a picture out."""

import json
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from shared.cli.access import uses_api
from shared.cli.api import Api
from shared.cli.progress import follow, progress_bar


@click.command()
@click.argument("prompt")
@click.option("--wait", is_flag=True, help="Wait for the end and save the images.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Where to save the image; implies --wait."
)
@click.option("--model", help="A name from `darkroom models ls`.")
@click.option("--negative", "negative_prompt", help="What to keep out of the picture.")
@click.option("--width", type=int, help="Pixels, a multiple of 8.")
@click.option("--height", type=int, help="Pixels, a multiple of 8.")
@click.option("--steps", "num_inference_steps", type=int, help="Denoising steps.")
@click.option("--guidance", "guidance_scale", type=float, help="How closely the picture follows the prompt.")
@click.option("--scheduler", help="A scheduler, by diffusers' class name.")
@click.option("--seed", type=int, help="The same seed draws the same picture.")
@click.option("--num-images", type=int, help="How many images to draw.")
@click.option("--webhook-url", help="Called when the job ends.")
@click.option("--track-id", help="A reference of your own.")
@click.option("--json", "as_json", is_flag=True, help="Print the job as JSON.")
@uses_api
def submit(api: Api, *, wait: bool, output: Path | None, as_json: bool, **job: Any) -> None:
    """Submit PROMPT as a job.

    Exit status: 0 as wished, 1 refused or not succeeded, 2 wrong usage, 3 the service cannot be reached.
    """
    accepted = api.submit({name: value for name, value in job.items() if value is not None})
    if not (wait or output):
        _print_job(accepted, as_json=as_json)
        return
    with progress_bar(Console(stderr=True)) as progress:
        ended = follow(api, accepted["uid"], progress)
    saved = _save(api, ended, output)
    _print_job(ended, as_json=as_json, saved=saved)
    if ended["status"] != "succeeded":
        raise click.exceptions.Exit(1)


def _save(api: Api, job: dict[str, Any], output: Path | None) -> list[Path]:
    """Save a job's images; return where."""
    paths = image_paths(job, output)
    for image, path in zip(job["outputs"], paths, strict=True):
        path.write_bytes(api.image(job["uid"], image["index"]))
    return paths


def image_paths(job: dict[str, Any], output: Path | None) -> list[Path]:
    """Return a path for each image of a job: the one given, numbered where there are several."""
    images = job["outputs"]
    suffixes = [f".{image['content_type'].partition('/')[2].replace('jpeg', 'jpg')}" for image in images]
    base = output.with_suffix("") if output else Path(str(job["uid"]))
    if len(images) == 1:
        return [output or base.with_suffix(suffixes[0])]
    return [
        base.with_name(f"{base.name}-{image['index']}{output.suffix if output else suffix}")
        for image, suffix in zip(images, suffixes, strict=True)
    ]


def _print_job(job: dict[str, Any], *, as_json: bool, saved: list[Path] | None = None) -> None:
    if as_json:
        click.echo(json.dumps(job, indent=2))
        return
    click.echo(f"job {job['uid']}: {job['status']}")
    for path in saved or ():
        click.echo(f"saved {path}")
    if error := job.get("error"):
        click.echo(f"{error['code']}: {error['message']}", err=True)
    if job["status"] == "queued":
        click.echo(f"follow it at {job['links']['self']}")
