"""A job's way to its end, as a progress bar on stderr."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, SpinnerColumn, Task, TextColumn, TimeElapsedColumn
from rich.text import Text

from shared.cli.api import Api


class Mark(SpinnerColumn):
    """A spinner that ends as a tick or, where the task's `bad` is set, as a cross."""

    def render(self, task: Task) -> RenderableType:
        """Return what stands before the task."""
        return Text("✗", style="red") if task.fields.get("bad") else super().render(task)


@contextmanager
def progress_bar(console: Console) -> Iterator[Progress]:
    """Yield a progress display in our form."""
    with Progress(
        Mark(finished_text="[green]✓[/]"),
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        TextColumn("{task.fields[detail]}"),
        TimeElapsedColumn(),
        console=console,
    ) as progress:
        yield progress


def follow(api: Api, uid: int, progress: Progress) -> dict[str, Any]:
    """Show a job's progress until it ends; return the job."""
    task = progress.add_task("job", total=None, detail="")
    for event in api.follow(uid):
        steps = event.get("progress") or {}
        progress.update(
            task,
            description=f"{event['status']:<10}",
            total=steps.get("steps"),
            completed=steps.get("step", 0),
            detail=_detail(event),
        )
    job = api.job(uid)
    step = job["progress"]
    done = job["status"] == "succeeded"
    progress.update(
        task,
        description=f"{job['status']:<10}",
        total=step["steps"],
        completed=step["steps"] if done else step["step"],
        detail=f"{step['step']}/{step['steps']} steps",
        bad=not done,
    )
    progress.stop_task(task)
    return job


def _detail(event: dict[str, Any]) -> str:
    if steps := event.get("progress"):
        return f"{steps['step']}/{steps['steps']} steps"
    position = event.get("position")
    return f"{position} before it" if position else ""
