"""DPM-Solver++ SDE is diffusers' own; what it needs is a seed for each image, and its noise from the CPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import diffusers
import torch
from diffusers.schedulers.scheduling_dpmsolver_sde import BrownianTreeNoiseSampler


class DPMSolverSDEScheduler(diffusers.DPMSolverSDEScheduler):
    """DPM-Solver++ with Brownian noise: Lu et al. 2022, arXiv 2211.01095, NFE 2n - 1.

    What we decided: everything is diffusers', but the Brownian path is drawn on the CPU in float32. There the path of
    a seed would be another one on each kind of device and in each precision; on the CPU in float32 nothing changes.
    """

    noise_sampler: Any

    def step(self, model_output: torch.Tensor, timestep: Any, sample: torch.Tensor, **options: Any) -> Any:
        """Walk one evaluation on; the first of a run lays out the path of each image."""
        if self.noise_sampler is None:
            self.noise_sampler = self._path(sample)
        return super().step(model_output, timestep, sample, **options)

    def _path(self, sample: torch.Tensor) -> Any:
        sigmas = self.sigmas[self.sigmas > 0]
        like = torch.empty(sample.shape, dtype=torch.float32)
        tree = BrownianTreeNoiseSampler(like, sigmas.min().item(), sigmas.max().item(), self.noise_sampler_seed)
        return lambda sigma, sigma_next: tree(sigma, sigma_next).to(sample)


def dpm_solver_sde(own_config: Mapping[str, Any], *, seeds: Sequence[int], **options: Any) -> DPMSolverSDEScheduler:
    """Return the scheduler for images of these seeds, in order.

    Its noise ignores the pipeline's generators. With a list of seeds each image has a path of its own and comes out
    the same alone and in a batch; with one number, or none, it does not. The list must be as long as the batch, so a
    scheduler is made anew for each.
    """
    made: DPMSolverSDEScheduler
    made = DPMSolverSDEScheduler.from_config(dict(own_config), noise_sampler_seed=list(seeds), **options)
    return made
