"""The loop every stage runs in: resumable, seeded, with a moving average of the weights and a progress bar."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch import Tensor, nn

from worker.demo_model.training.progress import bar, note


@dataclass(frozen=True, kw_only=True)
class Chance:
    """One step's randomness, drawn from its number alone: a resumed run draws what it would have drawn."""

    python: Random
    torch: torch.Generator
    #: How far the run has come, 0..1.
    done: float

    @classmethod
    def of(cls, *, seed: int, step: int, done: float) -> Chance:
        """Make the source for one step of a run."""
        python = Random(seed * 1_000_003 + step)  # noqa: S311
        return cls(python=python, torch=torch.Generator().manual_seed(python.getrandbits(48)), done=done)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How long and how fast a stage learns."""

    #: Names the checkpoint, `<work_dir>/<name>.pt`.
    name: str
    steps: int
    learning_rate: float
    seed: int = 0
    warmup_steps: int = 100
    #: Of the moving average; 0.998 looks back over about 500 steps.
    ema_decay: float = 0.998
    save_every: int = 250
    #: The run ends after these at the latest, its whole schedule squeezed into them.
    minutes: float | None = None

    def done(self, step: int, *, seconds: float) -> float:
        """How far a run has come, 0..1, after `step` steps, the last of them within `seconds`."""
        by_clock = seconds / (60 * self.minutes) if self.minutes else 0.0
        return min(max(step / max(self.steps, 1), by_clock), 1.0)


#: One share of a step's batch: computes its share of the loss.
Part = Callable[[], Tensor]
#: Gives a step's parts, whose losses add up; called with the step's number and its source of randomness.
PartsOf = Callable[[int, Chance], Sequence[Part]]


def default_device() -> torch.device:
    """Choose a GPU when there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def half_precision(device: torch.device) -> torch.autocast:
    """Compute in bfloat16 where that is faster: on GPUs, and on CPUs that have instructions for it.

    A CPU without them takes some forty times as long in bfloat16 as in float32.
    """
    fast = device.type != "cpu" or torch.cpu._is_avx512_bf16_supported()  # noqa: SLF001
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=fast)


def share_count() -> int:
    """Into how many parts to split a batch: one for each core, computed side by side; one on a GPU.

    Small layers gain little from two cores at work on one of them, and each layer then waits for the slower core. Two
    halves of a batch meet once a step.
    """
    return 1 if torch.cuda.is_available() else min(os.cpu_count() or 1, 4)


def one_thread_each() -> ThreadPoolExecutor:
    """Make a worker for each of the shares, among which the cores are divided."""
    return ThreadPoolExecutor(share_count(), initializer=torch.set_num_threads, initargs=(_threads_per_share(),))


def train(
    model: nn.Module, parts_of: PartsOf, *, plan: Plan, work_dir: Path, on_save: Callable[[int], None] | None = None
) -> None:
    """Run the stage to `plan.steps`, from its checkpoint if there is one; leaves the averaged weights in `model`.

    A stage whose steps were raised since it ended goes on from where it stood. `on_save` is called after each
    checkpoint, with the averaged weights in the model.
    """
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=plan.learning_rate, betas=(0.9, 0.99), weight_decay=0.01, fused=True)
    average = {name: value.detach().clone() for name, value in model.state_dict().items()}
    path = work_dir / f"{plan.name}.pt"
    start = _resume(path, model, optimizer, average)
    # Without the optimizer's own memory the run needs its warm-up again.
    unpractised = 0 if optimizer.state else start
    pool = one_thread_each()
    steps = bar(range(start, plan.steps), name=plan.name, start=start, total=plan.steps)
    smooth, started = 0.0, time.monotonic()
    for step in steps:
        done = plan.done(step, seconds=time.monotonic() - started)
        for group in optimizer.param_groups:
            group["lr"] = plan.learning_rate * _rate(step - unpractised, done, plan)
        optimizer.zero_grad(set_to_none=True)
        parts = parts_of(step, Chance.of(seed=plan.seed, step=step, done=done))
        loss = sum(pool.map(_forward_and_back, parts))
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        _follow(average, model, decay=min(plan.ema_decay, (step + 1) / (step + 10)))
        smooth += (loss - smooth) * max(0.02, 1 / (step - start + 1))
        steps.set_postfix(loss=f"{smooth:.4f}", refresh=False)
        last = step + 1 == plan.steps or done == 1
        if (step + 1) % plan.save_every == 0 or last:
            _save(path, model, optimizer, average, step=step + 1)
            elapsed = time.monotonic() - started
            note(f"{plan.name} {step + 1} loss {smooth:.4f} {elapsed:.0f} s")
            if on_save is not None:
                with_average(model, average, partial(on_save, step + 1))
        if last:
            break
    model.load_state_dict(average)


