"""The demo model's parts: SD 1.5's classes and layout, thousands of times smaller.

Three choices are not SD 1.5's. The VAE normalises over all channels at once: over flat pictures, several groups erase
colour. The UNet has one level more for its size, so that the bottleneck of a 512 px picture is 8x8 and attends to the
whole of it. Attention at full latent resolution exists once, on the way down: enough for token merging to act on, cheap
enough for a CPU.
"""

from __future__ import annotations

from typing import Any

from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPVisionConfig

from worker.demo_model.tokenizer import MAX_TOKENS, vocabulary_size

TEXT_WIDTH = 128
#: One more than the deepest clip_skip on offer (8), so that even that one leaves a layer.
TEXT_LAYERS = 9
PROJECTION_WIDTH = 64
#: Side of the pictures the vision tower sees, in pixels.
VISION_SIDE = 128
#: Pictures are divided by this in each direction on their way to latents.
VAE_FACTOR = 8
LATENT_CHANNELS = 4

#: SD 1.5's own scheduler_config.json, key for key. No timestep_spacing: it would leak into every other scheduler.
SCHEDULER_CONFIG: dict[str, Any] = {
    "_class_name": "PNDMScheduler",
    "_diffusers_version": "0.6.0",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "trained_betas": None,
    "clip_sample": False,
}

#: Per channel, over CLIP's training pictures; the vision tower's input is normalised by them.
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_DEVIATION = (0.26862954, 0.26130258, 0.27577711)

#: SD 1.5's preprocessor_config.json but for the side: what the safety checker looks at.
FEATURE_EXTRACTOR_CONFIG: dict[str, Any] = {
    "crop_size": {"height": VISION_SIDE, "width": VISION_SIDE},
    "do_center_crop": True,
    "do_convert_rgb": True,
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": CLIP_MEAN,
    "image_std": CLIP_DEVIATION,
    "image_processor_type": "CLIPImageProcessor",
    "resample": 3,
    "rescale_factor": 1 / 255,
    "size": {"shortest_edge": VISION_SIDE},
}


def text_config() -> CLIPTextConfig:
    """CLIP's text tower: thin but deep, so that skipping its last layers means something."""
    size = vocabulary_size()
    return CLIPTextConfig(
        vocab_size=size, hidden_size=TEXT_WIDTH, intermediate_size=2 * TEXT_WIDTH, num_hidden_layers=TEXT_LAYERS,
        num_attention_heads=4, max_position_embeddings=MAX_TOKENS, projection_dim=PROJECTION_WIDTH,
        bos_token_id=size - 2, eos_token_id=size - 1, pad_token_id=size - 1,
    )  # fmt: skip


def vision_config() -> CLIPVisionConfig:
    """CLIP's vision tower: 64 patches, 16 px each, of a 128 px picture."""
    return CLIPVisionConfig(
        hidden_size=128, intermediate_size=256, num_hidden_layers=6, num_attention_heads=4, image_size=VISION_SIDE,
        patch_size=16, projection_dim=PROJECTION_WIDTH,
    )  # fmt: skip


def build_clip() -> CLIPModel:
    """Both towers with their projections, as trained contrastively."""
    config = CLIPConfig(
        text_config=text_config().to_dict(), vision_config=vision_config().to_dict(), projection_dim=PROJECTION_WIDTH
    )
    return CLIPModel(config)


def build_vae() -> AutoencoderKL:
    """Pictures (n, 3, h, w) in -1..1 to latents (n, 4, h/8, w/8) and back."""
    return AutoencoderKL(
        block_out_channels=(16, 32, 64, 80), layers_per_block=1, latent_channels=LATENT_CHANNELS, sample_size=512,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        norm_num_groups=1, mid_block_add_attention=False,
    )  # fmt: skip


def build_unet() -> UNet2DConditionModel:
    """Noisy latents (n, 4, h, w), timesteps (n,) and text (n, 77, 128) to the noise in the latents."""
    return UNet2DConditionModel(
        sample_size=64, in_channels=LATENT_CHANNELS, out_channels=LATENT_CHANNELS,
        block_out_channels=(32, 64, 128, 144), layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=TEXT_WIDTH, attention_head_dim=(1, 2, 4, 4), norm_num_groups=4,
    )  # fmt: skip
