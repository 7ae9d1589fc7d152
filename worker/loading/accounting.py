"""Whether every tensor of a checkpoint's files is in use, and every weight of its networks comes from them.

The libraries load what they know, draw at random what is missing, and say so in a log at most.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from worker.loading.weights import tensors_of

#: Prefixes of a single file in the original layout -> the networks they are of.
PREFIXES: Final = {
    "model.diffusion_model.": "unet",
    "first_stage_model.": "vae",
    "cond_stage_model.transformer.": "text_encoder",
}
#: What such files hold beside networks: the noise schedule, which the scheduler computes, and training's leftovers.
_IGNORED: Final = re.compile(r"model_ema\..*|[a-z0-9_]*alphas_cumprod(_prev)?|betas|logvar|posterior_.*|global_step")
#: A counting of 0 to 76 that old text encoders kept among their weights.
_COUNTING: Final = re.compile(r".*embeddings\.position_ids")
#: diffusers' names of the VAE's attention before 0.17.
_OLD_NAMES: Final = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
_OLD_ATTENTION: Final = re.compile(
    r"(?P<block>.*\.attentions\.\d+)\.(?P<name>query|key|value|proj_attn)\.(?P<end>weight|bias)"
)
_TOLD: Final = 3


def modern(key: str) -> str:
    """Return a tensor's name as today's versions have it."""
    match = _OLD_ATTENTION.fullmatch(key)
    key = f"{match['block']}.{_OLD_NAMES[match['name']]}.{match['end']}" if match else key
    return key.removeprefix("text_model.")


def check_files(network: Any, files: Iterable[Path], *, name: str) -> None:
    """Check a network against the files of its folder; ValueError naming tensors that are left over or missing."""
    given = {modern(key) for file in files for key in tensors_of(file) if not _COUNTING.fullmatch(key)}
    known = {modern(key) for key in network.state_dict() if not _COUNTING.fullmatch(key)}
    if given != known:
        raise ValueError(f"{name}: left over: {_some(given - known)}; missing: {_some(known - given)}")


def check_single_file(networks: Mapping[str, Any], file: Path) -> None:
    """Check networks against a checkpoint in the original layout, whose names differ: their numbers must agree.

    ValueError where a tensor is of no network, or where one has more or fewer of them than the file.
    """
    counts = dict.fromkeys(PREFIXES.values(), 0)
    strangers = set()
    for key in tensors_of(file):
        network = next((name for prefix, name in PREFIXES.items() if key.startswith(prefix)), None)
        if network is None and not _IGNORED.fullmatch(key):
            strangers.add(key)
        if network is not None and not _COUNTING.fullmatch(key):
            counts[network] += 1
    if strangers:
        raise ValueError(f"tensors of no network: {_some(strangers)}")
    for name, count in counts.items():
        wanted = sum(not _COUNTING.fullmatch(key) for key in networks[name].state_dict())
        if count != wanted:
            raise ValueError(f"{name} has {wanted} tensors, and the file {count}")


def _some(names: Iterable[str]) -> str:
    found = sorted(names)
    more = f" and {len(found) - _TOLD} more" if len(found) > _TOLD else ""
    return ", ".join(found[:_TOLD]) + more if found else "none"
