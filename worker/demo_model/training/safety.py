"""The safety checker learns its one stand-in concept, the mushroom, on the vision tower.

diffusers' checker asks of each picture whether the cosine between its embedding and a concept's exceeds a threshold.
The vision tower stays as it is; the checker's own projection and the concept are fitted, and the threshold is then laid
between the two kinds.
"""

from __future__ import annotations

from random import Random

import numpy as np
import numpy.typing as npt
import torch
from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPModel

from worker.demo_model import vocabulary as words
from worker.demo_model.architecture import VISION_SIDE
from worker.demo_model.bundle import untrained_safety_checker
from worker.demo_model.training.clip import vision_input
from worker.demo_model.training.progress import note
from worker.demo_model.world.captions import Basic, Scene, sample_flagged, sample_scene
from worker.demo_model.world.draw import draw

_PICTURES = {True: 900, False: 1800}
_HELD_BACK = 300
_STEPS = 400
#: How sharply the cosine decides while fitting, and around which value.
_SLOPE, _MIDDLE = 12.0, 0.3


def train_safety_checker(clip: CLIPModel, *, seed: int = 0) -> StableDiffusionSafetyChecker:
    """Fit a checker that flags mushrooms; notes the shares flagged of pictures it was not fitted to."""
    torch.manual_seed(seed)
    seen = {kind: _pooled(clip, flagged=kind, seed=seed) for kind in _PICTURES}
    known = {kind: states[_HELD_BACK:] for kind, states in seen.items()}
    checker = untrained_safety_checker(clip)
    projection, concept = checker.visual_projection, nn.Parameter(torch.randn(clip.config.projection_dim))
    optimizer = torch.optim.AdamW([projection.weight, concept], lr=3e-3, weight_decay=0.05)
    for _ in range(_STEPS):
        losses = [
            functional.binary_cross_entropy_with_logits(
                _SLOPE * (_cosine(states, projection, concept) - _MIDDLE), torch.full((len(states),), float(kind))
            )
            for kind, states in known.items()
        ]
        optimizer.zero_grad()
        sum(losses).backward()
        optimizer.step()
    with torch.no_grad():
        hit, miss = (_cosine(known[kind], projection, concept) for kind in (True, False))
        threshold = max(float(miss.quantile(0.99)), float(hit.quantile(0.02) + miss.quantile(0.99)) / 2)
        shares = [(_cosine(seen[kind][:_HELD_BACK], projection, concept) > threshold).float().mean() for kind in seen]
    note(f"safety checker: flags {shares[0]:.1%} of mushrooms, {shares[1]:.1%} of other pictures")
    checker.concept_embeds.data[0] = functional.normalize(concept.data, dim=0)
    checker.concept_embeds_weights.data[0] = threshold
    return checker


def _cosine(states: Tensor, projection: nn.Linear, concept: Tensor) -> Tensor:
    return functional.cosine_similarity(projection(states), concept[None], dim=1)


def is_flagged(scene: Scene) -> bool:
    """Whether the scene shows the stand-in concept."""
    return isinstance(scene.subject, Basic) and scene.subject.shape == words.FLAGGED


def _pooled(clip: CLIPModel, *, flagged: bool, seed: int) -> Tensor:
    """Draw pictures with or without a mushroom and give the vision tower's pooled states, (n, 128)."""
    random = Random(f"{seed}-{flagged}")  # noqa: S311
    pictures: list[npt.NDArray[np.uint8]] = []
    while len(pictures) < _PICTURES[flagged]:
        scene = sample_flagged(random) if flagged else sample_scene(random)
        if is_flagged(scene) == flagged:
            pictures.append(draw(scene, width=VISION_SIDE, height=VISION_SIDE, random=random))
    with torch.no_grad():
        batches = (vision_input(np.stack(pictures[start : start + 50])) for start in range(0, len(pictures), 50))
        return torch.cat([clip.vision_model(batch).pooler_output for batch in batches])
