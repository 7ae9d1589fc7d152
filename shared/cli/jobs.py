"""`darkroom jobs`: look at jobs, cancel them, run them again."""

import json
from typing import Any, Final

import click

from shared.cli.access import uses_api
from shared.cli.api import Api
from shared.cli.each import each
from shared.cli.tables import minute, print_table
from shared.job import Status

COLUMNS: Final = ("uid", "status", "created", "track_id", "prompt")
#: What one request lists at most.
PAGE: Final = 200


@click.group()
def jobs() -> None:
    """Look at jobs, cancel them, run them again.

    Exit status: 0 as wished, 1 refused, 2 wrong usage, 3 the service cannot be reached.
    """


@jobs.command()
@click.option("--status", type=click.Choice([str(status) for status in Status]), help="Only those that stand so.")
@click.option("--track-id", help="Only those with this reference.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, show_default=True, help="How many, newest first.")
@click.option("--json", "as_json", is_flag=True, help="Print them as JSON.")
@uses_api
def ls(api: Api, *, status: str | None, track_id: str | None, limit: int, as_json: bool) -> None:
    """List your jobs, newest first."""
    found = _listed(api, limit=limit, status=status, track_id=track_id)
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    told = [{**job, "created": minute(job["created_at"]), "prompt": job["parameters"].get("prompt")} for job in found]
    print_table(COLUMNS, ([job[name] for name in COLUMNS] for job in told), stretch={"track_id", "prompt"})


@jobs.command()
@click.argument("uid", type=int)
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@uses_api
def show(api: Api, *, uid: int, as_json: bool) -> None:
    """Show the job UID as it stands."""
    job = api.job(uid)
    if as_json:
        click.echo(json.dumps(job, indent=2))
        return
    for name, value in job.items():
        if name != "links" and value not in (None, [], {}):
            click.echo(f"{name:<13} {value if isinstance(value, str | int) else json.dumps(value)}")


@jobs.command()
@click.argument("uids", type=int, nargs=-1, required=True)
@click.option("--json", "as_json", is_flag=True, help="Print the jobs as JSON.")
@uses_api
def cancel(api: Api, *, uids: tuple[int, ...], as_json: bool) -> None:
    """Cancel the jobs UIDS; those that have ended stay as they are."""
    each(api, "/v1/jobs", uids, "cancel", as_json=as_json)


@jobs.command()
@click.argument("uids", type=int, nargs=-1, required=True)
@click.option("--json", "as_json", is_flag=True, help="Print the jobs as JSON.")
@uses_api
def retry(api: Api, *, uids: tuple[int, ...], as_json: bool) -> None:
    """Queue the jobs UIDS once more.

    They have failed, were cancelled or have expired.
    """
    each(api, "/v1/jobs", uids, "retry", as_json=as_json)


def _listed(api: Api, *, limit: int, **query: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    cursor = None
    while len(found) < limit:
        page = api.get("/v1/jobs", limit=min(PAGE, limit - len(found)), cursor=cursor, **query)
        found += page["data"]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    return found
