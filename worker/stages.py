"""When the stages of a job began and ended, by the clock on the wall, for its trace. Results have the seconds."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage that is over. Times are epoch nanoseconds."""

    name: str
    begun_ns: int
    ended_ns: int


class Staged(Protocol):
    """What goes through stages: a job that is held."""

    stages: list[Stage]


def note(name: str, jobs: Iterable[Staged], begun_ns: int, ended_ns: int = 0) -> None:
    """Note a stage that these jobs went through together, which ended just now unless told otherwise."""
    stage = Stage(name, begun_ns, ended_ns or time.time_ns())
    for job in jobs:
        job.stages.append(stage)


@contextmanager
def staged(name: str, *jobs: Staged) -> Iterator[None]:
    """Note the block as a stage, however it ends."""
    begun = time.time_ns()
    try:
        yield
    finally:
        note(name, jobs, begun)


@contextmanager
def drawing(jobs: Iterable[Staged]) -> Iterator[Callable[[], None]]:
    """Note a call of the pipeline: `denoise` to its last step, `decode` to its end. Yields what is called at each step.

    A GPU runs behind the process that tells it what to do: there some of the last steps' time counts as decoding.
    """
    begun = stepped = time.time_ns()

    def step() -> None:
        nonlocal stepped
        stepped = time.time_ns()

    try:
        yield step
    except BaseException:
        note("denoise", jobs, begun)
        raise
    note("denoise", jobs, begun, stepped)
    note("decode", jobs, stepped)
