"""The engine: models by their catalog names, loaded when first asked for, the last few kept."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import _lru_cache_wrapper, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import diffusers
import numpy as np
import structlog
import torch
import transformers
from diffusers import DDIMScheduler

from shared.errors import ModelLoadFailed
from worker import companions, measures, schedulers
from worker.assets.kept import Kept
from worker.assets.source import is_remote, model_place
from worker.assets.wardrobe import PLAIN, Outfit, Wardrobe, wearing
from worker.companions import NO_COMPANIONS, Companions
from worker.controlnet.nets import ControlNets
from worker.demo_model.bundle import bundle_path
from worker.device import Device, open_device
from worker.loading.checkpoint import memory_needed, memory_taken, read_checkpoint
from worker.loading.weights import weights_hash
from worker.prompt import Embeddings, Encoder

if TYPE_CHECKING:
    from shared import catalog
    from shared.catalog import Catalog
    from shared.job import Submission
    from shared.settings import Settings
    from shared.spec import JobSpec
    from worker.guidance import Clip
    from worker.safety import Checker

EMBEDDED_DEMO: Final = "embedded:demo"
MIB: Final = 1 << 20
#: Prompts whose embeddings are kept per model: 0.3 MB each on SD 1.5.
KEPT_EMBEDDINGS: Final = 64

log = structlog.get_logger(__name__)

# Their bars and advice are for notebooks.
diffusers.utils.logging.disable_progress_bar()
transformers.utils.logging.disable_progress_bar()
transformers.utils.logging.set_verbosity_error()
# torchsde's, at every step of DPMSolverSDEScheduler: its times are rounded, and the first lies 1e-7 before the start.
warnings.filterwarnings("ignore", message="Should have t[ab]", category=UserWarning)


class Model:
    """A loaded model: diffusers' pipeline and what we put around it."""

    def __init__(
        self,
        name: str,
        pipeline: Any,
        *,
        fingerprint: Mapping[str, Any],
        controlnets: ControlNets,
        companions: Companions = NO_COMPANIONS,
    ) -> None:
        self.name = name
        self.pipeline = pipeline
        self.outfit: Outfit = PLAIN
        self._fingerprint = fingerprint
        self.controlnets = controlnets
        self._companions = companions
        self._own_class = type(pipeline.scheduler).__name__
        self._own_config = dict(pipeline.scheduler.config)
        self._kept_signal = DDIMScheduler.from_config(self._own_config).alphas_cumprod.double().numpy()
        self._encode = _encoder(pipeline)

    def embeddings(
        self, prompt: str, negative_prompt: str, *, weighting: str = "none", clip_skip: int = 0
    ) -> Embeddings:
        """Return both prompts' embeddings, kept for the next time; see `Encoder.encode`."""
        dtype = self.pipeline.text_encoder.dtype
        computed = self._encode.cache_info().misses
        found = self._encode(prompt, negative_prompt, weighting, clip_skip, dtype, self.outfit.text)
        measures.looked_up("prompt", found=self._encode.cache_info().misses == computed)
        return found

    @property
    def fingerprint(self) -> Mapping[str, Any]:
        """What pictures are made with, as far as no parameter says it: versions, device, and the weights' hashes."""
        return {**self._fingerprint, **({"assets": dict(self.outfit.told)} if self.outfit.told else {})}

    def check_prompt(self, submission: Submission) -> None:
        """Raise `InvalidField` where the text encoder cannot take a job's prompt as asked; see `Encoder.check`."""
        spec = submission.spec
        encoder = Encoder(self.pipeline.tokenizer, self.pipeline.text_encoder)
        encoder.check(
            spec.prompt,
            weighting=spec.prompt_weighting,
            clip_skip=spec.clip_skip or 0,
            most=submission.max_prompt_tokens,
        )

    def scheduler(self, spec: JobSpec, seeds: Sequence[int] = ()) -> Any:
        """Return a new scheduler for one call of the spec that draws images of these seeds."""
        return schedulers.build(spec, seeds=seeds, own_class=self._own_class, own_config=self._own_config)

    @property
    def checker(self) -> Checker | None:
        """The model's safety checker."""
        return self._companions.checker

    def clip(self) -> Clip:
        """Return CLIP's towers, read when first asked for; raises what `Companions.clip` raises."""
        return self._companions.clip()

    def kept_signal(self, timestep: float) -> float:
        """Return the signal's share of the variance in latents of a timestep, which may lie between two."""
        return float(np.interp(timestep, np.arange(len(self._kept_signal)), self._kept_signal))

    @property
    def can_be_more_precise(self) -> bool:
        """Whether `single_precision` changes anything."""
        return bool(self.pipeline.unet.dtype != torch.float32)

    @contextmanager
    def single_precision(self) -> Iterator[None]:
        """Compute in float32 meanwhile; afterwards every weight is as it was. Twice the memory of half precision."""
        networks = (self.pipeline.unet, self.pipeline.vae, self.pipeline.text_encoder)
        kept = [network.dtype for network in networks]
        try:
            for network in networks:
                _cast(network, torch.float32)
            yield
        finally:
            for network, dtype in zip(networks, kept, strict=True):
                _cast(network, dtype)


