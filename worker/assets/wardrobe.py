"""Assets by their catalog names, loaded when first asked for, the last ones kept; and what a job wears of them."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import structlog

from shared.catalog.entries import Kind
from worker import measures
from worker.assets import AssetIncompatible, AssetLoadFailed
from worker.assets.inversions import Inversion, read_inversion
from worker.assets.kept import Kept
from worker.assets.loras import Lora, applied, read_lora
from worker.assets.source import SINGLE_FILE, asset_place
from worker.assets.vaes import Vae, read_vae

if TYPE_CHECKING:
    from shared.catalog import Asset, Catalog
    from shared.spec import JobSpec
    from worker.device import Device
    from worker.engine import Model

log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Outfit:
    """What a model wears: assets as loaded, and what makes prompts mean something else."""

    loras: tuple[tuple[Lora, float], ...] = ()
    vae: Vae | None = None
    #: (trigger, inversion) of each
    inversions: tuple[tuple[str, Inversion], ...] = ()
    #: asset -> the SHA-256 of its file, or of its folder's files, shortened; for the record
    told: Mapping[str, str] = field(default_factory=dict)

    @property
    def text(self) -> tuple[Any, ...]:
        """What tells two outfits apart in which one prompt has two embeddings. Holds no tensors but inversions'."""
        loras = tuple((lora.digest, weight) for lora, weight in self.loras if weight and lora.changes_text)
        return (loras, self.inversions)


PLAIN: Final = Outfit()


class Wardrobe:
    """Loads assets onto one device. Not for several threads at once."""

    def __init__(self, catalog: Catalog, device: Device, *, limit: int) -> None:
        """`limit` is in bytes."""
        self._catalog = catalog
        self._device = device
        self.kept: Kept[Any] = Kept(limit)

    def outfit(self, spec: JobSpec, model: Model) -> tuple[Outfit, float]:
        """Return what a job's model wears, and the seconds that loading took now.

        Raises `AssetIncompatible` for what does not fit the model, and `AssetLoadFailed` for what cannot be had.
        """
        if not (spec.loras or spec.vae or spec.textual_inversions):
            return PLAIN, 0.0
        started = time.perf_counter()
        loras = tuple((self._get(Kind.LORA, lora.name, model), lora.weight) for lora in spec.loras)
        vae = None if spec.vae is None else self._get(Kind.VAE, spec.vae, model)
        inversions = tuple(
            (trigger, self._get(Kind.TEXTUAL_INVERSION, name, model)) for name, trigger in spec.textual_inversions
        )
        told = {f"lora {lora.name}": lora.digest for lora, _ in loras}
        told |= {} if vae is None else {f"vae {spec.vae}": vae.digest}
        told |= {
            f"textual_inversion {name}": inversion.digest
            for (name, _), (_, inversion) in zip(spec.textual_inversions, inversions, strict=True)
        }
        outfit = Outfit(loras=loras, vae=vae, inversions=inversions, told=told)
        return outfit, time.perf_counter() - started

    def _get(self, kind: Kind, name: str, model: Model) -> Any:
        # What fits one model may not fit the next of its family.
        key = (kind, name, model.name)
        asset = self.kept.get(key)
        measures.looked_up(str(kind), found=asset is not None)
        if asset is None:
            asset = self._load(self._catalog.asset(kind, name), model)
            self.kept.put(key, asset, size=asset.size)
            log.info("wardrobe.loaded", kind=str(kind), asset=name, model=model.name, bytes=asset.size)
        return asset

    def _load(self, entry: Asset, model: Model) -> Any:
        try:
            place = asset_place(entry)
            options: dict[str, Any] = {"variant": entry.variant} if entry.kind is Kind.VAE else {}
            if entry.kind is not Kind.VAE:
                place = _one_file(place)
            return _READERS[entry.kind](
                place, model.pipeline, name=entry.name, digest=_digest(place), device=self._device, **options
            )
        except AssetIncompatible:
            log.exception("wardrobe.incompatible", kind=str(entry.kind), asset=entry.name, source=entry.source)
            raise
        except Exception as error:
            # Whatever a foreign file makes the libraries raise, it is this asset that cannot be had.
            log.exception("wardrobe.load_failed", kind=str(entry.kind), asset=entry.name, source=entry.source)
            raise AssetLoadFailed(f"the {entry.kind.noun} {entry.name!r} could not be loaded") from error


_READERS: Final[dict[Kind, Callable[..., Any]]] = {
    Kind.LORA: read_lora,
    Kind.VAE: read_vae,
    Kind.TEXTUAL_INVERSION: read_inversion,
}


@contextmanager
def wearing(model: Model, outfit: Outfit) -> Iterator[None]:
    """Let a model wear an outfit while the block runs. It is as before afterwards, whatever happens."""
    own = model.pipeline.vae
    with applied(model.pipeline, outfit.loras):
        try:
            model.outfit = outfit
            if outfit.vae is not None:
                model.pipeline.vae = outfit.vae.network
            yield
        finally:
            model.pipeline.vae = own
            model.outfit = PLAIN


def _one_file(place: Path) -> Path:
    """Return the file of a place that has one; ValueError where there are several."""
    if place.is_file():
        return place
    files = sorted(place.rglob(f"*{SINGLE_FILE}"))
    if len(files) != 1:
        raise ValueError(f"it holds {len(files)} {SINGLE_FILE} files: `file` says which")
    return files[0]


def _digest(place: Path) -> str:
    """Return 16 hex digits of the SHA-256 of a file, or of a folder's weights."""
    digest = hashlib.sha256()
    for file in [place] if place.is_file() else sorted(place.rglob(f"*{SINGLE_FILE}")):
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()[:16]
