"""Karras et al.'s stochastic sampler."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers.configuration_utils import register_to_config

from worker.samplers.model_noise import ModelNoise, Sigmas, noise_like
from worker.samplers.two_stage import TwoStageSampler

#: Most that one churn raises the noise, in parts of it (algorithm 2).
_MOST_CHURN = 2**0.5 - 1


@dataclass(frozen=True, kw_only=True)
class Churn:
    """How much noise a step adds before it goes down: the paper's S_churn, S_noise, S_tmin and S_tmax."""

    most: float
    noise: float
    least_sigma: float
    greatest_sigma: float

    def gammas(self, sigmas: Sigmas) -> Sigmas:
        """Return by which part each sigma is raised."""
        among = (sigmas >= self.least_sigma) & (sigmas <= self.greatest_sigma)
        return np.where(among, min(self.most / len(sigmas), _MOST_CHURN), 0.0)


class KarrasVeScheduler(TwoStageSampler):
    """Heun steps with churn: Karras et al. 2022, arXiv 2206.00364, algorithm 2, NFE 2n - 1.

    What we decided:

    - Sigmas are the paper's (rho 7) between the model's own least and greatest.
    - s_churn 80, s_noise 1.007, s_tmin 0.05 and s_tmax 50: diffusers' defaults for its class of this name,
      of the size of those in the paper's table 5.
    - Churn never exceeds the model's greatest sigma, as the paper's code rounds to a level that the network knows; so
      the first step takes none.
    - A pipeline evaluates the network between two calls of `step`, so the churn that opens a step is drawn at the end
      of the one before. Where image-to-image begins, its noise goes straight to the churned level: the same
      distribution but for s_noise.
    - With s_churn 0 this is diffusers' HeunDiscreteScheduler with `use_karras_sigmas`.
    """

    @register_to_config
    def __init__(
        self,
        *,
        num_train_timesteps: int = 1000,
        beta_start: float = 0.00085,
        beta_end: float = 0.012,
        beta_schedule: str = "scaled_linear",
        trained_betas: Sequence[float] | None = None,
        prediction_type: str = "epsilon",
        s_churn: float = 80.0,
        s_noise: float = 1.007,
        s_tmin: float = 0.05,
        s_tmax: float = 50.0,
    ) -> None:
        self._model = ModelNoise(
            train_timesteps=num_train_timesteps,
            beta_start=beta_start,
            beta_end=beta_end,
            schedule=beta_schedule,
            betas=trained_betas,
        )
        self._prediction = prediction_type
        self._churn = Churn(most=s_churn, noise=s_noise, least_sigma=s_tmin, greatest_sigma=s_tmax)
        self.set_timesteps(num_train_timesteps)

    def _levels(self, steps: int) -> Sigmas:
        """Return first the churned sigma of a step, then the sigma it goes to."""
        plain = self._model.karras(steps)
        # Above the model's greatest sigma there is none to churn to.
        churned = np.minimum(plain * (1 + self._churn.gammas(plain)), self._model.sigma_max)
        return np.stack([churned, np.roll(plain, -1)], axis=1).ravel()[:-1]

    def _first(
        self,
        index: int,
        x: torch.Tensor,
        clean: torch.Tensor,
        generator: Any,  # noqa: ARG002 - the second evaluation draws
    ) -> torch.Tensor:
        sigma, sigma_next = self.sigmas[index].item(), self.sigmas[index + 1].item()
        self._start, self._slope = x, (x - clean) / sigma
        return x + (sigma_next - sigma) * self._slope

    def _second(self, index: int, x: torch.Tensor, clean: torch.Tensor, generator: Any) -> torch.Tensor:
        sigma, sigma_next, churned = (self.sigmas[index + offset].item() for offset in (-1, 0, 1))
        slope = (self._slope + (x - clean) / sigma_next) / 2
        x = self._start + (sigma_next - sigma) * slope
        if churned > sigma_next:
            x = x + self._churn.noise * (churned**2 - sigma_next**2) ** 0.5 * noise_like(x, generator)
        return x
