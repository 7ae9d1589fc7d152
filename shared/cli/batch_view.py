"""A batch on the terminal: progress bars while it is drawn and fetched, a table, what it came to. On stderr."""

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from shared.batch import BatchStatus
from shared.cli.accounts import credits_text
from shared.cli.api import ENDED
from shared.cli.progress import Mark
from shared.job import Status

#: Over how long the rate is taken.
RATE_S: Final = 60.0
LIST_COLUMNS: Final = ("id", "status", "total", "drawn", "lost", "created_at", "name")
NUMBERS: Final = frozenset({"total", "drawn", "lost"})


class Rate:
    """How fast jobs end: over the last minute, as seen."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def note(self, ended: int, *, now_s: float) -> None:
        """Note how many have ended by now."""
        self._seen.append((now_s, ended))
        while len(self._seen) > 2 and now_s - self._seen[1][0] > RATE_S:  # noqa: PLR2004 - the ends of a span
            self._seen.popleft()

    @property
    def per_s(self) -> float:
        """Jobs per second; 0 while nothing is known."""
        (began_s, before), (now_s, now) = self._seen[0], self._seen[-1]
        return max(0, now - before) / (now_s - began_s) if now_s > began_s else 0.0


class BatchView:
    """Progress bars of one batch."""

    def __init__(self, progress: Progress, total: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._progress = progress
        self._clock = clock
        self._rate = Rate()
        self._lost = 0
        self._paused = False
        self._drawn = progress.add_task("drawn", total=total, detail="")
        self._fetched = progress.add_task("fetched", total=total, detail="")

    def show(self, batch: Mapping[str, Any], *, fetched: int) -> None:
        """Show how a batch stands, and how many of its lines are here."""
        ended = ended_of(batch)
        self._rate.note(ended, now_s=self._clock())
        self._tell_of_pause(batch)
        self._lost = ended - batch["counts"][Status.SUCCEEDED]
        bad = self._lost > 0 and BatchStatus(batch["status"]).is_over
        self._progress.update(self._drawn, completed=ended, detail=self._detail(batch, ended), bad=bad)
        self._progress.update(self._fetched, total=batch["total"] - self._lost)
        self.fetched(fetched)

    def fetched(self, lines: int) -> None:
        """Show how many lines' images are here."""
        lost = f"  [red]{self._lost:,} without images[/]" if self._lost else ""
        self._progress.update(self._fetched, completed=lines, detail=f"{lines:,}{lost}")

    def says(self, text: str) -> None:
        """Show what is the matter."""
        self._progress.update(self._drawn, detail=f"[yellow]{text}[/]")

    def _tell_of_pause(self, batch: Mapping[str, Any]) -> None:
        paused = batch["status"] == BatchStatus.PAUSED
        if paused and not self._paused:
            self._progress.console.print(f"It is paused. To let it go on:  darkroom batch resume {batch['id']}")
        self._paused = paused

    def _detail(self, batch: Mapping[str, Any], ended: int) -> str:
        shown = [f"{ended:,}/{batch['total']:,}"]
        if batch["status"] == BatchStatus.PAUSED:
            return "  ".join([*shown, "[yellow]paused[/]"])
        if batch["status"] == BatchStatus.CANCELLED:
            return "  ".join([*shown, "[yellow]cancelled[/]"])
        left, rate = batch["total"] - ended, self._rate.per_s
        if rate > 0 and left > 0:
            shown += [f"{rate:.1f}/s" if rate >= 1 else f"{rate * 60:.1f}/min", f"{span(left / rate)} left"]
        return "  ".join(shown)


@contextmanager
def batch_view(console: Console, total: int) -> Iterator[BatchView]:
    """Yield a live view of a batch with so many lines."""
    with Progress(
        Mark(finished_text="[green]✓[/]"),
        TextColumn("{task.description:<8}"),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[detail]}"),
        console=console,
    ) as progress:
        yield BatchView(progress, total)


def ended_of(batch: Mapping[str, Any]) -> int:
    """Return how many jobs of a batch have ended."""
    return sum(batch["counts"][status] for status in ENDED)


def span(seconds: float) -> str:
    """Return a time as 1:02:03 or 2:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def table_of(batches: list[dict[str, Any]]) -> Table:
    """Return batches as a table."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in LIST_COLUMNS:
        table.add_column(name, justify="right" if name in NUMBERS else "left", no_wrap=name != "name")
    for batch in batches:
        drawn = batch["counts"][Status.SUCCEEDED]
        numbers = (batch["total"], drawn, ended_of(batch) - drawn)
        created = batch["created_at"][: len("2026-01-31T12:00")].replace("T", " ")
        told = (f"{number:,}" for number in numbers)
        table.add_row(str(batch["id"]), batch["status"], *told, created, escape(batch["name"]))
    return table


def described(batch: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what there is to say of a batch, as names and values."""
    counts = ", ".join(f"{number:,} {status}" for status, number in batch["counts"].items() if number)
    return [
        ("id", str(batch["id"])),
        ("name", batch["name"]),
        ("status", batch["status"]),
        ("jobs", f"{batch['total']:,}: {counts}"),
        ("price", f"{credits_text(batch['price'])} credits, {credits_text(batch['spent'])} spent"),
        ("created_at", batch["created_at"]),
        ("finished_at", batch["finished_at"] or ""),
    ]


def reasons_of(rows: Iterable[Mapping[str, str]]) -> list[str]:
    """Return why rows of a table of results have no images: reasons with their first lines, the most frequent first."""
    found, examples = Counter[str](), dict[str, str]()
    for row in rows:
        if row["status"] == Status.SUCCEEDED:
            continue
        reason = row["error_code"] or row["status"] or "erased"
        found[reason] += 1
        examples.setdefault(reason, f"line {row['line']}: {row['error_message']}".removesuffix(": "))
    return [f"{number:,} {reason} ({examples[reason]})" for reason, number in found.most_common()]
