"""`darkroom queue`: the lanes, and what operators may do to them."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from shared.backlog import Gate, Operations
from shared.celery_app import CeleryBell, make_celery
from shared.cli.access import data_dir_option
from shared.cli.direct import direct_settings
from shared.redis_client import connect


@click.group()
def queue() -> None:
    """Look at the queue; pause, drain and resume its pools.

    These commands speak to Redis itself: by REDIS_URL, else by the data directory of a running stack.
    """


@queue.command()
@click.option("--json", "as_json", is_flag=True, help="Print the lanes as JSON.")
@data_dir_option
def ls(*, as_json: bool, data_dir: Path | None) -> None:
    """List the lanes: for each pool and model what waits, what runs, and who works."""
    operations = _operations(data_dir)
    lanes, pools = operations.lanes(), operations.shut_pools()
    if as_json:
        found = {"lanes": [asdict(lane) for lane in lanes], "pools": pools}
        click.echo(json.dumps(found, indent=2))
        return
    columns = ("pool", "model", "state", "waiting", "running", "workers", "idle")
    table = Table(*columns, box=None, header_style="bold", pad_edge=False)
    for lane in lanes:
        numbers = (lane.waiting, lane.running, lane.workers, lane.idle)
        table.add_row(lane.pool, lane.model, lane.gate.value, *map(str, numbers))
    Console().print(table)
    for pool, gate in pools.items():
        click.echo(f"The whole pool {pool} is {gate.value}.")


def _command(name: str, gate: Gate, says: str, explanation: str) -> Callable[..., Any]:
    @queue.command(name, help=explanation)
    @click.argument("lane", metavar="POOL[/MODEL]")
    @data_dir_option
    def change(lane: str, *, data_dir: Path | None) -> None:
        pool, _, model = lane.partition("/")
        if not pool:
            raise click.BadParameter("names no pool", param_hint="POOL[/MODEL]")
        _operations(data_dir).set_gate(pool, gate, model=model)
        click.echo(f"{lane} {says}.")

    return change


pause = _command("pause", Gate.PAUSED, "is paused", "Begin no more jobs. New ones are accepted, and wait.")
drain = _command("drain", Gate.DRAINING, "is draining", "Accept no more jobs. Those that wait are drawn.")
resume = _command("resume", Gate.OPEN, "is open", "Open it again, and wake workers for what waits.")


def _operations(data_dir: Path | None) -> Operations:
    settings = direct_settings(data_dir)
    return Operations(connect(settings), CeleryBell(make_celery(settings)))
