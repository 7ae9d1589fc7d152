"""Stage 4: the UNet learns to tell the noise in the latents, given the caption."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from torch import Tensor, nn

from worker.demo_model.architecture import SCHEDULER_CONFIG, build_unet
from worker.demo_model.training.latents import Cached, latent_scale, load_cached
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
from worker.demo_model.training.noise_copy import start_as_noise_copy
from worker.demo_model.training.samples import Sheet
from worker.demo_model.training.text import load_text_tower
from worker.demo_model.training.text_table import TextTable
from worker.demo_model.training.whitening import settle, whiten
from worker.demo_model.world.captions import is_basic

#: Share of the captions left out, for classifier-free guidance.
EMPTY_SHARE = 0.1
#: Share of the captions replaced by another picture's. A model whose captions are always right takes the colours from
#: them alone, whatever the noisy picture shows; guidance of 7.5 multiplies that, and SD 1.5's own sampler, a multistep
#: one, diverges (tests/demo_model/test_guidance.py). One that has been lied to looks at the picture as well.
WRONG_SHARE = 0.54
#: Noise that is the same all over one channel of one picture: teaches the noisiest steps to choose the mean colour.
OFFSET_NOISE = 0.15
#: Share of the run in which the layout is learnt before all else.
_LAYOUT_SHARE = 0.4
#: Weight of the error's differences from its own mean over the picture. A wrong background is most of what is wrong at
#: the noisiest steps; unweighted, it drowns what is to be learnt about the object on it.
LAYOUT_WEIGHT = 4.0
#: Share of the run over which the mix of sizes goes from the early to the late one.
_PHASE_TURN = (0.4, 0.7)
#: Of the latents of a 256 px picture.
_BASE_PIXELS = 32 * 32
#: Share of each batch that is drawn from the pictures of single objects alone; the rest from all pictures.
_FOCUS = 0.6


@dataclass(frozen=True, kw_only=True)
class Emphasis:
    """Which noise levels count, for pictures of 256 px."""

    #: From this timestep on ...
    noisy_from: int
    #: ... this share of the steps is drawn.
    noisy_share: float
    #: Bound on the weight of the noisiest steps.
    most_weight: float

    def at(self, pixels: int, *, alphas_cumprod: Tensor) -> Emphasis:
        """Give the same for latents of `pixels` pixels, where these are more than at 256 px.

        The same noise hides less of a larger picture: averaged down to the smaller size, it has that many times less
        variance. So what is decided at one signal-to-noise ratio is decided at a ratio lower by that factor (Hoogeboom,
        Heek and Salimans 2023, "simple diffusion").
        """
        factor = max(pixels / _BASE_PIXELS, 1.0)
        ratios = alphas_cumprod / (1 - alphas_cumprod)
        shifted = int((ratios > ratios[self.noisy_from] / factor).sum())
        return replace(self, noisy_from=shifted, most_weight=self.most_weight * factor)


#: The layout is decided at the noisiest steps alone; hardly anything of it is left to be learnt from the others.
LAYOUT = Emphasis(noisy_from=750, noisy_share=0.7, most_weight=60)
ALL = Emphasis(noisy_from=500, noisy_share=0.5, most_weight=8)


@dataclass(frozen=True, kw_only=True)
class Embedded:
    """A training set with its captions' embeddings."""

    cached: Cached
    #: Row of the text table for each picture.
    rows: list[int]
    #: The pictures of single objects.
    basics: list[int]


def train_unet(
    *, work_dir: Path, steps: int, seed: int = 0, learning_rate: float = 1e-3, minutes: float | None = None
) -> None:  # fmt: skip
    """Train the UNet on the cached latents; the checkpoint is `unet.pt`, a sheet of samples `unet.png`."""
    torch.manual_seed(seed)
    device = default_device()
    cached = load_cached(work_dir)
    captions = (caption for part in cached for caption in part.captions)
    table = TextTable(captions, encoder=load_text_tower(work_dir), folder=work_dir)
    sets = [_embedded(part, table) for part in cached]
    noising = Noising(scale=latent_scale(work_dir), device=device)
    unet = build_unet()
    start_as_noise_copy(unet)
    whiten(unet, load_text_tower(work_dir))
    unet.to(device, memory_format=torch.channels_last)

    def parts_of(_: int, chance: Chance) -> list[Part]:
        late = min(max((chance.done - _PHASE_TURN[0]) / (_PHASE_TURN[1] - _PHASE_TURN[0]), 0), 1)
        shares = [(1 - late) * part.cached.bucket.early + late * part.cached.bucket.late for part in sets]
        (chosen,) = chance.python.choices(sets, weights=shares)
        picked = [_pick(chosen, chance.python) for _ in range(chosen.cached.bucket.batch)]
        text_rows = [heard(chosen, index, chance.python) for index in picked]
        emphasis = LAYOUT if chance.done < _LAYOUT_SHARE else ALL
        return noising.parts(unet, chosen.cached.latents[picked], table.table[text_rows], chance, emphasis=emphasis)

    plan = Plan(name="unet", steps=steps, learning_rate=learning_rate, seed=seed, minutes=minutes)
    sheet = Sheet(work_dir)
    train(unet, parts_of, plan=plan, work_dir=work_dir, on_save=lambda _: sheet.draw(unet, work_dir / "unet.png"))


