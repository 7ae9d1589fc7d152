"""`darkroom batch`: a file of jobs in, a folder of images out; and batches looked at, paused, cancelled, retried."""

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Final

import click
from rich.console import Console
from rich.markup import escape

from shared.cli.access import uses_api
from shared.cli.accounts import Credits, credits_text
from shared.cli.api import Api, Refused, Unreachable, faults_text
from shared.cli.batch_folder import BatchFolder
from shared.cli.batch_run import BatchRun, Ended
from shared.cli.batch_view import batch_view, described, reasons_of, table_of
from shared.cli.each import each
from shared.job import PRIORITIES

#: What a file's suffix says that it holds.
CONTENT_TYPES: Final = {
    ".csv": "text/csv",
    ".jsonl": "application/jsonl",
    ".ndjson": "application/jsonl",
    ".json": "application/json",
}
#: What a shell says of a program that Ctrl-C ended.
INTERRUPTED: Final = 130


@click.group()
def batch() -> None:
    """Draw a file of jobs; look at batches, pause, cancel, retry them.

    Exit status: 0 as wished, 1 refused or not all drawn, 2 wrong usage, 3 the service cannot be reached, 130 Ctrl-C.
    """


def _known(_: click.Context, __: click.Parameter, file: Path) -> Path:
    """Return the file, if its suffix says what it holds."""
    if file.suffix.lower() not in CONTENT_TYPES:
        raise click.BadParameter(f"{file.name}: the suffix must be one of {', '.join(CONTENT_TYPES)}.")
    return file


@batch.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False), callback=_known)
@click.option("-o", "--output", type=click.Path(path_type=Path, file_okay=False), help="The folder of the images.")
@click.option("--name", help="What the batch is called.  [default: the file's name]")
@click.option("--priority", type=click.Choice(sorted(PRIORITIES)), help="Of jobs that name none.  [default: low]")
@click.option("--budget", type=Credits(), help="The most it may cost, in credits; else it is refused.")
@click.option("--webhook-url", help="Called once, when all of it has ended.")
@click.option("--dry-run", is_flag=True, help="Check the file and tell what it would cost; draw nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON.")
@uses_api
def run(api: Api, *, file: Path, output: Path | None, dry_run: bool, as_json: bool, **options: Any) -> None:
    """Draw the jobs in FILE (.csv, .jsonl or .json) into a folder.

    Run it again to go on: nothing is submitted or fetched twice. Ctrl-C leaves the batch running.
    """
    given = {"name": file.name, "archive": 0} | {name: value for name, value in options.items() if value is not None}
    if dry_run:
        _check(api, file, given, as_json=as_json)
        return
    if output is None:
        raise click.UsageError("name the folder of the images with -o, or --dry-run")
    folder = BatchFolder(output)
    found = _submitted(api, file, folder, given)
    ended = _follow(api, found, folder, again=shlex.join(["darkroom", "batch", "run", str(file), "-o", str(output)]))
    if as_json:
        told = {"batch": ended.batch, "folder": str(output), "fetched": ended.fetched, "missing": ended.missing}
        click.echo(json.dumps(told, indent=2))
    else:
        _tell(ended, folder)
    if not ended.is_whole:
        raise click.exceptions.Exit(Unreachable.exit_code if ended.missing else 1)


@batch.command()
@click.option("--limit", type=click.IntRange(1, 200), default=20, show_default=True, help="How many, newest first.")
@click.option("--json", "as_json", is_flag=True, help="Print them as JSON.")
@uses_api
def ls(api: Api, *, limit: int, as_json: bool) -> None:
    """List your batches, newest first."""
    found = api.get("/v1/batches", limit=limit)["data"]
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        Console().print(table_of(found))


@batch.command()
@click.argument("batch_id", type=int)
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@uses_api
def status(api: Api, *, batch_id: int, as_json: bool) -> None:
    """Tell how the batch BATCH_ID stands."""
    found = api.get(f"/v1/batches/{batch_id}")
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for name, value in described(found):
        if value:
            click.echo(f"{name:<12} {value}")


