"""`darkroom queue`: lanes, workers and jobs set apart, and what operators may do to them."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from shared.backlog import Gate
from shared.cli.access import data_dir_option
from shared.cli.direct import backlog_of, operations_of
from shared.cli.moments import date_text
from shared.cli.top import top
from shared.errors import DarkroomError, JobNotFound


@click.group()
def queue() -> None:
    """Look at the queue; pause, drain and resume its pools; run jobs again that were set apart.

    These commands speak to Redis itself: by REDIS_URL, else by the data directory of a running stack.
    """


@queue.command()
@click.option("--json", "as_json", is_flag=True, help="Print the lanes as JSON.")
@data_dir_option
def ls(*, as_json: bool, data_dir: Path | None) -> None:
    """List the lanes: for each pool and model what waits, what runs, and who works."""
    operations = operations_of(data_dir)
    lanes, pools = operations.lanes(), operations.shut_pools()
    if as_json:
        found = {"lanes": [asdict(lane) for lane in lanes], "pools": pools}
        click.echo(json.dumps(found, indent=2))
        return
    table = _table("pool", "model", "state", "waiting", "running", "workers", "idle")
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
        operations_of(data_dir).set_gate(pool, gate, model=model)
        click.echo(f"{lane} {says}.")

    return change


pause = _command("pause", Gate.PAUSED, "is paused", "Begin no more jobs. New ones are accepted, and wait.")
drain = _command("drain", Gate.DRAINING, "is draining", "Accept no more jobs. Those that wait are drawn.")
resume = _command("resume", Gate.OPEN, "is open", "Open it again, and wake workers for what waits.")


@queue.command()
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="How many, latest first.")
@click.option("--json", "as_json", is_flag=True, help="Print the jobs as JSON.")
@data_dir_option
def quarantine(*, limit: int, as_json: bool, data_dir: Path | None) -> None:
    """List jobs that were lost with their worker three times, and so have failed."""
    found = operations_of(data_dir).set_apart(limit)
    if as_json:
        click.echo(json.dumps([asdict(job) for job in found], indent=2))
        return
    table = _table("uid", "account", "lane", "last worker", "set apart")
    for job in found:
        table.add_row(str(job.uid), job.account, job.lane, job.worker or "", date_text(job.at_ms, none=""))
    Console().print(table)


@queue.command()
@click.argument("uids", type=int, nargs=-1, required=True)
@data_dir_option
def retry(*, uids: tuple[int, ...], data_dir: Path | None) -> None:
    """Queue the jobs UIDS once more, whosever they are; each has three lives again."""
    refused = False
    backlog = backlog_of(data_dir)
    for uid in dict.fromkeys(uids):
        try:
            job = backlog.records([uid]).get(uid)
            if job is None:
                raise JobNotFound
            status = backlog.retry(uid, account=job.account).status
        except DarkroomError as error:
            refused = True
            click.echo(f"{uid}: {error.message}", err=True)
        else:
            click.echo(f"{uid}: {status}")
    if refused:
        raise click.exceptions.Exit(1)


def _table(*columns: str) -> Table:
    return Table(*columns, box=None, header_style="bold", pad_edge=False)


queue.add_command(top)