def load_unet(work_dir: Path) -> UNet2DConditionModel:
    """Read the trained UNet, in float32."""
    unet = build_unet()
    whiten(unet)
    load_average(unet, work_dir / "unet.pt")
    settle(unet)
    return unet.eval()


def _embedded(cached: Cached, table: TextTable) -> Embedded:
    basics = [index for index, caption in enumerate(cached.captions) if is_basic(caption)]
    return Embedded(cached=cached, rows=table.rows(cached.captions), basics=basics)


def _pick(embedded: Embedded, random: Random) -> int:
    return random.choice(embedded.basics) if random.random() < _FOCUS else random.randrange(len(embedded.rows))


def heard(embedded: Embedded, index: int, random: Random) -> int:
    """Choose the row of the text table that a picture is shown with; row 0 is the empty caption."""
    chance = random.random()
    if chance < EMPTY_SHARE:
        return 0
    return embedded.rows[_pick(embedded, random) if chance < EMPTY_SHARE + WRONG_SHARE else index]


class Noising:
    """The forward process and the loss of guessing its noise."""

    def __init__(self, *, scale: float, device: torch.device) -> None:
        keys = ("beta_start", "beta_end", "beta_schedule", "num_train_timesteps")
        self._scheduler = DDPMScheduler(**{key: SCHEDULER_CONFIG[key] for key in keys})
        self._scale = scale
        self._device = device

    def parts(
        self, unet: nn.Module, latents: Tensor, text: Tensor, chance: Chance, *more: Tensor, emphasis: Emphasis = ALL
    ) -> list[Part]:  # fmt: skip
        """Give the weighted squared error of the noise guessed; latents (n, 4, h, w) unscaled, text (n, 77, 128).

        `unet` is called with noisy latents, timesteps, text and `more`, whose first dimension is n.

        The weight 1 + 1/SNR, which is 1 / alpha_bar, makes it the error of v-prediction (Salimans and Ho 2022), which
        counts the picture's error and the noise's alike. The plain error of the noise hardly notices the layout.
        """
        clean = latents.float() * self._scale
        noise = torch.randn(clean.shape, generator=chance.torch)
        noise += OFFSET_NOISE * torch.randn((*clean.shape[:2], 1, 1), generator=chance.torch)
        emphasis = emphasis.at(clean.shape[2] * clean.shape[3], alphas_cumprod=self._scheduler.alphas_cumprod)
        times = _times(len(clean), chance.torch, emphasis)
        noisy = self._scheduler.add_noise(clean, noise, times).contiguous(memory_format=torch.channels_last)
        signal = self._scheduler.alphas_cumprod[times]
        weights = (1 / signal).clamp(max=emphasis.most_weight)

        def loss_of(
            noisy: Tensor, times: Tensor, text: Tensor, noise: Tensor, weights: Tensor, *more: Tensor
        ) -> Tensor:  # fmt: skip
            with half_precision(self._device):
                guess = unet(noisy, times, text, *more).sample
            error = guess.float() - noise
            mean = error.mean(dim=(2, 3), keepdim=True)
            parts = mean.square() + LAYOUT_WEIGHT * (error - mean).square()
            return (parts.mean(dim=(1, 2, 3)) * weights).mean()

        batch = (noisy, times, text.float(), noise, weights, *more)
        return in_parts(loss_of, *(tensor.to(self._device) for tensor in batch))


def _times(count: int, generator: torch.Generator, emphasis: Emphasis) -> Tensor:
    """Draw timesteps, some from all, the rest from the noisy end."""
    anywhere = torch.randint(0, 1000, (count,), generator=generator)
    noisy = torch.randint(emphasis.noisy_from, 1000, (count,), generator=generator)
    return torch.where(torch.rand(count, generator=generator) < emphasis.noisy_share, noisy, anywhere)
