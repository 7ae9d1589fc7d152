"""What a job asks of its model that not every model can do, as far as that is known before a worker loads it.

The catalog says it, or the model's own folder where this process can read it. What neither tells is left to the worker,
whose refusal is the same.
"""

import json
from functools import lru_cache
from pathlib import Path
from typing import Final

from shared.catalog.entries import Model
from shared.errors import InvalidField
from shared.spec import JobSpec

#: What ships with Darkroom can do all there is.
_EMBEDDED: Final = "embedded:"
_SINGLE_FILE: Final = ".safetensors"


def check_abilities(spec: JobSpec, model: Model) -> None:
    """Raise `InvalidField` naming the field that asks too much of the model: clip_skip or clip_guidance_preset."""
    layers = model.text_layers or _text_layers(model.source)
    if layers and spec.clip_skip is not None and spec.clip_skip >= layers:
        raise InvalidField("clip_skip", f"must leave at least one of the {layers} layers of this model's text encoder")
    if spec.clip_guidance_preset != "NONE" and _lacks_clip(model):
        raise InvalidField(
            "clip_guidance_preset",
            f"the model {model.name!r} has no vision tower to be guided by; only NONE is possible",
        )


@lru_cache(256)
def _text_layers(source: str) -> int:
    """Return how many layers a folder's text encoder has, 0 where that cannot be read here."""
    try:
        config = json.loads((Path(source) / "text_encoder" / "config.json").read_text(encoding="utf-8"))
        return int(config["num_hidden_layers"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def _lacks_clip(model: Model) -> bool:
    place = Path(model.source)
    if model.clip or model.core or model.source.startswith(_EMBEDDED):
        return False
    return place.suffix == _SINGLE_FILE or (place.is_dir() and not (place / "clip").is_dir())
