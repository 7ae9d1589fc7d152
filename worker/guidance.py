"""CLIP guidance: at chosen steps, latents are drawn towards what CLIP's towers find alike to the prompt.

The clean picture that the network sees in noisy latents is decoded, the cosine between its embedding and the prompt's
is taken, and the cosine's gradient moves the network's noise (classifier guidance: Dhariwal and Nichol,
arXiv 2105.05233; on decoded estimates: Bansal et al., arXiv 2302.07121). It acts on the network's output, where every
scheduler speaks the same language: the network always sees latents `sqrt(a) x0 + sqrt(1 - a) noise`.

What the denoiser's own Jacobian would contribute is taken to be `sqrt(a)`, which is exact for data of unit variance. So
nothing is differentiated through the UNet, and the clean estimate moves by `scale (1 - a)` times the gradient: most
while there is much noise, nothing at the end. Each image has a gradient of its own, whatever shares its call.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import torch
from torch.nn import functional
from transformers import CLIPModel, CLIPTokenizer
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from shared.weighting import without_syntax

if TYPE_CHECKING:
    from shared.spec import JobSpec
    from worker.device import Device
    from worker.engine import Model
    from worker.pipelines import Shot

NONE: Final = "NONE"
#: Half precision has no numbers as small as a pixel's share in a cosine; gradients are taken of so many times it.
LOSS_SCALE: Final = 1024.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Preset:
    """When and how strongly CLIP guides."""

    #: How far the cosine's gradient moves the clean latents, where all is noise.
    scale: float
    #: Of the steps guided, one in so many is.
    every: int = 1
    #: The part of the steps, from the first on, that may be guided.
    share: float = 1.0
    #: How often the gradient is taken anew within a step.
    gradients: int = 1

    def guides(self, step: int, steps: int) -> bool:
        """Whether the step of that number, counted from 0, is guided."""
        return step < ceil(self.share * steps) and step % self.every == 0


#: What Stability's words mean here; nobody documents what they mean there.
PRESETS: Final[dict[str, Preset]] = {
    "SIMPLE": Preset(scale=50, every=4),
    "FAST_BLUE": Preset(scale=100, every=2, share=0.5),
    "FAST_GREEN": Preset(scale=200, every=2, share=0.5),
    "SLOW": Preset(scale=100),
    "SLOWER": Preset(scale=200),
    "SLOWEST": Preset(scale=200, gradients=2),
}


class Clip:
    """CLIP's two towers, with their projections."""

    def __init__(self, towers: CLIPModel, tokenizer: CLIPTokenizer) -> None:
        self._towers = towers
        self._tokenizer = tokenizer

    @classmethod
    def load(cls, folder: Path, *, tokenizer: Path, device: Device) -> Self:
        """Read a CLIPModel's folder, safetensors only. `ValueError` where a weight is missing or has no place."""
        # They are first asked for within a call; what is loaded in inference mode has no part in a gradient.
        with torch.inference_mode(mode=False):
            towers, told = CLIPModel.from_pretrained(
                folder, dtype=device.dtype, use_safetensors=True, output_loading_info=True
            )
            towers.to(device.torch_name).eval().requires_grad_(requires_grad=False)
        wrong = {kind: sorted(map(str, told.get(kind, ()))) for kind in ("missing_keys", "mismatched_keys")}
        if any(wrong.values()):
            raise ValueError(f"{folder} is no whole CLIP: {wrong}")
        return cls(towers, CLIPTokenizer.from_pretrained(tokenizer))

    def text(self, prompt: str) -> torch.Tensor:
        """Return a prompt's embedding, (1, width) of length 1; CLIP reads no further than its window."""
        most = self._towers.config.text_config.max_position_embeddings
        ids = self._tokenizer(prompt, truncation=True, max_length=most, return_tensors="pt").input_ids
        found = self._towers.text_model(input_ids=ids.to(self._towers.device))
        return functional.normalize(self._towers.text_projection(found.pooler_output).float())

    def image(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the embeddings, (n, width) of length 1, of pictures (n, 3, h, w) from 0 to 1, cut to their middle."""
        side, (height, width) = self._towers.config.vision_config.image_size, pixels.shape[-2:]
        # As two products of matrices: torch's own resizing sums gradients in any order on a GPU.
        down, across = (_shrinking(own, min(height, width), side).to(pixels) for own in (height, width))
        mean, deviation = (
            torch.tensor(values, device=pixels.device).view(3, 1, 1) for values in (OPENAI_CLIP_MEAN, OPENAI_CLIP_STD)
        )
        seen = ((down @ pixels @ across.T).float() - mean) / deviation
        found = self._towers.vision_model(pixel_values=seen.to(self._towers.dtype))
        return functional.normalize(self._towers.visual_projection(found.pooler_output).float())


@contextmanager
def clip_guidance(model: Model, spec: JobSpec, shots: Sequence[Shot], scheduler: Any) -> Iterator[None]:
    """Guide the pipeline's call inside, as the spec's preset says. The network is as before afterwards.

    Raises `InvalidField` naming clip_guidance_preset where the model has no towers.
    """
    if spec.clip_guidance_preset == NONE:
        yield
        return
    guide = _Guide(model, spec, shots, scheduler)
    handle = model.pipeline.unet.register_forward_hook(guide)
    try:
        yield
    finally:
        handle.remove()


class _Guide:
    """The hook on the network: told of each evaluation, it moves the noise of those that are guided."""

    def __init__(self, model: Model, spec: JobSpec, shots: Sequence[Shot], scheduler: Any) -> None:
        self._preset = PRESETS[spec.clip_guidance_preset]
        self._guidance_scale = spec.guidance_scale
        self._steps, self._order = spec.steps_used, int(scheduler.order)
        self._clip, self._vae = model.clip(), model.pipeline.vae
        self._kept = model.kept_signal
        self._velocity = scheduler.config.get("prediction_type") == "v_prediction"
        self._texts = [self._clip.text(without_syntax(shot.prompt, shot.weighting)) for shot in shots]
        self._evaluations = 0

    def __call__(self, _unet: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """Return the output with its noise moved, None where it stays as it is."""
        step = self._evaluations // self._order
        self._evaluations += 1
        if not self._preset.guides(step, self._steps):
            return None
        sample, timestep = inputs[0], inputs[1]
        halves = len(sample) // len(self._texts)
        # The unguided half comes first, and both halves see the same latents.
        predicted = output[0].chunk(halves)
        plain = predicted[0] if halves == 1 else predicted[0] + self._guidance_scale * (predicted[1] - predicted[0])
        latents = sample[: len(self._texts), : plain.shape[1]]
        moved = self._shift(latents.float(), plain.float(), kept=self._kept(float(timestep)))
        return (output[0] + moved.to(output[0].dtype).repeat(halves, 1, 1, 1), *output[1:])

    def _shift(self, latents: torch.Tensor, predicted: torch.Tensor, *, kept: float) -> torch.Tensor:
        """Return what is added to the network's prediction; `kept` is the signal's share a of the variance."""
        signal, noise_part = kept**0.5, (1 - kept) ** 0.5
        noise = signal * predicted + noise_part * latents if self._velocity else predicted
        shift = torch.zeros_like(noise)
        for _ in range(self._preset.gradients):
            clean = (latents - noise_part * (noise + shift)) / signal
            shift -= self._preset.scale * signal * noise_part * self._gradients(clean)
        return shift / signal if self._velocity else shift

    def _gradients(self, clean: torch.Tensor) -> torch.Tensor:
        return torch.cat([self._gradient(clean[i : i + 1], text) for i, text in enumerate(self._texts)])

    def _gradient(self, clean: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        """Return the gradient of one image's cosine by its clean latents."""
        exact = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True)
        with torch.inference_mode(mode=False), torch.enable_grad(), exact:
            latents = clean.clone().requires_grad_()
            decoded = self._vae.decode(latents.to(self._vae.dtype) / self._vae.config.scaling_factor, return_dict=False)
            cosine = (self._clip.image((decoded[0] / 2 + 0.5).clamp(0, 1)) * text.clone()).sum()
            (found,) = torch.autograd.grad(cosine * LOSS_SCALE, latents)
        return found / LOSS_SCALE


@lru_cache(16)
def _shrinking(pixels: int, shorter: int, side: int) -> torch.Tensor:
    """Return the matrix (side, pixels) that scales a line as its picture's shorter side becomes `side`; its middle."""
    scaled = pixels * side // shorter
    start = (scaled - side) // 2
    # What is made in inference mode has no part in a gradient, and this is kept.
    with torch.inference_mode(mode=False):
        lines = torch.eye(pixels)[None, None]
        whole = functional.interpolate(lines, size=(scaled, pixels), mode="bicubic", antialias=True)[0, 0]
        return whole[start : start + side].clone()
