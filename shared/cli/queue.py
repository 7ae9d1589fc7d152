"""`darkroom queue`: lanes, workers and jobs set apart, and what operators may do to them."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from shared.backlog import Gate
from shared.cli.access import data_dir_option
from shared.cli.direct import backlog_of, operations_of
from shared.cli.each import for_each
from shared.cli.moments import date_text
from shared.cli.tables import print_table
from shared.cli.top import top
from shared.errors import JobNotFound
from shared.settings import Settings


@click.group()
def queue() -> None:
    """Look at the queue; pause, drain and resume its pools.

    These commands speak to Redis itself: by REDIS_URL, else by the data directory of a running stack.
    """


@queue.command()
@click.option("--json", "as_json", is_flag=True, help="Print the lanes as JSON.")
@data_dir_option
def ls(*, as_json: bool, data_dir: Path | None) -> None:
    """List what waits and what runs, for each pool and model."""
    operations = operations_of(data_dir)
    lanes, pools = operations.lanes(), operations.shut_pools()
    if as_json:
        found = {"lanes": [asdict(lane) for lane in lanes], "pools": pools}
        click.echo(json.dumps(found, indent=2))
        return
    rows = (
        (lane.pool, lane.model, lane.gate.value, lane.waiting, lane.running, lane.workers, lane.idle) for lane in lanes
    )
    print_table(("pool", "model", "state", "waiting", "running", "workers", "idle"), rows, stretch={"pool", "model"})
    for pool, gate in pools.items():
        click.echo(f"The whole pool {pool} is {gate.value}.")


def _command(name: str, gate: Gate, says: str, explanation: str) -> Callable[..., Any]:
    @queue.command(name, help=explanation)
    @click.argument("lane", metavar="POOL[/MODEL]")
    @click.option("--json", "as_json", is_flag=True, help="Print JSON.")
    @data_dir_option
    def change(lane: str, *, as_json: bool, data_dir: Path | None) -> None:
        pool, _, model = lane.partition("/")
        if not pool:
            raise click.BadParameter("names no pool", param_hint="POOL[/MODEL]")
        operations = operations_of(data_dir)
        _check_pool(pool, {Settings.from_env().pool, *operations.pools()})
        operations.set_gate(pool, gate, model=model)
        told = {"pool": pool, "model": model or None, "state": gate.value}
        click.echo(json.dumps(told, indent=2) if as_json else f"{lane} {says}.")

    return change


def _check_pool(pool: str, known: set[str]) -> None:
    if pool not in known:
        raise click.ClickException(
            f"there is no pool {pool!r}: no account, worker or job is in it; known are {', '.join(sorted(known))}"
        )


pause = _command("pause", Gate.PAUSED, "is paused", "Begin no more jobs of a pool. New ones are accepted, and wait.")
drain = _command("drain", Gate.DRAINING, "is draining", "Accept no more jobs for a pool. Those that wait are drawn.")
resume = _command("resume", Gate.OPEN, "is open", "Open a pool again, and wake workers for what waits.")


@queue.command()
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="How many, latest first.")
@click.option("--json", "as_json", is_flag=True, help="Print the jobs as JSON.")
@data_dir_option
def quarantine(*, limit: int, as_json: bool, data_dir: Path | None) -> None:
    """List the jobs that failed as three workers were lost with them."""
    found = operations_of(data_dir).set_apart(limit)
    if as_json:
        click.echo(json.dumps([asdict(job) for job in found], indent=2))
        return
    rows = ((job.uid, job.account, date_text(job.at_ms, none=""), job.worker, job.lane) for job in found)
    print_table(("uid", "account", "set apart", "last worker", "lane"), rows, stretch={"last worker", "lane"})


@queue.command()
@click.argument("uids", type=int, nargs=-1, required=True)
@click.option("--json", "as_json", is_flag=True, help="Print the jobs as JSON.")
@data_dir_option
def retry(*, uids: tuple[int, ...], as_json: bool, data_dir: Path | None) -> None:
    """Queue the jobs UIDS once more, whosever they are.

    Each has three lives again.
    """
    backlog = backlog_of(data_dir)

    def once_more(uid: int) -> dict[str, Any]:
        job = backlog.records([uid]).get(uid)
        if job is None:
            raise JobNotFound
        return {"uid": uid, "status": str(backlog.retry(uid, account=job.account).status)}

    for_each(uids, once_more, says=lambda job: str(job["status"]), as_json=as_json)


queue.add_command(top)
