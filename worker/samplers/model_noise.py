"""The noise levels a model was trained with, and what its output means at one of them.

Two ways to write a noised picture: variance preserving, `sqrt(a) x0 + sqrt(1 - a) noise`, as the model sees it, and
variance exploding, `x0 + sigma noise`, the same divided by `sqrt(a)`; so `sigma = sqrt((1 - a) / a)`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import torch
from diffusers import DDIMScheduler
from diffusers.utils.torch_utils import randn_tensor
from numpy.typing import NDArray

Sigmas = NDArray[np.float64]

#: Karras et al. 2022, table 1.
KARRAS_RHO: Final = 7.0


class ModelNoise:
    """The sigmas of a model's training timesteps, ascending."""

    def __init__(
        self, *, train_timesteps: int, beta_start: float, beta_end: float, schedule: str, betas: Sequence[float] | None
    ) -> None:
        # diffusers knows the schedules; any of its classes would do.
        known = DDIMScheduler(
            num_train_timesteps=train_timesteps,
            beta_start=beta_start,
            beta_end=beta_end,
            beta_schedule=schedule,
            trained_betas=betas,
        )
        kept = known.alphas_cumprod.double().numpy()
        self._sigmas: Sigmas = np.sqrt((1 - kept) / kept)

    @property
    def sigma_max(self) -> float:
        """The sigma of the last training timestep: the network knows no more noise."""
        return float(self._sigmas[-1])

    def linear(self, steps: int) -> Sigmas:
        """Return sigmas of evenly spaced timesteps from the last to the first, descending."""
        ticks = np.arange(len(self._sigmas), dtype=np.float64)
        return np.interp(np.linspace(ticks[-1], 0, steps), ticks, self._sigmas)

    def geometric(self, steps: int) -> Sigmas:
        """Return sigmas of equal ratio from the model's greatest to its least, descending."""
        return np.geomspace(self._sigmas[-1], self._sigmas[0], steps)

    def karras(self, steps: int) -> Sigmas:
        """Return Karras et al.'s sigmas (2022, equation 5) from the model's greatest to its least, descending."""
        roots = np.linspace(self._sigmas[-1] ** (1 / KARRAS_RHO), self._sigmas[0] ** (1 / KARRAS_RHO), steps)
        return np.asarray(roots**KARRAS_RHO, dtype=np.float64)

    def timesteps(self, sigmas: Sigmas) -> torch.Tensor:
        """Return the fractional timesteps of sigmas, interpolated between their logarithms: (n,) float32."""
        found = np.interp(np.log(sigmas), np.log(self._sigmas), np.arange(len(self._sigmas)))
        return torch.from_numpy(found.astype(np.float32))


def denoised(output: torch.Tensor, sample: torch.Tensor, *, sigma: float, prediction: str) -> torch.Tensor:
    """Return the clean picture that a model's output means for a variance-exploding sample."""
    if prediction == "epsilon":
        return sample - sigma * output
    if prediction == "v_prediction":
        return sample / (sigma**2 + 1) - output * (sigma / (sigma**2 + 1) ** 0.5)
    if prediction == "sample":
        return output
    raise ValueError(f"unknown prediction_type {prediction!r}")


def wide(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor in at least float32: a latent of sigma 14.6 loses three digits in half precision."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def noise_like(sample: torch.Tensor, generator: Any) -> torch.Tensor:
    """Draw one image's noise from each generator: on the CPU for CPU generators, the same for every precision."""
    drawn = randn_tensor(sample.shape, generator=generator, device=sample.device, dtype=torch.float32)
    return drawn.to(sample.dtype)
