"""Stage 1: the autoencoder, from pictures to latents and back."""

from __future__ import annotations

from pathlib import Path
from random import Random

import numpy as np
import numpy.typing as npt
import torch
from diffusers import AutoencoderKL
from PIL import Image
from torch import Tensor

from worker.demo_model.architecture import LATENT_CHANNELS, VAE_FACTOR, build_vae
from worker.demo_model.training.block_means import start_as_block_means
from worker.demo_model.training.loop import (
    Chance,
    Part,
    Plan,
    default_device,
    half_precision,
    in_parts,
    load_average,
    train,
)
from worker.demo_model.training.progress import note
from worker.demo_model.world.captions import sample_scene
from worker.demo_model.world.draw import draw

#: (side drawn, side seen, pictures): whole small pictures, whole larger ones, windows into full-size ones.
_BATCHES = ((128, 128, 8), (256, 256, 2), (256, 128, 8), (512, 128, 8), (512, 256, 2))
_BATCH_WEIGHTS = (50, 15, 15, 15, 5)

#: Of the mean divergence per latent value. Small: its task is to bound the latents, not to make them Gaussian.
_KL_WEIGHT = 3e-5
#: Of the error in the differences of neighbouring pixels: keeps edges crisp where the mean error hardly counts them.
_EDGE_WEIGHT = 0.5


def train_vae(*, work_dir: Path, steps: int, seed: int = 0, learning_rate: float = 1e-3) -> None:
    """Train encoder and decoder together; the checkpoint is `vae.pt`, a sheet of reconstructions `vae.png`."""
    torch.manual_seed(seed)
    vae = build_vae()
    start_as_block_means(vae)
    plan = Plan(name="vae", steps=steps, learning_rate=learning_rate, seed=seed)
    _train(vae, plan=plan, work_dir=work_dir)


def train_decoder(*, work_dir: Path, steps: int, seed: int = 1, learning_rate: float = 2e-3) -> None:
    """Train the decoder alone further, which leaves every latent as it is; the checkpoint is `decoder.pt`."""
    vae = build_vae()
    load_average(vae, work_dir / "vae.pt")
    vae.requires_grad_(requires_grad=False)
    vae.decoder.requires_grad_(requires_grad=True)
    plan = Plan(name="decoder", steps=steps, learning_rate=learning_rate, seed=seed)
    _train(vae, plan=plan, work_dir=work_dir)


def load_vae(work_dir: Path) -> AutoencoderKL:
    """Read the autoencoder as far as it is trained, in float32."""
    vae = build_vae()
    further = work_dir / "decoder.pt"
    load_average(vae, further if further.is_file() else work_dir / "vae.pt")
    return vae.eval()


def _train(vae: AutoencoderKL, *, plan: Plan, work_dir: Path) -> None:
    device = default_device()
    vae.to(device, memory_format=torch.channels_last)

    def loss_of(pictures: Tensor, noise: Tensor) -> Tensor:
        with half_precision(device):
            posterior = vae.encode(pictures).latent_dist
            decoded = vae.decode(posterior.mean + posterior.std * noise).sample
        divergence = 0.5 * (posterior.mean.float() ** 2 + posterior.var.float() - 1 - posterior.logvar.float()).mean()
        return reconstruction_loss(decoded.float(), pictures) + _KL_WEIGHT * divergence

    def parts_of(_: int, chance: Chance) -> list[Part]:
        (batch,) = chance.python.choices(_BATCHES, weights=_BATCH_WEIGHTS)
        pictures = _pictures(batch, chance.python)
        count, _channels, height, width = pictures.shape
        shape = (count, LATENT_CHANNELS, height // VAE_FACTOR, width // VAE_FACTOR)
        return in_parts(loss_of, pictures.to(device), torch.randn(shape, generator=chance.torch).to(device))

    sheet = work_dir / f"{plan.name}.png"
    train(vae, parts_of, plan=plan, work_dir=work_dir, on_save=lambda _: reconstruction_sheet(vae, sheet))


def reconstruction_loss(decoded: Tensor, pictures: Tensor) -> Tensor:
    """Absolute error of the pixels and of their differences, both (n, 3, h, w) in -1..1."""
    error = decoded - pictures
    edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    return error.abs().mean() + _EDGE_WEIGHT * edges


def to_tensor(pictures: npt.NDArray[np.uint8]) -> Tensor:
    """(n, h, w, 3) bytes to (n, 3, h, w) in -1..1."""
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1


def to_pixels(pictures: Tensor) -> npt.NDArray[np.uint8]:
    """Undo `to_tensor`, clipped."""
    scaled = (pictures.float().clamp(-1, 1) + 1) * 127.5
    pixels: npt.NDArray[np.uint8] = scaled.round().byte().permute(0, 2, 3, 1).cpu().numpy()
    return pixels


def reconstruction_sheet(vae: AutoencoderKL, path: Path) -> None:
    """Eight pictures above their reconstructions."""
    random = Random(1)  # noqa: S311
    pictures = np.stack([draw(sample_scene(random), width=256, height=256, random=random) for _ in range(8)])
    device = next(vae.parameters()).device
    latents = vae.encode(to_tensor(pictures).to(device)).latent_dist.mean
    back = to_pixels(vae.decode(latents).sample)
    note(f"reconstruction: mean absolute error {np.abs(back.astype(int) - pictures).mean():.2f} of 255")
    Image.fromarray(np.concatenate([np.concatenate([*pictures], 1), np.concatenate([*back], 1)])).save(path)


def _pictures(batch: tuple[int, int, int], random: Random) -> Tensor:
    drawn, seen, count = batch
    pictures = []
    for _ in range(count):
        picture = draw(sample_scene(random), width=drawn, height=drawn, random=random)
        x, y = random.randint(0, drawn - seen), random.randint(0, drawn - seen)
        pictures.append(picture[y : y + seen, x : x + seen])
    return to_tensor(np.stack(pictures)).contiguous(memory_format=torch.channels_last)
