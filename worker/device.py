"""Where a model runs, in which precision, and how many images may share a call.

Same seed, same pixels must hold whatever else shares the batch. On a CPU the arithmetic of one image changes in its
last bits with the size of the batch (measured at 512x512: one level of 255 in 0.1 % of the values), and batching gains
little there (four at once: 4-10 % faster), so images run one by one and the promise is exact. On CUDA batching is
worth 2-3x, so images truly share a call: the same seed gives the same pixels at an equal batch shape, and the same
picture but for such rounding at another; `tests/gpu` bounds it.
"""

from dataclasses import dataclass
from typing import Any

import torch

from shared.errors import ConfigurationError


@dataclass(frozen=True, kw_only=True, slots=True)
class Device:
    """A device as the worker uses it."""

    #: What torch calls it: "cpu", "cuda", "cuda:1".
    torch_name: str
    #: What its maker calls it.
    title: str
    dtype: Any
    #: Whether images change with their batch-mates; such a device runs them one by one.
    one_by_one: bool

    @property
    def dtype_name(self) -> str:
        """The precision's short name, such as float32."""
        return str(self.dtype).removeprefix("torch.")


def open_device(name: str) -> Device:
    """Return the device of that name; "auto" is the first GPU, else the CPU. `ConfigurationError` where it cannot be.

    Touches CUDA, so only the process that generates may call it: a forked child cannot use its parent's CUDA.
    """
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return Device(torch_name="cpu", title=_cpu_title(), dtype=torch.float32, one_by_one=True)
    chosen = "cuda" if name == "auto" else name
    try:
        title = torch.cuda.get_device_name(torch.device(chosen))
    except (RuntimeError, AssertionError, ValueError) as error:
        raise ConfigurationError("DEVICE", f"{name!r} cannot be used here: {error}") from error
    return Device(torch_name=chosen, title=title, dtype=torch.float16, one_by_one=False)


def _cpu_title() -> str:
    # The thread count is part of the name: it decides how sums are split, so two of them may differ in the last bit.
    return f"cpu, {torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads"
