"""DDIM inversion: the noise that an init image comes from, found by running DDIM backwards, then sampled anew."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Final, cast

import diffusers
import torch
from diffusers import DDIMScheduler

#: Latents and timestep to the network's output at guidance 1.
Predict = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

_NO_IMAGE: Final = "nothing was inverted: this scheduler needs an init image"


class DDIMInverseScheduler(DDIMScheduler):
    """DDIM from an inverted init image: Song et al. 2021, arXiv 2010.02502, section 4.3.

    What we decided:

    - Where other schedulers noise the init latents, this one walks the probability-flow ODE up through the levels that
      sampling will walk down: `invert` first, and the pipelines' `add_noise` answers with what it found. Strength says
      how far up. No noise is drawn, a seed has no effect, and without an init image there is nothing to invert.
    - The walk up is diffusers' own DDIMInverseScheduler at guidance 1, the walk down plain DDIM at eta 0: NFE
      2 int(n strength). The two cancel but for an error of first order in the step, and for guidance.
    - In inpainting the kept area follows the inversion's own path, which ends in the init latents.
    """

    _path: dict[int, torch.Tensor] | None = None

    def invert(self, latents: torch.Tensor, predict: Predict, *, steps: int, strength: float) -> torch.Tensor:
        """Walk init latents up over the first `max(1, int(steps * strength))` steps and keep the way.

        `latents` has shape (images, channels, height, width) and is scaled as the pipelines scale it; `predict` takes
        such latents and a timestep. Returns the last, noisiest ones.
        """
        taken = inspect.signature(diffusers.DDIMInverseScheduler).parameters
        upward = diffusers.DDIMInverseScheduler(**{key: value for key, value in self.config.items() if key in taken})
        upward.set_timesteps(steps, device=latents.device)
        self._path = {}
        count = max(1, int(steps * strength))
        for number, timestep in zip(upward.timesteps[:count].tolist(), upward.timesteps, strict=False):
            latents = upward.step(predict(latents, timestep), number, latents, return_dict=False)[0]
            self._path[number] = latents
        return latents

    def add_noise(
        self,
        original_samples: torch.Tensor,
        noise: torch.Tensor,  # noqa: ARG002 - the way up needs none
        timesteps: Any,
    ) -> torch.Tensor:
        """Return the init latents as they were at a timestep on their way up. `ValueError` before `invert`."""
        if self._path is None:
            raise ValueError(_NO_IMAGE)
        return self._path[int(timesteps[0])].to(original_samples)

    def step(self, model_output: torch.Tensor, timestep: Any, sample: torch.Tensor, **options: Any) -> Any:
        """Walk one step down, as DDIM. `ValueError` before `invert`: from plain noise this would be DDIM itself."""
        if self._path is None:
            raise ValueError(_NO_IMAGE)
        return super().step(model_output, timestep, sample, **options)


def unet_prediction(unet: Any, embeddings: torch.Tensor) -> Predict:
    """Return a network's prediction under prompt embeddings of shape (images, tokens, width), without guidance."""

    def predict(latents: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        output = unet(latents, timestep, encoder_hidden_states=embeddings, return_dict=False)[0]
        return cast("torch.Tensor", output)

    return predict
