"""`darkroom queue top`: who works on what, and for whom, again and again."""

import json
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table

from shared.backlog import AccountLoad, Operations, WorkerView
from shared.cli.access import data_dir_option
from shared.cli.direct import operations_of

#: Accounts that are shown.
ACCOUNTS: Final = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class Picture:
    """The queue at one moment."""

    workers: list[WorkerView]
    accounts: list[AccountLoad]

    @classmethod
    def of(cls, operations: Operations) -> "Picture":
        """Look once."""
        return cls(workers=operations.workers(), accounts=operations.busiest(ACCOUNTS))

    @property
    def shown(self) -> RenderableType:
        """For people."""
        return Group(_workers(self.workers), "", _accounts(self.accounts))


@click.command()
@click.option("--every", "every_s", type=click.FloatRange(0.2, 3600), default=2.0, show_default=True, help="Seconds.")
@click.option("--once", is_flag=True, help="Look once, as where the output is no terminal.")
@click.option("--json", "as_json", is_flag=True, help="Look once, and print JSON.")
@data_dir_option
def top(*, every_s: float, once: bool, as_json: bool, data_dir: Path | None) -> None:
    """Watch the workers and the busiest accounts, until Ctrl-C."""
    operations = operations_of(data_dir)
    console = Console()
    if as_json:
        click.echo(json.dumps(asdict(Picture.of(operations)), indent=2))
    elif once or not console.is_terminal:
        console.print(Picture.of(operations).shown)
    else:
        with suppress(KeyboardInterrupt):
            watch(operations, console, every_s=every_s)


def watch(operations: Operations, console: Console, *, every_s: float) -> None:
    """Show the queue again and again; ends by what is raised, as Ctrl-C is."""
    with Live(Picture.of(operations).shown, console=console, screen=True, auto_refresh=False) as live:
        while True:
            time.sleep(every_s)
            live.update(Picture.of(operations).shown, refresh=True)


def _workers(found: list[WorkerView]) -> Table:
    table = _table("worker", "pool", "state", "job", "account", "model", "steps", "seconds")
    for worker in found:
        if not worker.jobs:
            state = "silent" if worker.is_silent else "idle" if worker.idle else "busy"
            table.add_row(worker.node, worker.pool, state)
        for job in worker.jobs:
            model = job.lane.partition("/")[2]
            steps = f"{job.step}/{job.steps}" if job.steps else ""
            told = (str(job.uid), job.account, model, steps, f"{job.seconds:.0f}")
            table.add_row(worker.node, worker.pool, "silent" if worker.is_silent else "busy", *told)
    return table


def _accounts(found: list[AccountLoad]) -> Table:
    table = _table("account", "waiting", "running")
    for load in found:
        table.add_row(load.name, str(load.waiting), str(load.running))
    return table


def _table(*columns: str) -> Table:
    return Table(*columns, box=None, header_style="bold", pad_edge=False)
