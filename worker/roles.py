"""What a process is: the child of a GPU worker, or a courier. Set once by the signals, read by the tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from worker.courier import Courier


class Claimer(Protocol):
    """Whoever answers wake-ups: a GPU worker's child, or a courier's fetching side."""

    def generate(self) -> None:
        """Look into the backlog, and work until there is nothing left to do."""


_claimer: Claimer | None = None
_courier: Courier | None = None


def become_claimer(claimer: Claimer) -> None:
    """Let this process answer wake-ups."""
    global _claimer  # noqa: PLW0603 - Celery's tasks have no other way to find it
    _claimer = claimer


def become_courier(courier: Courier) -> None:
    """Make this process a courier."""
    global _courier  # noqa: PLW0603
    _courier = courier


def claimer() -> Claimer:
    """Return what answers wake-ups here; a task in the wrong queue is a fault of the set-up."""
    if _claimer is None:
        raise RuntimeError("`generate` came to a process that claims nothing; check its queues")
    return _claimer


def courier() -> Courier:
    """Return this process's courier role."""
    if _courier is None:
        raise RuntimeError("`deliver` came to a process that is no courier; check its queues")
    return _courier
