"""Lets the UNet hear every word of a caption equally loudly while it learns.

The text tower's embeddings vary a hundred times more with the background's colour than with the shape, and what varies
little is learnt late: a step changes each weight by about as much whatever it is multiplied with. So the projections
that read the captions learn in other coordinates, in which the embeddings vary by one along each axis (PCA whitening).
Nothing else changes: what a layer computes is the same, and in a bundle its weights are the usual ones.
"""

from __future__ import annotations

from random import Random

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn
from torch.nn.utils import parametrize
from transformers import CLIPTextModel, CLIPTokenizer

from worker.demo_model.architecture import TEXT_WIDTH
from worker.demo_model.training.text_table import encode
from worker.demo_model.world.captions import sample_scene

_CAPTIONS = 512
#: Added to each axis' mean square, so that what varies by rounding alone is not blown up.
_FLOOR = 0.005


class Whitened(nn.Module):
    """A weight (out, 128) as the product of one that learns and a fixed change of coordinates."""

    def __init__(self, axes: Tensor, inverse: Tensor) -> None:
        super().__init__()
        self.register_buffer("axes", axes)
        self.register_buffer("inverse", inverse)

    def forward(self, learnt: Tensor) -> Tensor:
        """Return the usual weight."""
        return learnt @ self.axes

    def right_inverse(self, weight: Tensor) -> Tensor:
        """Return what learns for a usual weight."""
        return weight @ self.inverse


def whiten(unet: UNet2DConditionModel, encoder: tuple[CLIPTextModel, CLIPTokenizer] | None = None) -> None:
    """Change the coordinates in which the UNet's caption projections learn; without an encoder, for loading alone."""
    axes, inverse = axes_of(encoder) if encoder else (torch.eye(TEXT_WIDTH), torch.eye(TEXT_WIDTH))
    for layer in _readers(unet):
        parametrize.register_parametrization(layer, "weight", Whitened(axes, inverse))


def settle(unet: UNet2DConditionModel) -> None:
    """Turn the projections back into usual ones that compute the same."""
    for layer in _readers(unet):
        parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)


def _readers(unet: UNet2DConditionModel) -> list[nn.Module]:
    return [layer for name, layer in unet.named_modules() if name.endswith(("attn2.to_k", "attn2.to_v"))]


def axes_of(encoder: tuple[CLIPTextModel, CLIPTokenizer]) -> tuple[Tensor, Tensor]:
    """Return the change of coordinates, (128, 128), and its inverse; words and padding count alike."""
    random = Random(0)  # noqa: S311
    captions = [sample_scene(random).caption() for _ in range(_CAPTIONS)]
    hidden = encode(captions, encoder).double()
    words = torch.tensor([len(ids) for ids in encoder[1](captions).input_ids])
    is_word = torch.arange(hidden.shape[1]) < words[:, None]
    square = sum(part.T @ part / len(part) for part in (hidden[is_word], hidden[~is_word])) / 2
    squares, directions = torch.linalg.eigh(square)
    scales = (squares.clamp(min=0) + _FLOOR).sqrt()
    return (directions / scales).T.float(), (directions * scales).float()
