"""What a picture was made with: the record's effective parameters, and the texts that go into its file.

Only what had an effect appears, with its value as used. Nothing here may tell whose job it was or when it ran: equal
parameters give equal bytes.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final

from shared.spec import JobSpec, Task, canonical_json
from worker.wording import worded

#: At this guidance or less there is none: the unconditional half would cancel out.
NO_GUIDANCE: Final = 1.0
LOSSY_FORMATS: Final = frozenset({"jpeg", "webp"})

#: class -> the name that AUTOMATIC1111's web UI and the tools around it use
SAMPLERS: Final[dict[str, str]] = {
    "DDPMScheduler": "DDPM",
    "DDIMScheduler": "DDIM",
    "PNDMScheduler": "PLMS",
    "LMSDiscreteScheduler": "LMS",
    "EulerDiscreteScheduler": "Euler",
    "EulerAncestralDiscreteScheduler": "Euler a",
    "DPMSolverMultistepScheduler": "DPM++ 2M",
    "HeunDiscreteScheduler": "Heun",
    "KDPM2DiscreteScheduler": "DPM2",
    "DPMSolverSinglestepScheduler": "DPM++ 2S",
    "KDPM2AncestralDiscreteScheduler": "DPM2 a",
    "UniPCMultistepScheduler": "UniPC",
    "DEISMultistepScheduler": "DEIS",
    "LCMScheduler": "LCM",
    "DPMSolverSDEScheduler": "DPM++ SDE",
    "DPMPP2SAncestralScheduler": "DPM++ 2S a",
    "IPNDMScheduler": "IPNDM",
}
_SDE: Final = "sde-"


def guided(spec: JobSpec) -> bool:
    """Whether the negative prompt has an effect."""
    return spec.guidance_scale > NO_GUIDANCE


def effective(
    spec: JobSpec, scheduler: Mapping[str, Any], *, inputs: Mapping[str, str] | None = None, safety: str | None = None
) -> dict[str, Any]:
    """Return a job's effective parameters.

    `scheduler` holds the fields that the scheduler used tells of itself, `inputs` what is told of the job's images,
    `safety` how its pictures were checked; where it is None, as the spec asks.
    """
    seeds = spec.image_seeds()
    found: dict[str, Any] = {
        "prompt": worded(spec)[0],
        "model": spec.model,
        "width": spec.width,
        "height": spec.height,
        "num_inference_steps": spec.num_inference_steps,
        "guidance_scale": float(spec.guidance_scale) if guided(spec) else NO_GUIDANCE,
        **scheduler,
        **_of_text(spec),
        **_of_inputs(spec),
        **{name: told for name, told in (inputs or {}).items() if not name.startswith("controlnets.")},
        **_of_controlnets(spec, inputs or {}),
        "seed": list(seeds) if isinstance(spec.seed, tuple) else seeds[0],
        "num_images": spec.num_images,
        "output_format": spec.output_format,
        "embed_parameters": spec.embed_parameters,
        "safety": safety or spec.safety,
    }
    if spec.output_format in LOSSY_FORMATS:
        found["quality"] = spec.quality
    if spec.preview_every is not None:
        found["preview_every"] = spec.preview_every
    return found


def _of_text(spec: JobSpec) -> dict[str, Any]:
    found: dict[str, Any] = _of_assets(spec)
    if guided(spec):
        found["negative_prompt"] = worded(spec)[1]
    if spec.style_preset is not None:
        found["style_preset"] = spec.style_preset
    if spec.enhance_prompt:
        found["enhance_prompt"] = True
    if spec.clip_guidance_preset != "NONE" and spec.steps_used:
        found["clip_guidance_preset"] = spec.clip_guidance_preset
    if spec.tomesd:
        found["tomesd"] = True
    if spec.prompt_weighting != "none":
        found["prompt_weighting"] = spec.prompt_weighting
    if spec.clip_skip:
        found["clip_skip"] = spec.clip_skip
    return found


def _of_controlnets(spec: JobSpec, told: Mapping[str, str]) -> dict[str, Any]:
    """Return the ControlNets that have an effect, each with what is told of its picture."""
    nets = [
        {**asdict(net), "image": told.get(f"controlnets.{index}.image")}
        for index, net in enumerate(spec.controlnets)
        if net.works
    ]
    if not nets:
        return {}
    return {"controlnets": nets, **({"guess_mode": True} if spec.guess_mode else {})}


def _of_assets(spec: JobSpec) -> dict[str, Any]:
    """Return what the model wears. A LoRA of weight 0 has no effect."""
    found: dict[str, Any] = {}
    if loras := [asdict(lora) for lora in spec.loras if lora.weight]:
        found["loras"] = loras
    if spec.vae is not None:
        found["vae"] = spec.vae
    if spec.textual_inversions:
        found["textual_inversions"] = dict(spec.textual_inversions)
    return found


def _of_inputs(spec: JobSpec) -> dict[str, Any]:
    """Return what counts only with an init image. Its storage key is left out: it tells the job's handle."""
    if spec.image is None:
        return {}
    found: dict[str, Any] = {"strength": spec.strength_used}
    if spec.task is Task.OUTPAINT:
        found["outpainting"] = True
    if spec.task is Task.INPAINT and spec.inpaint_full_res:
        found["inpaint_full_res"] = True
        found["inpaint_full_res_padding"] = spec.inpaint_full_res_padding
    return found


#: Fields of a job that are no property of one picture.
_OF_THE_JOB: Final = frozenset(
    {"num_images", "output_format", "quality", "embed_parameters", "preview_every", "safety"}
)


def of_image(parameters: Mapping[str, Any], *, seed: int) -> dict[str, Any]:
    """Return what one image of the job was made with: equal for equal pictures, wherever in a job they stand."""
    return {**{k: v for k, v in parameters.items() if k not in _OF_THE_JOB}, "seed": seed}


def as_json(image: Mapping[str, Any]) -> str:
    """Return an image's parameters as compact JSON."""
    return canonical_json(dict(image))


def as_text(image: Mapping[str, Any], *, model_hash: str) -> str:
    """Return an image's parameters as AUTOMATIC1111 writes them, which most tools around read."""
    fields = {
        "Steps": image["num_inference_steps"],
        "Sampler": _sampler(image),
        "CFG scale": f"{image['guidance_scale']:g}",
        "Seed": image["seed"],
        "Size": f"{image['width']}x{image['height']}",
        "Model hash": model_hash,
        "Model": image["model"],
    }
    if "strength" in image:
        fields["Denoising strength"] = f"{image['strength']:g}"
    if "clip_skip" in image:
        fields["Clip skip"] = image["clip_skip"] + 1  # 1 is all layers there
    lines = [image["prompt"]]
    if image.get("negative_prompt"):
        lines.append(f"Negative prompt: {image['negative_prompt']}")
    lines.append(", ".join(f"{name}: {value}" for name, value in fields.items()))
    return "\n".join(lines)


def _sampler(image: Mapping[str, Any]) -> str:
    name = SAMPLERS.get(image["scheduler"], image["scheduler"])
    if str(image.get("algorithm_type", "")).startswith(_SDE):
        name += " SDE"
    return f"{name} Karras" if image.get("use_karras_sigmas") else name
