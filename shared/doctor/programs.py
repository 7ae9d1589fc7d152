"""What draws: torch, diffusers and transformers in the versions that this one was made for, and the device."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Final

from shared.doctor.finding import Finding, error, good, warning
from shared.settings import Settings, child_environment

DRAWING: Final = ("torch", "diffusers", "transformers")
#: Loading torch from a cold disk takes its time.
PROBE_S: Final = 180.0
_PIN: Final = re.compile(r"([A-Za-z0-9_-]+)==([^;\s]+)")


def look_at_programs(settings: Settings) -> Iterator[Finding]:
    """Yield how the libraries and the device of this machine's workers are."""
    pins = (_PIN.match(line) for line in requires("darkroom") or ())
    wanted = {match[1]: match[2] for match in pins if match}
    missing = []
    for name in DRAWING:
        try:
            found = version(name)
        except PackageNotFoundError:
            missing.append(name)
            continue
        yield _fits(name, found, wanted.get(name, found))
    if missing:
        do = "Where workers shall run: pip install 'darkroom[worker]'. An API or courier alone needs none of it."
        yield warning("versions", f"{', '.join(missing)} not installed", do)
        return
    yield _device(settings)


def _fits(name: str, found: str, wanted: str) -> Finding:
    if found.partition("+")[0] != wanted:
        do = f"pip install '{name}=={wanted}': pictures and speed were tested with that one."
        return warning("versions", f"{name} {found} instead of {wanted}", do)
    return good("versions", f"{name} {found}")


def _device(settings: Settings) -> Finding:
    """Ask a process of its own: torch has no place in this one, and CUDA may bring a process down."""
    command = [sys.executable, "-m", "worker.probe"]
    try:
        done = subprocess.run(  # noqa: S603 - our own module
            command, capture_output=True, text=True, timeout=PROBE_S, check=False,
            env=child_environment(DEVICE=settings.device),
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return error("device", f"no answer within {PROBE_S:.0f} s", "Look at the GPU's driver: `nvidia-smi`.")
    if done.returncode:
        why = (done.stderr.strip().splitlines() or ["it ended without a word"])[-1]
        return error("device", why, "Set DEVICE to one that is here, or mend its driver.")
    told = json.loads(done.stdout.strip().splitlines()[-1])
    says = f"{told['device']}: {told['title']}, {told['dtype']}"
    if told["device"] == "cpu" and settings.device == "auto":
        return warning("device", says, "No GPU was found; on a CPU pictures take long. DEVICE=cpu if that is meant.")
    return good("device", says)