def in_parts(loss: Callable[..., Tensor], *batch: Tensor) -> list[Part]:
    """Split the mean loss over a batch into a part for each core; all of `batch` share their first dimension."""
    count = len(batch[0])
    shares = zip(*(tensor.tensor_split(min(share_count(), count)) for tensor in batch), strict=True)
    return [partial(_weighted, loss, share, len(share[0]) / count) for share in shares]


def _weighted(loss: Callable[..., Tensor], batch: tuple[Tensor, ...], weight: float) -> Tensor:
    return loss(*batch) * weight


def _threads_per_share() -> int:
    return max((os.cpu_count() or 1) // share_count(), 1)


def _forward_and_back(part: Part) -> float:
    """Add the part's gradients to those of the others; the accumulation is safe from several threads."""
    loss = part()
    loss.backward()
    return float(loss.item())


def with_average(model: nn.Module, average: dict[str, Tensor], then: Callable[[], None]) -> None:
    """Call `then` while the model bears the averaged weights."""
    current = {name: value.detach().clone() for name, value in model.state_dict().items()}
    model.load_state_dict(average)
    model.eval()
    with torch.no_grad():
        then()
    model.train()
    model.load_state_dict(current)


def load_average(model: nn.Module, path: Path) -> int:
    """Put the averaged weights of a checkpoint into `model`; returns the steps it had done."""
    saved = torch.load(path, map_location="cpu", weights_only=True)
    model.load_state_dict(saved["average"])
    return int(saved["step"])


def _rate(practised: int, done: float, plan: Plan) -> float:
    """Linear warm-up over the first steps, then half a cosine down to 2 %."""
    warmth = min((practised + 1) / plan.warmup_steps, 1)
    return warmth * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))


@torch.no_grad()
def _follow(average: dict[str, Tensor], model: nn.Module, *, decay: float) -> None:
    for name, value in model.state_dict().items():
        if value.is_floating_point():
            average[name].lerp_(value, 1 - decay)
        else:
            average[name].copy_(value)


def _save(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, average: dict[str, Tensor], *, step: int
) -> None:
    _write(path, {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "average": average, "step": step})


def _write(path: Path, state: dict[str, Any]) -> None:
    """Replace the checkpoint in one move, so that a kill leaves the old one whole."""
    temporary = path.with_suffix(".tmp")
    torch.save(state, temporary)
    temporary.replace(path)


def save_adopted(path: Path, model: nn.Module, *, step: int) -> None:
    """Write a checkpoint of weights that came from elsewhere, `step` steps old, unless there is one already."""
    if not path.is_file():
        weights = model.state_dict()
        _write(path, {"model": weights, "optimizer": None, "average": weights, "step": step})


def steps_done(path: Path) -> int:
    """Count the steps that a checkpoint has behind it; 0 where there is none."""
    return int(torch.load(path, map_location="cpu", weights_only=True)["step"]) if path.is_file() else 0


def _resume(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, average: dict[str, Tensor]) -> int:
    if not path.is_file():
        return 0
    saved = torch.load(path, map_location="cpu", weights_only=True)
    model.load_state_dict(saved["model"])
    if saved["optimizer"] is not None:
        optimizer.load_state_dict(saved["optimizer"])
    for name, value in saved["average"].items():
        average[name].copy_(value)
    return int(saved["step"])