def _encoder(pipeline: Any) -> _lru_cache_wrapper[Embeddings]:
    """Return what encodes prompts and keeps the last ones. It holds no model, which would then never be let go."""

    @lru_cache(KEPT_EMBEDDINGS)
    def encode(
        prompt: str, negative: str, weighting: str, clip_skip: int, _precision: Any, outfit: tuple[Any, ...]
    ) -> Embeddings:
        inversions = [(trigger, inversion.vectors) for trigger, inversion in outfit[1]]
        encoder = Encoder(pipeline.tokenizer, pipeline.text_encoder, inversions=inversions)
        return encoder.encode(prompt, negative, weighting=weighting, clip_skip=clip_skip)

    return encode


def _cast(network: Any, dtype: Any) -> None:
    # diffusers' own `to` warns of layers to be kept in float32 even where there are none.
    torch.nn.Module.to(network, dtype)


class Engine:
    """Loads models onto one device. Not for several threads at once."""

    def __init__(self, settings: Settings, catalog: Catalog) -> None:
        self._settings = settings
        self._catalog = catalog
        self.device: Device = open_device(settings.device)
        self._models: Kept[Model] = Kept(settings.models_memory_mb * MIB)
        self._wardrobe = Wardrobe(catalog, self.device, limit=settings.assets_memory_mb * MIB)
        self._controlnets = ControlNets(catalog, self.device, kept=self._wardrobe.kept)
        self.loaded_model = ""

    def model(self, name: str) -> tuple[Model, float]:
        """Return a model and the seconds its loading took now; `ModelLoadFailed` names the model.

        The log says where it was looked for and why that failed: a path is no caller's business.
        """
        model, load_s = self._models.get(name), 0.0
        measures.looked_up("model", found=model is not None)
        if model is None:
            started = time.perf_counter()
            model = self._load(self._entry(name))
            load_s = time.perf_counter() - started
            size = memory_taken(model.pipeline)
            self._models.put(name, model, size=size)
            log.info("engine.loaded", model=name, seconds=round(load_s, 3), bytes=size, **model.fingerprint)
        self.loaded_model = name
        return model, load_s

    @contextmanager
    def dressed(self, model: Model, spec: JobSpec) -> Iterator[float]:
        """Let a model wear what the spec asks for while the block runs; yields the seconds that loading took now.

        Raises what `Wardrobe.outfit` and `ControlNets.fetch` raise.
        """
        outfit, load_s = self._wardrobe.outfit(spec, model)
        nets, nets_s = self._controlnets.fetch(spec, model.pipeline.unet)
        with wearing(model, replace(outfit, told={**outfit.told, **nets})):
            yield load_s + nets_s

    def _entry(self, name: str) -> catalog.Model:
        try:
            return self._catalog.model(name)
        except KeyError:
            raise ModelLoadFailed(f"the model {name!r} is not in this worker's catalog") from None

    def _load(self, entry: catalog.Model) -> Model:
        try:
            place, core = self._place(entry), self._core(entry)
            # Before it is read: both beside each other may be more than there is.
            self._models.make_room(memory_needed(place, self.device, core=core, variant=entry.variant))
            pipeline = read_checkpoint(place, self.device, core=core, variant=entry.variant)
            beside = Companions.find(entry, _whole(place, core), self.device)
        except Exception as error:
            # Whatever a foreign checkpoint makes the libraries raise, it is this model that cannot be had.
            log.exception("engine.load_failed", model=entry.name, source=entry.source)
            raise ModelLoadFailed(f"the model {entry.name!r} could not be loaded") from error
        return Model(
            entry.name,
            pipeline,
            fingerprint=self._fingerprint(place),
            controlnets=self._controlnets,
            companions=beside,
        )

    def _place(self, entry: catalog.Model) -> Path:
        """Return the folder or the single file that holds the entry's weights, fetching a Hugging Face id."""
        if entry.source == EMBEDDED_DEMO:
            return bundle_path(self._settings.data_dir / "models")
        place = model_place(entry)
        if is_remote(entry):
            companions.fetch(entry.source, revision=entry.revision or None)
        return place

    def _core(self, entry: catalog.Model) -> Path | str | None:
        """Return where the parts are that an entry lacks: another model's place, a folder, or a Hugging Face id."""
        if not entry.core:
            return None
        try:
            return self._place(self._catalog.model(entry.core))
        except KeyError:
            return Path(entry.core) if Path(entry.core).is_dir() else entry.core

    def _fingerprint(self, place: Path) -> dict[str, Any]:
        return {
            "torch": str(torch.__version__),
            "diffusers": diffusers.__version__,
            "device": self.device.title,
            "dtype": self.device.dtype_name,
            "model_hash": weights_hash(place),
        }


def _whole(place: Path, core: Path | str | None) -> Path:
    """Return the place that has all of a model's folders: its core's, where it has some alone, or is a single file."""
    return core if isinstance(core, Path) and not (place / "model_index.json").is_file() else place
