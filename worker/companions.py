"""What a checkpoint brings beside the networks that draw: its safety checker, and CLIP's towers.

Each lies in a folder of its own within the model's, `safety_checker` and `clip`, or where the catalog's entry says:
a single file holds neither.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from huggingface_hub import snapshot_download

from shared.errors import InvalidField, ModelLoadFailed
from worker.guidance import Clip
from worker.safety import Checker

if TYPE_CHECKING:
    from shared.catalog import Model as Entry
    from worker.device import Device

CHECKER_FOLDER: Final = "safety_checker"
CLIP_FOLDER: Final = "clip"
TOKENIZER_FOLDER: Final = "tokenizer"
#: What says that a folder holds a tokenizer of its own.
_TOKENIZER_FILES: Final = ("tokenizer.json", "vocab.json")
_FETCHED: Final = ("*.json", "*.txt", "*.safetensors")


class Companions:
    """A model's safety checker, and its CLIP, which is read when it is first asked for."""

    def __init__(
        self, model: str, *, checker: Checker | None, clip: Path | None, tokenizer: Path, device: Device | None
    ) -> None:
        self.checker = checker
        self._model = model
        self._clip_place, self._tokenizer, self._device = clip, tokenizer, device
        self._clip: Clip | None = None

    @classmethod
    def find(cls, entry: Entry, place: Path, device: Device) -> Companions:
        """Return those of a model whose weights are at `place`; raises what `Checker.load` raises."""
        checker = _place(entry.safety_checker, place, CHECKER_FOLDER)
        clip = _place(entry.clip, place, CLIP_FOLDER)
        own_tokenizer = clip is not None and any((clip / name).is_file() for name in _TOKENIZER_FILES)
        return cls(
            entry.name,
            checker=None if checker is None else Checker.load(checker, device=device),
            clip=clip,
            tokenizer=clip if clip is not None and own_tokenizer else place / TOKENIZER_FOLDER,
            device=device,
        )

    def clip(self) -> Clip:
        """Return the towers; `InvalidField` where there are none, `ModelLoadFailed` where they cannot be read."""
        if self._clip_place is None or self._device is None:
            raise InvalidField("clip_guidance_preset", f"the model {self._model!r} has no vision tower to be guided by")
        if self._clip is None:
            try:
                self._clip = Clip.load(self._clip_place, tokenizer=self._tokenizer, device=self._device)
            except (OSError, ValueError, RuntimeError) as error:
                raise ModelLoadFailed(f"the CLIP of the model {self._model!r} could not be loaded") from error
        return self._clip


#: Of a model that has none.
NO_COMPANIONS: Final = Companions("", checker=None, clip=None, tokenizer=Path(), device=None)


def _place(source: str, model: Path, folder: str) -> Path | None:
    """Return where the catalog says it lies, else the model's own folder for it; None where there is neither."""
    if source:
        return Path(source) if Path(source).is_dir() else Path(snapshot_download(source, allow_patterns=[*_FETCHED]))
    return model / folder if (model / folder).is_dir() else None


def fetch(repository: str, *, revision: str | None = None) -> None:
    """Get what companions there are of a Hugging Face id, into the snapshot that holds the model."""
    folders = (CHECKER_FOLDER, "feature_extractor", CLIP_FOLDER)
    patterns = [f"{folder}/{kind}" for folder in folders for kind in _FETCHED]
    snapshot_download(repository, revision=revision, allow_patterns=patterns)
