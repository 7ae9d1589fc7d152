"""What diffusers' pipelines ask of a scheduler besides its arithmetic: where in the schedule we are."""

from __future__ import annotations

from typing import Any, Final

import torch
from diffusers import ConfigMixin, SchedulerMixin
from diffusers.schedulers.scheduling_utils import KarrasDiffusionSchedulers

#: Configurations of these may be read: keys of theirs that a class lacks are passed over without a warning.
_COMPATIBLE: Final = [kind.name for kind in KarrasDiffusionSchedulers]


class Sampler(SchedulerMixin, ConfigMixin):
    """A scheduler that counts its evaluations.

    `timesteps` has one entry per evaluation of the network, `order` of them for each step. Which entry is next is
    counted on the CPU: asking the tensor in the loop would wait for the accelerator each time.
    """

    order = 1
    _compatibles = _COMPATIBLE
    timesteps: torch.Tensor
    num_inference_steps: int | None = None
    step_index: int | None = None
    begin_index: int | None = None

    def set_begin_index(self, begin_index: int = 0) -> None:
        """Start at this evaluation; image-to-image passes over the first ones."""
        self.begin_index = begin_index

    def __len__(self) -> int:
        return int(self.config.num_train_timesteps)

    def _restart(self, steps: int, timesteps: torch.Tensor, device: Any) -> None:
        self.num_inference_steps = steps
        self.timesteps = timesteps.to(device)
        self.step_index = None
        self.begin_index = None

    def _index(self, timestep: Any) -> int:
        """Return the evaluation that `timestep` stands for; only the first call of a run has to look."""
        if self.step_index is None:
            self.step_index = self._look_up(timestep) if self.begin_index is None else self.begin_index
        return self.step_index

    def _noised_to(self, timesteps: Any) -> int:
        """Return the evaluation whose noise `add_noise` is asked for."""
        if self.step_index is not None:
            return self.step_index
        return self._look_up(timesteps[0]) if self.begin_index is None else self.begin_index

    def _look_up(self, timestep: Any) -> int:
        """Return the first evaluation of the step at `timestep`; several may share a timestep."""
        found = (self.timesteps[:: self.order] == timestep).nonzero()
        if len(found) == 0:
            raise ValueError(f"timestep {timestep} is not in the schedule")
        return int(found[0]) * self.order
