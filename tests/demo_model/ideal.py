"""A model that knows everything: the best possible guess of a picture's mean colour, in closed form.

What a perfectly trained model does under guidance can be found without training one. Here a picture is nothing but its
mean colour, a point in three dimensions; the caption names one of eleven.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from torch import Tensor

from worker.demo_model.vocabulary import COLOURS


@dataclass(frozen=True, kw_only=True)
class Ideal:
    """Guesses as trained on captions of which some are wrong, under noise that moves the mean."""

    #: Share of the captions that name another picture's colour.
    wrong: float
    #: Deviation of the noise's mean over the picture.
    offset: float
    #: Deviation of the pictures around the colour that their captions name.
    spread: float = 0.02

    def guesses(self, noisy: Tensor, *, signal: Tensor) -> tuple[Tensor, Tensor]:
        """Give the pictures expected without and with captions, (n, 3) each; noisy (n, 3), signal is alpha_bar."""
        colours = palette()
        count = len(colours)
        mine, noise = signal * self.spread**2, (1 - signal) * self.offset**2
        away = noisy[:, None] - signal.sqrt() * colours
        likely = -away.square().sum(-1) / (2 * (mine + noise))
        pictures = colours + signal.sqrt() * self.spread**2 / (mine + noise) * away
        told = torch.full((count, count), self.wrong / count).fill_diagonal_(1 - self.wrong + self.wrong / count)
        with_caption = (likely + told.log()).softmax(1)
        return (likely.softmax(1)[..., None] * pictures).sum(1), (with_caption[..., None] * pictures).sum(1)

    def draw(self, scheduler: SchedulerMixin, *, guidance: float, steps: int = 20) -> Tensor:
        """Draw each of the colours, (n, 3), from a noise whose mean is nothing."""
        scheduler.set_timesteps(steps)
        noisy = torch.zeros_like(palette())
        for time in scheduler.timesteps:
            signal = scheduler.alphas_cumprod[time].double()
            without, given = (
                (noisy - signal.sqrt() * guess) / (1 - signal).sqrt() for guess in self.guesses(noisy, signal=signal)
            )
            noisy = scheduler.step(without + guidance * (given - without), time, noisy).prev_sample
        return noisy


def palette() -> Tensor:
    """Give the world's colours, (11, 3), each dimension of unit deviation around 0."""
    colours = torch.tensor(list(COLOURS.values()), dtype=torch.float64)
    return (colours - colours.mean(0)) / colours.std(0)
