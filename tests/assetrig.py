"""Small LoRAs, VAEs, textual inversions and checkpoints of seeded random weights, in the formats that people have."""

from pathlib import Path

import diffusers
import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save_file

from shared.catalog import Catalog
from shared.settings import Settings
from worker.engine import Engine

NOTHING = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
TEXT = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")


def plain(bundle):
    """Return diffusers' own pipeline of a bundle."""
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(bundle, dtype=torch.float32, **NOTHING)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def layers(network, endings):
    return {name: module for name, module in network.named_modules() if name.endswith(endings)}


def matrices(module, rank, draws, size=0.5):
    """Return the two factors of a layer's change."""
    if isinstance(module, torch.nn.Linear):
        down, up = (rank, module.in_features), (module.out_features, rank)
    else:
        down = (rank, module.in_channels, *module.kernel_size)
        up = (module.out_channels, rank, 1, 1)
    factors = torch.randn(down, generator=draws), torch.randn(up, generator=draws)
    return tuple(size * factor / factor[0].numel() ** 0.5 for factor in factors)


def peft_lora(path, pipeline, *, rank=4, seed=0, text=True):
    """Write a LoRA of attention layers, and the text encoder's, as diffusers saves them."""
    draws = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, module in layers(pipeline.unet, ATTENTION).items():
        down, up = matrices(module, rank, draws)
        tensors |= {f"unet.{name}.lora_A.weight": down, f"unet.{name}.lora_B.weight": up}
    for name, module in layers(pipeline.text_encoder, TEXT[:4]).items() if text else ():
        down, up = matrices(module, rank, draws)
        prefix = f"text_encoder.text_model.{name}"
        tensors |= {f"{prefix}.lora_A.weight": down, f"{prefix}.lora_B.weight": up}
    save_file(tensors, path)
    return path


def kohya_lora(
    path, pipeline, *, rank=4, alpha=2.0, seed=1, unet=(*ATTENTION, "conv1", "conv2", "conv_shortcut"), text=TEXT
):
    """Write a LoRA in the names of kohya's scripts, convolutions and the text encoder's attention included."""
    draws = torch.Generator().manual_seed(seed)
    tensors = {}
    for prefix, network, endings in (
        ("lora_unet_", pipeline.unet, unet),
        ("lora_te_text_model_", pipeline.text_encoder, text),
    ):
        for name, module in layers(network, endings).items() if endings else ():
            down, up = matrices(module, rank, draws)
            flat = prefix + name.replace(".", "_")
            tensors |= {
                f"{flat}.lora_down.weight": down,
                f"{flat}.lora_up.weight": up,
                f"{flat}.alpha": torch.tensor(alpha),
            }
    save_file(tensors, path)
    return path


def inversion(path, *, count=3, width=128, seed=0, name="emb_params"):
    vectors = torch.randn(count, width, generator=torch.Generator().manual_seed(seed))
    save_file({name: vectors}, path)
    return vectors


def contrast_vae(folder, bundle, *, factor=1.5):
    """Write a VAE whose pictures have more contrast."""
    vae = AutoencoderKL.from_pretrained(bundle, subfolder="vae")
    with torch.no_grad():
        vae.decoder.conv_out.weight *= factor
        vae.decoder.conv_out.bias *= factor
    vae.save_pretrained(folder)
    return vae


def engine(folder, catalog, **settings):
    """Return an engine of a catalog's text."""
    (folder / "models.toml").write_text(catalog)
    found = Settings(**{"data_dir": folder, "device": "cpu", "models_catalog": folder / "models.toml", **settings})
    return Engine(found, Catalog.load(found))


def tensors(place):
    return {
        key: tensor for file in sorted(Path(place).rglob("*.safetensors")) for key, tensor in load_file(file).items()
    }


def single_file(path, bundle):
    """Write a bundle as one file in the original layout, with what such files hold beside networks."""
    pipeline = plain(bundle)
    found = {
        f"model.diffusion_model.{_ldm_unet(key, pipeline.unet)}": t for key, t in pipeline.unet.state_dict().items()
    }
    found |= {f"first_stage_model.{_ldm_vae(key)}": t for key, t in pipeline.vae.state_dict().items()}
    prefix = "cond_stage_model.transformer.text_model."
    text = pipeline.text_encoder.state_dict()
    found |= {prefix + key.removeprefix("text_model."): t for key, t in text.items()}
    found |= {"betas": torch.zeros(1000), "model_ema.decay": torch.zeros(1)}
    found[f"{prefix}embeddings.position_ids"] = torch.arange(77)[None]
    save_file({key: tensor.clone().contiguous() for key, tensor in found.items()}, path)
    return path


def _ldm_unet(key, unet):
    per_block = unet.config["layers_per_block"] + 1
    head, _, rest = key.partition(".")
    heads = {"conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2"}
    if head in heads:
        return f"{heads[head]}.{rest}"
    if head == "time_embedding":
        return rest.replace("linear_1", "time_embed.0").replace("linear_2", "time_embed.2")
    if head == "mid_block":
        kind, index, rest = rest.split(".", 2)
        return f"middle_block.{1 if kind == 'attentions' else 2 * int(index)}.{_ldm_resnet(kind, rest)}"
    block, kind, index, rest = rest.split(".", 3)
    block, index, down = int(block), int(index), head == "down_blocks"
    if kind == "downsamplers":
        return f"input_blocks.{per_block * (block + 1)}.0.{rest.replace('conv', 'op')}"
    if kind == "upsamplers":
        attends = getattr(unet.up_blocks[block], "attentions", None) is not None
        return f"output_blocks.{per_block * block + per_block - 1}.{2 if attends else 1}.{rest}"
    place = f"input_blocks.{per_block * block + index + 1}" if down else f"output_blocks.{per_block * block + index}"
    return f"{place}.{1 if kind == 'attentions' else 0}.{_ldm_resnet(kind, rest)}"


def _ldm_resnet(kind, rest):
    if kind == "attentions":
        return rest
    names = {"norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0",
             "conv2": "out_layers.3", "conv_shortcut": "skip_connection"}  # fmt: skip
    name, _, end = rest.partition(".")
    return f"{names[name]}.{end}"


def _ldm_vae(key):
    side, _, rest = key.partition(".")
    if rest.startswith(("down_blocks", "up_blocks")):
        head, block, kind, index, rest = rest.split(".", 4)
        place = f"down.{block}" if head == "down_blocks" else f"up.{3 - int(block)}"
        kinds = {"resnets": f"block.{index}", "downsamplers": "downsample", "upsamplers": "upsample"}
        rest = f"{place}.{kinds[kind]}.{rest}"
    elif rest.startswith("mid_block.resnets"):
        _, _, index, rest = rest.split(".", 3)
        rest = f"mid.block_{int(index) + 1}.{rest}"
    return f"{side}.{rest}".replace("conv_shortcut", "nin_shortcut").replace("conv_norm_out", "norm_out")
