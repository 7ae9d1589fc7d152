"""Stage 2: pictures drawn, encoded and kept, so that the UNet's training neither draws nor encodes."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
import torch
from diffusers import AutoencoderKL
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from worker.demo_model.architecture import LATENT_CHANNELS, VAE_FACTOR
from worker.demo_model.training.loop import default_device, half_precision, one_thread_each
from worker.demo_model.training.progress import bar
from worker.demo_model.training.vae import load_vae, to_tensor
from worker.demo_model.world.captions import sample_scene
from worker.demo_model.world.draw import draw

_SHARD = 500
#: In the work directory.
SCALE_FILE = "latent-scale.txt"
_CAPTION_SEPARATOR = "\n"


@dataclass(frozen=True, kw_only=True)
class Bucket:
    """Pictures of one size. All of a training batch come from one bucket."""

    width: int
    height: int
    pictures: int
    #: Pictures in one batch: about the same number of pixels in every bucket.
    batch: int
    #: Share of the steps in the first phase, and in the last one.
    early: float
    late: float

    @property
    def name(self) -> str:
        """Its size, as in `512x512`."""
        return f"{self.width}x{self.height}"


BUCKETS: tuple[Bucket, ...] = (
    Bucket(width=128, height=128, pictures=10000, batch=40, early=0.70, late=0.05),
    Bucket(width=256, height=256, pictures=10000, batch=10, early=0.24, late=0.22),
    Bucket(width=384, height=256, pictures=800, batch=8, early=0.01, late=0.03),
    Bucket(width=256, height=384, pictures=800, batch=8, early=0.01, late=0.03),
    Bucket(width=320, height=320, pictures=600, batch=8, early=0.01, late=0.04),
    Bucket(width=512, height=512, pictures=3200, batch=4, early=0.03, late=0.55),
    Bucket(width=640, height=384, pictures=300, batch=4, early=0.01, late=0.03),
    Bucket(width=384, height=640, pictures=300, batch=4, early=0.01, late=0.03),
    Bucket(width=768, height=768, pictures=160, batch=2, early=0.0, late=0.02),
)


@dataclass(frozen=True, kw_only=True)
class Cached:
    """One bucket's training set."""

    bucket: Bucket
    #: (n, 4, h/8, w/8), half precision, not yet scaled.
    latents: Tensor
    captions: list[str]


def cache_latents(
    *, work_dir: Path, seed: int = 0, part: tuple[int, int] = (0, 1), sizes: Collection[str] = (), share: float = 1
) -> None:  # fmt: skip
    """Write the shards missing from `latents/`.

    `part` (i, n) does every n-th one, for n processes side by side; `sizes`, such as `256x256`, leave out the others;
    `share` makes fewer pictures of each size. The next stages take what is there, so
    this one may be stopped at any shard.
    """
    vae = load_vae(work_dir).to(default_device(), memory_format=torch.channels_last)
    folder = work_dir / "latents"
    folder.mkdir(exist_ok=True)
    wanted = [bucket for bucket in BUCKETS if not sizes or bucket.name in sizes]
    shards = [
        (bucket, number) for bucket in wanted for number in range(max(int(-(-bucket.pictures // _SHARD) * share), 1))
    ]

    def write(shard: tuple[Bucket, int]) -> None:
        bucket, number = shard
        path = folder / f"{bucket.name}-{number:03}.safetensors"
        if path.is_file():
            return
        count = min(_SHARD, bucket.pictures - number * _SHARD)
        tensors, captions = _encode(vae, bucket, count, Random(f"{seed}-{path.name}"))  # noqa: S311
        temporary = path.with_suffix(".tmp")
        save_file({"latents": tensors}, temporary, metadata={"captions": _CAPTION_SEPARATOR.join(captions)})
        temporary.rename(path)

    mine = shards[part[0] :: part[1]]
    with one_thread_each() as pool:
        for _ in bar(pool.map(write, mine), name="latents", total=len(mine)):
            pass


def load_cached(work_dir: Path) -> list[Cached]:
    """Every bucket that has shards."""
    cached = []
    for bucket in BUCKETS:
        latents, captions = [], []
        for path in sorted((work_dir / "latents").glob(f"{bucket.name}-*.safetensors")):
            with safe_open(path, framework="pt") as shard:
                latents.append(shard.get_tensor("latents"))
                captions += shard.metadata()["captions"].split(_CAPTION_SEPARATOR)
        if latents:
            cached.append(Cached(bucket=bucket, latents=torch.cat(latents), captions=captions))
    return cached


def latent_scale(work_dir: Path) -> float:
    """Say what latents must be multiplied by to have unit deviation: the VAE's scaling_factor.

    Measured once, over the pictures there are then, and kept: what learns later goes on at the same scale.
    """
    path = work_dir / SCALE_FILE
    if not path.is_file():
        sample = torch.cat([part.latents[:500].float().flatten() for part in load_cached(work_dir)])
        path.write_text(f"{1 / float(sample.std()):.5f}\n")
    return float(path.read_text())


def _encode(vae: AutoencoderKL, bucket: Bucket, count: int, random: Random) -> tuple[Tensor, list[str]]:
    size = (count, LATENT_CHANNELS, bucket.height // VAE_FACTOR, bucket.width // VAE_FACTOR)
    latents = torch.empty(size, dtype=torch.float16)
    captions = []
    device = next(vae.parameters()).device
    for rows in _chunks(count, bucket.batch):
        scenes = [sample_scene(random) for _ in rows]
        pictures = np.stack([draw(s, width=bucket.width, height=bucket.height, random=random) for s in scenes])
        with torch.no_grad(), half_precision(device):
            mean = vae.encode(to_tensor(pictures).to(device)).latent_dist.mean
        latents[rows.start : rows.stop] = mean.float().cpu()
        captions += [scene.caption() for scene in scenes]
    return latents, captions


def _chunks(count: int, size: int) -> Iterator[range]:
    for start in range(0, count, size):
        yield range(start, min(start + size, count))
