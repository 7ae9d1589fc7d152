"""The UNet's first weights: its guess at the noise is the noisy picture itself.

At the noisiest steps that guess is nearly right, and what is left to learn, a faint picture under strong noise, is what
decides layout and colour. A UNet that begins at random spends its first thousand steps on copying its input, and a bad
copy hides exactly that faint picture.

The copy goes from the input convolution through the outermost skip connection to the output convolution. Each latent
channel travels as a pair (+v, -v), and silu(v) - silu(-v) = v; the normalisation between does no harm, since noisy
latents have unit variance at every step.
"""

from __future__ import annotations

import torch
from diffusers import UNet2DConditionModel

from worker.demo_model.architecture import LATENT_CHANNELS

_PAIRED = 2 * LATENT_CHANNELS
#: The other weights on the way out start this much smaller than usual.
_QUIET = 0.3


@torch.no_grad()
def start_as_noise_copy(unet: UNet2DConditionModel) -> None:
    """Overwrite the few weights of a new UNet that the copy passes through."""
    entry, exit_ = unet.conv_in, unet.conv_out
    entry.weight[:_PAIRED] = 0
    entry.bias[:_PAIRED] = 0
    exit_.weight *= _QUIET
    exit_.weight[:, :_PAIRED] = 0
    exit_.bias.zero_()
    for channel in range(LATENT_CHANNELS):
        for index, sign in ((2 * channel, 1.0), (2 * channel + 1, -1.0)):
            entry.weight[index, channel, 1, 1] = sign
            exit_.weight[channel, index, 1, 1] = sign
    last = unet.up_blocks[-1].resnets[-1]
    last.conv2.weight *= _QUIET
    shortcut = last.conv_shortcut
    shortcut.weight[:_PAIRED] = 0
    shortcut.bias[:_PAIRED] = 0
    # The skip connection comes after the deeper layers' channels.
    for index in range(_PAIRED):
        shortcut.weight[index, index - entry.out_channels] = 1
