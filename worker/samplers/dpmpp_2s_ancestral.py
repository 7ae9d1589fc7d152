"""DPM-Solver++(2S) with ancestral noise."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from diffusers.configuration_utils import register_to_config

from worker.samplers.model_noise import ModelNoise, Sigmas, noise_like
from worker.samplers.two_stage import TwoStageSampler


class DPMPP2SAncestralScheduler(TwoStageSampler):
    """DPM-Solver++(2S) with ancestral noise: Lu et al. 2022, arXiv 2211.01095, algorithm 1, NFE 2n - 1.

    What we decided:

    - Each step goes by the second-order solver, its middle at half of log sigma (r = 1/2), to a sigma below the next
      one, and up again by fresh noise; eta 1 scales that noise. It is the sampler that Stable Diffusion's users know
      as "DPM++ 2S a" (Crowson's k-diffusion).
    - Sigmas are those of evenly spaced timesteps; `use_karras_sigmas` and `use_exponential_sigmas` as in diffusers.
    - The step to sigma 0 is of first order: it returns the denoised sample.
    - With eta 0 a step from sigma a to b is diffusers' DPMSolverSinglestepScheduler of order 2 going from a over
      sqrt(a b) to b: on exponential sigmas its n - 1 pairs of steps are our n - 1 steps, and the samples are equal.
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
        use_karras_sigmas: bool = False,
        use_exponential_sigmas: bool = False,
        eta: float = 1.0,
    ) -> None:
        if use_karras_sigmas and use_exponential_sigmas:
            raise ValueError("only one of use_karras_sigmas and use_exponential_sigmas can be used")
        if not 0 <= eta <= 1:
            raise ValueError("eta goes from 0 to 1")
        self._model = ModelNoise(
            train_timesteps=num_train_timesteps,
            beta_start=beta_start,
            beta_end=beta_end,
            schedule=beta_schedule,
            betas=trained_betas,
        )
        self._prediction = prediction_type
        self._grid = self._model.linear
        if use_karras_sigmas or use_exponential_sigmas:
            self._grid = self._model.karras if use_karras_sigmas else self._model.geometric
        self._eta = eta
        self.set_timesteps(num_train_timesteps)

    def _levels(self, steps: int) -> Sigmas:
        """Return the sigmas of the steps, each but the last followed by that of its middle."""
        sigmas = self._grid(steps)
        down = [self._split(a, b)[0] for a, b in itertools.pairwise(sigmas)]
        levels = np.empty(2 * steps - 1)
        levels[0::2], levels[1::2] = sigmas, np.sqrt(sigmas[:-1] * down)
        return levels

    def _first(
        self,
        index: int,
        x: torch.Tensor,
        clean: torch.Tensor,
        generator: Any,  # noqa: ARG002 - the second evaluation draws
    ) -> torch.Tensor:
        kept = self.sigmas[index + 1].item() / self.sigmas[index].item()
        self._start = x
        return clean + kept * (x - clean)

    def _second(self, index: int, x: torch.Tensor, clean: torch.Tensor, generator: Any) -> torch.Tensor:
        sigma, sigma_next = self.sigmas[index - 1].item(), self.sigmas[index + 1].item()
        down, up = self._split(sigma, sigma_next)
        # exp(-h) of the paper is the ratio of the sigmas.
        x = clean + down / sigma * (self._start - clean)
        return x + up * noise_like(x, generator) if up > 0 else x

    def _split(self, sigma: float, sigma_next: float) -> tuple[float, float]:
        """Return the sigma a step goes down to, and that of the noise which then lifts it to the next one."""
        up = min(sigma_next, self._eta * sigma_next * (1 - (sigma_next / sigma) ** 2) ** 0.5)
        return float((sigma_next**2 - up**2) ** 0.5), float(up)
