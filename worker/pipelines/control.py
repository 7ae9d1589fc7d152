"""What ControlNets ask of the tasks: the networks, what they look at, and when and how strongly they work."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from worker.pipelines import Shot

if TYPE_CHECKING:
    from shared.spec import JobSpec
    from worker.engine import Model


def networks(model: Model, spec: JobSpec) -> list[Any]:
    """Return the spec's ControlNets that have an effect, as the model needs them now."""
    return [model.controlnets.get(net.name, model.pipeline.unet) for net in spec.controlnets_used]


def hints(shots: Sequence[Shot]) -> list[torch.Tensor]:
    """Return what each ControlNet looks at, of shape (shots, 3, height, width)."""
    by_net = zip(*(shot.hints for shot in shots), strict=True)
    return [torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2) for pictures in by_net]


def steering(spec: JobSpec) -> dict[str, Any]:
    """Return what diffusers' pipelines are told of the ControlNets that have an effect."""
    nets = spec.controlnets_used
    return {
        "controlnet_conditioning_scale": [float(net.scale) for net in nets],
        "control_guidance_start": [float(net.start) for net in nets],
        "control_guidance_end": [float(net.end) for net in nets],
        "guess_mode": spec.guess_mode,
    }
