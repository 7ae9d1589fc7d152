"""The autoencoder's first weights: latents that are the mean colour of each 8x8 block, decoded smoothly.

From random weights an autoencoder this small takes thousands of steps to discover colour. Started here it has every
colour right before its first step, and all of its training goes into what happens inside a block. Its latents stay
close to mean colours, which is also the easiest thing for a UNet to learn.

How a colour gets through layers that normalise and bend it: each of its channels travels as a pair (+v, -v), and
silu(v) - silu(-v) = v exactly. A few constant channels, far larger than the colours, make the variance that the last
normalisation divides by almost the same for every picture.
"""

from __future__ import annotations

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

from worker.demo_model.architecture import LATENT_CHANNELS

_COLOURS = 3
_PAIRED = 2 * _COLOURS
#: Constant channels, half of them negative, and their size.
_CONSTANTS = torch.tensor([2.0, -2.0, 2.0, -2.0])
_CARRIED = _PAIRED + len(_CONSTANTS)
#: Mean square of a colour channel (-1..1) over the world's pictures, roughly.
_COLOUR_POWER = 0.35
#: The other, random, weights start this much smaller than usual, so that they disturb little.
_QUIET = 0.3
#: What the encoder's log variance starts at. At 0 the latents would drown in noise.
_FIRST_LOG_VARIANCE = -6.0


@torch.no_grad()
def start_as_block_means(vae: AutoencoderKL) -> None:
    """Overwrite the weights of a new autoencoder; its random ones stay where nothing is carried."""
    for half in (vae.encoder, vae.decoder):
        _quieten_residuals(half)
        _carry_colours(half)
        _start_pairs(half.conv_in)
        _end_pairs(half)
    for block in vae.encoder.down_blocks:
        for sampler in block.downsamplers or ():
            _carry(sampler.conv, _quarter())
    for block in vae.decoder.up_blocks:
        for sampler in block.upsamplers or ():
            _carry(sampler.conv, _blur())
    moments = vae.encoder.conv_out
    moments.weight[LATENT_CHANNELS:] *= 0.1
    moments.bias[LATENT_CHANNELS:] = _FIRST_LOG_VARIANCE
    for pointwise in (vae.quant_conv, vae.post_quant_conv):
        pointwise.weight.copy_(torch.eye(len(pointwise.weight))[..., None, None])
        pointwise.bias.zero_()


def _quieten_residuals(half: nn.Module) -> None:
    for name, convolution in half.named_modules():
        if name.endswith("conv2"):
            convolution.weight *= _QUIET
            convolution.bias.zero_()


def _carry_colours(half: nn.Module) -> None:
    for name, convolution in half.named_modules():
        if name.endswith("conv_shortcut"):
            _carry(convolution, _centre(1))


def _carry(convolution: nn.Conv2d, kernel: Tensor) -> None:
    """Pass the carried channels on, each through `kernel`; the rest stays random."""
    convolution.weight[:_CARRIED] = 0
    convolution.bias[:_CARRIED] = 0
    for channel in range(_CARRIED):
        convolution.weight[channel, channel] = kernel


def _start_pairs(convolution: nn.Conv2d) -> None:
    """Colours 0..2 of the input become the pairs; the constants come from the bias."""
    convolution.weight[:_CARRIED] = 0
    convolution.weight[_CARRIED:] *= _QUIET
    convolution.bias[:_CARRIED] = 0
    for colour in range(_COLOURS):
        convolution.weight[2 * colour, colour] = _centre(3)
        convolution.weight[2 * colour + 1, colour] = -_centre(3)
    convolution.bias[_PAIRED:_CARRIED] = _CONSTANTS


def _end_pairs(half: nn.Module) -> None:
    """Undo the last normalisation's scale and give colour c as silu(+v) - silu(-v)."""
    power = (_PAIRED * _COLOUR_POWER + _CONSTANTS.square().sum()) / half.conv_norm_out.num_channels
    half.conv_norm_out.weight.fill_(power.sqrt())
    for colour in range(_COLOURS):
        half.conv_out.weight[colour] = 0
        half.conv_out.weight[colour, 2 * colour] = _centre(3)
        half.conv_out.weight[colour, 2 * colour + 1] = -_centre(3)
        half.conv_out.bias[colour] = 0


def _centre(side: int) -> Tensor:
    kernel = torch.zeros(side, side)
    kernel[side // 2, side // 2] = 1
    return kernel


def _blur() -> Tensor:
    """Make doubling by repetition smooth: edges are learnt far sooner from a slope than from a staircase."""
    row = torch.tensor([0.25, 0.5, 0.25])
    return torch.outer(row, row)


def _quarter() -> Tensor:
    """Average the 2x2 pixels that a stride-2 convolution with diffusers' padding begins at."""
    kernel = torch.zeros(3, 3)
    kernel[:2, :2] = 0.25
    return kernel
