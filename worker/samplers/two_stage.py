"""Samplers that evaluate the network twice a step, on the variance-exploding form `x0 + sigma noise`."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
import torch
from diffusers.schedulers.scheduling_utils import SchedulerOutput

from worker.samplers.model_noise import ModelNoise, Sigmas, denoised, wide
from worker.samplers.protocol import Sampler


class TwoStageSampler(Sampler):
    """The first evaluation of each step, then the second; where the first one ends at sigma 0, it is the last.

    `sigmas` holds the noise of the sample at each evaluation, then 0: float64, on the CPU.
    """

    order = 2
    sigmas: torch.Tensor
    _model: ModelNoise
    _prediction: str
    _start: torch.Tensor | None = None

    def set_timesteps(self, num_inference_steps: int, device: Any = None) -> None:
        """Lay out so many steps. `ValueError` below one."""
        if num_inference_steps < 1:
            raise ValueError("a run has at least one step")
        sigmas = self._levels(num_inference_steps)
        self.sigmas = torch.from_numpy(np.append(sigmas, 0.0))
        self._start = None
        self._restart(num_inference_steps, self._model.timesteps(sigmas), device)

    @property
    def init_noise_sigma(self) -> float:
        """What standard noise is multiplied with to start."""
        return float(self.sigmas[0])

    def scale_model_input(self, sample: torch.Tensor, timestep: Any) -> torch.Tensor:
        """Return the sample in the variance-preserving form the network was trained on."""
        sigma = float(self.sigmas[self._index(timestep)])
        return sample / (sigma**2 + 1) ** 0.5

    def step(
        self,
        model_output: torch.Tensor,
        timestep: Any,
        sample: torch.Tensor,
        generator: Any = None,
        return_dict: bool = True,  # noqa: FBT001, FBT002 - diffusers' signature
    ) -> SchedulerOutput | tuple[torch.Tensor]:
        """Return the sample at the next evaluation; shapes and precision stay as they are."""
        index = self._index(timestep)
        x = wide(sample)
        clean = denoised(wide(model_output), x, sigma=float(self.sigmas[index]), prediction=self._prediction)
        advance = self._second if index % self.order else self._first
        following = advance(index, x, clean, generator).to(sample.dtype)
        self.step_index = index + 1
        return SchedulerOutput(prev_sample=following) if return_dict else (following,)

    def add_noise(self, original_samples: torch.Tensor, noise: torch.Tensor, timesteps: Any) -> torch.Tensor:
        """Return clean latents noised to the level of the coming evaluation."""
        return original_samples + noise * float(self.sigmas[self._noised_to(timesteps)])

    @abstractmethod
    def _levels(self, steps: int) -> Sigmas:
        """Return the sigma of the sample at each evaluation."""

    @abstractmethod
    def _first(self, index: int, x: torch.Tensor, clean: torch.Tensor, generator: Any) -> torch.Tensor:
        """Return the sample for the second evaluation of the step that starts at `index`."""

    @abstractmethod
    def _second(self, index: int, x: torch.Tensor, clean: torch.Tensor, generator: Any) -> torch.Tensor:
        """Return the sample that the step ends with."""
