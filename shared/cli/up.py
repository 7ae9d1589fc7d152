"""`darkroom up`: everything on this machine, until Ctrl-C."""

import asyncio
import shlex
import sys
import time
from pathlib import Path

import click

from shared import tracing
from shared.catalog import Catalog
from shared.cli.access import data_dir_option
from shared.settings import Settings
from shared.stack.folder import Folder
from shared.stack.output import Output
from shared.stack.stack import Address, Stack, StackFailed

_PORT = click.IntRange(1, 65535)
_PROMPT = '{"prompt": "a large red circle on a blue background"}'


@click.command()
@click.option("--port", type=_PORT, help="The API's port.  [default: PORT, else 8000]")
@click.option("--flower-port", type=_PORT, help="Flower's port.  [default: FLOWER_PORT, else 5555]")
@data_dir_option
def up(*, port: int | None, flower_port: int | None, data_dir: Path | None) -> None:
    """Run everything on this machine, until Ctrl-C.

    Valkey (unless REDIS_URL is set), API, worker, courier, Flower. What is queued when it stops is queued still at the
    next start.
    """
    started = time.monotonic()
    settings = _settings(port=port, flower_port=flower_port, data_dir=data_dir)
    folder = Folder(settings.data_dir)
    with folder.locked() as lock:
        output = Output(folder.logs)

        async def when_ready(address: Address) -> None:
            output.show(banner(address, folder, seconds=time.monotonic() - started))
            await asyncio.Event().wait()

        try:
            asyncio.run(Stack(settings, folder, output=output).run(lock=lock, when_ready=when_ready))
        except StackFailed as failure:
            raise click.ClickException(f"{failure.message}; its log: {folder.logs / failure.program}.log") from failure
        finally:
            output.close()
        output.say("stopped")


def _settings(*, port: int | None, flower_port: int | None, data_dir: Path | None) -> Settings:
    """Return the settings with the options' values; wrong ones are told before anything starts."""
    given = {"port": port, "flower_port": flower_port, "data_dir": data_dir}
    settings = Settings.from_env().evolve(**{name: value for name, value in given.items() if value is not None})
    Catalog.load(settings)
    tracing.require(settings)
    return settings


def banner(address: Address, folder: Folder, *, seconds: float) -> str:
    """Return what `up` says once everything is there."""
    user, _, password = address.flower_auth.partition(":")
    rows = (
        ("API", address.api_url),
        ("", f"{address.api_url}/docs"),
        ("Flower", address.flower_url),
        ("", f"user {user}, password {password}"),
        ("Metrics", f"{address.api_url}/metrics"),
        ("", f"Bearer token {address.metrics_token}"),
        ("Data", f"{folder.path} (logs in logs/)"),
        ("Key", f"{address.account['key']} (account {address.account['name']})"),
        ("Secret", f"{address.account['webhook_secret']} (signs its webhooks)"),
    )
    lines = [f"  {click.style(f'{name:<8}', bold=True)}{value}" for name, value in rows]
    title = click.style(f"Darkroom is ready, {seconds:.1f} s.", fg="green", bold=True)
    return "\n".join(
        [
            "",
            f"  {title}",
            "",
            *lines,
            "",
            click.style("  Paste into another terminal:", bold=True),
            "",
            f"curl {address.api_url}/v1/jobs \\",
            f"  -H 'Authorization: Bearer {address.account['key']}' \\",
            f"  -H 'Content-Type: application/json' -d '{_PROMPT}'",
            "",
            click.style("  or:", bold=True),
            "",
            f'{_command()} submit "a large red circle on a blue background" -o picture.png{_where(folder)}',
            "",
            "  Ctrl-C stops Darkroom; what is queued then is queued still at the next start.",
            "",
        ]
    )


def _command() -> str:
    """Return how this very program is called from here."""
    command = Path(sys.argv[0]).absolute()
    try:
        return shlex.quote(str(command.relative_to(Path.cwd())))
    except ValueError:
        return shlex.quote(str(command))


def _where(folder: Folder) -> str:
    """Return the option that leads to this folder, where it is not the usual one."""
    usual = folder.path == Settings().data_dir.resolve()
    return "" if usual else f" --data-dir {shlex.quote(str(folder.path))}"
