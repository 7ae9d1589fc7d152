"""What one entry of the catalog says."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

#: 1536 x 1536
DEFAULT_MAX_PIXELS: Final = 2_359_296
#: The family of Stable Diffusion 1.x and all that was made for it.
DEFAULT_BASE: Final = "sd1"


class Kind(StrEnum):
    """What a name stands for."""

    MODEL = "model"
    LORA = "lora"
    VAE = "vae"
    TEXTUAL_INVERSION = "textual_inversion"
    CONTROLNET = "controlnet"

    @property
    def table(self) -> str:
        """The catalog's TOML table of such entries."""
        return f"{self}s"

    @property
    def field(self) -> str:
        """The field of JobSpec that names such entries."""
        return str(self) if self in {Kind.MODEL, Kind.VAE} else f"{self}s"

    @property
    def noun(self) -> str:
        """What people call it."""
        return _NOUNS[self]


_NOUNS: Final = {
    Kind.MODEL: "model",
    Kind.LORA: "LoRA",
    Kind.VAE: "VAE",
    Kind.TEXTUAL_INVERSION: "textual inversion",
    Kind.CONTROLNET: "ControlNet",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """A name, and where its weights are."""

    name: str
    kind: Kind
    #: A folder, a .safetensors file, a Hugging Face id, or `embedded:demo`.
    source: str
    #: The file inside a source that holds several.
    file: str = ""
    #: Which of a source's precisions is read, such as fp16, and which commit of a Hugging Face repository.
    variant: str = ""
    revision: str = ""
    description: str = ""
    aliases: tuple[str, ...] = ()
    #: The family it belongs to: only what has one base goes together.
    base: str = DEFAULT_BASE
    #: The account, by its name, that alone may use it; empty: everybody.
    owner: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Model(Entry):
    """A checkpoint."""

    kind: Kind = Kind.MODEL
    max_pixels: int = DEFAULT_MAX_PIXELS
    #: The model (or the source) that parts come from which this one lacks.
    core: str = ""
    #: Where its safety checker and its CLIP lie, if it brings none of its own: folders or Hugging Face ids.
    safety_checker: str = ""
    clip: str = ""
    #: Layers of its text encoder; 0 where the catalog does not say.
    text_layers: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Asset(Entry):
    """What a model wears for a job: a LoRA, a VAE, a textual inversion or a ControlNet."""

    #: Words that its maker says a prompt should have. A textual inversion's first is its trigger where none is given.
    triggers: tuple[str, ...] = ()
    #: What kind of picture a ControlNet looks at, such as canny; empty: its name says it.
    hint: str = ""
