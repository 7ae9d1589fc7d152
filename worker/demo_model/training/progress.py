"""Progress on the terminal: a bar per stage, and lines that do not break it."""

from __future__ import annotations

from typing import Any

from tqdm import tqdm  # type: ignore[import-untyped]

#: Seconds between two drawings of the bar: logs stay short.
_INTERVAL_S = 10


def bar(steps: Any, *, name: str, start: int = 0, total: int | None = None) -> Any:
    """Iterate over `steps` behind a bar; the answer is tqdm's."""
    return tqdm(steps, desc=name, initial=start, total=total, mininterval=_INTERVAL_S)


def note(line: str) -> None:
    """Print a line above the bar."""
    tqdm.write(line)
