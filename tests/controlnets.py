"""ControlNets of random weights, which steer nowhere in particular but visibly."""

import torch
from diffusers import ControlNetModel, UNet2DConditionModel

#: Deviation of the weights that a new ControlNet has at zero.
EFFECT = 0.2


def random_controlnet(bundle, folder, *, seed):
    """Write a ControlNet for the bundle's UNet, its weights drawn from the seed; return its folder."""
    unet = UNet2DConditionModel.from_pretrained(bundle / "unet", dtype=torch.float32)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = ControlNetModel.from_unet(unet)
        zeros = (*net.controlnet_down_blocks, net.controlnet_mid_block, net.controlnet_cond_embedding.conv_out)
        for layer in zeros:
            torch.nn.init.normal_(layer.weight, std=EFFECT)
            torch.nn.init.normal_(layer.bias, std=EFFECT)
    net.save_pretrained(folder)
    return folder