@batch.command()
@click.argument("batch_id", type=int)
@click.option("--csv", "as_csv", is_flag=True, help="As CSV. Otherwise as JSON Lines.")
@click.option("-o", "--output", type=click.File("wb", atomic=True), default="-", help="Where to.  [default: stdout]")
@uses_api
def results(api: Api, *, batch_id: int, as_csv: bool, output: IO[bytes]) -> None:
    """Write the manifest of the batch BATCH_ID.

    It has a record for each line, as it stands now, with links to the images.
    """
    for chunk in api.chunks(f"/v1/batches/{batch_id}/results", format="csv" if as_csv else "jsonl"):
        output.write(chunk)


def _changing(action: str, help_text: str) -> None:
    @batch.command(action, help=help_text)
    @click.argument("batch_ids", type=int, nargs=-1, required=True)
    @click.option("--json", "as_json", is_flag=True, help="Print the batches as JSON.")
    @uses_api
    def change(api: Api, *, batch_ids: tuple[int, ...], as_json: bool) -> None:
        each(api, "/v1/batches", batch_ids, action, as_json=as_json)


_changing("pause", "Let nothing more of the batches BATCH_IDS begin.")
_changing("resume", "Let the paused batches BATCH_IDS go on.")
_changing("cancel", "End the batches BATCH_IDS; what is drawn stays.")
_changing("retry", "Queue once more what ended without images in the batches BATCH_IDS.")


def _check(api: Api, file: Path, options: Mapping[str, Any], *, as_json: bool) -> None:
    with file.open("rb") as body:
        found = api.check_batch(body, content_type=CONTENT_TYPES[file.suffix.lower()], options=options)
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        click.echo(f"{found['count']:,} jobs for {credits_text(found['price'])} credits")
        for fault in faults_text(found["errors"], count=found["error_count"]):
            click.echo(fault, err=True)
    if not found["valid"]:
        raise click.exceptions.Exit(1)


def _submitted(api: Api, file: Path, folder: BatchFolder, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the batch of a folder, submitted now where that was not done before."""
    kept = folder.claim(file, options)
    if kept.batch is not None:
        try:
            return api.get(f"/v1/batches/{kept.batch}")
        except Refused as error:
            raise click.ClickException(f"batch {kept.batch}, which {folder.path} is of: {error.message}") from error
    with file.open("rb") as body:
        try:
            found = api.submit_batch(
                body, content_type=CONTENT_TYPES[file.suffix.lower()], key=kept.key, options=kept.options
            )
        except Refused:
            folder.forget()
            raise
    folder.note(kept.evolve(batch=found["id"]))
    return found


def _follow(api: Api, found: Mapping[str, Any], folder: BatchFolder, *, again: str) -> Ended:
    console = Console(stderr=True, highlight=False)
    console.print(f"batch [bold]{found['id']}[/] {escape(found['name'])}: {found['total']:,} jobs")
    try:
        with batch_view(console, found["total"]) as view:
            return BatchRun(api, found, folder, view).follow()
    except KeyboardInterrupt:
        _leave(found, again)
        raise click.exceptions.Exit(INTERRUPTED) from None
    except Unreachable:
        _leave(found, again)
        raise


def _leave(found: Mapping[str, Any], again: str) -> None:
    """Say how to come back."""
    click.echo(f"The batch goes on. To come back:  {again}", err=True)
    click.echo(f"           To end it instead:  darkroom batch cancel {found['id']}", err=True)


def _tell(ended: Ended, folder: BatchFolder) -> None:
    found = ended.batch
    click.echo(f"{ended.fetched:,} of {found['total']:,} lines have their images in {folder.path}")
    click.echo(f"all of them are told in {folder.results}")
    for reason in reasons_of(folder.read_results()):
        click.echo(f"  {reason}")
    if ended.missing:
        click.echo(f"{ended.missing:,} could not be fetched; run the same once more.", err=True)
    elif not ended.is_whole:
        click.echo(f"`darkroom batch retry {found['id']}` queues these again; then run the same once more.", err=True)
