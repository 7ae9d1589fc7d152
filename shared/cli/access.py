"""How a command finds the service: by its options, else by the data directory of a running stack."""

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

from shared.cli.api import Api
from shared.settings import Settings
from shared.stack.folder import Folder

NOT_FOUND = "no Darkroom runs with the data directory {folder}: start one with `darkroom up`, or {instead}"


def data_dir_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --data-dir to a command."""
    return click.option(
        "--data-dir",
        type=click.Path(path_type=Path, file_okay=False),
        help="The stack's data directory.  [default: DARKROOM_DATA_DIR, else .darkroom]",
    )(command)


def folder_of(data_dir: Path | None) -> Folder:
    """Return the data directory that the option or the settings name."""
    return Folder(data_dir or Settings.from_env().data_dir)


def uses_api(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command an `Api` as its first argument, and the options that say which."""

    @data_dir_option
    @click.option("--url", envvar="DARKROOM_URL", show_envvar=True, help="Where the API is.")
    @click.option("--key", envvar="DARKROOM_KEY", show_envvar=True, help="An API key.")
    @wraps(command)
    def with_api(*args: Any, url: str | None, key: str | None, data_dir: Path | None, **kwargs: Any) -> Any:
        with find_api(url=url, key=key, folder=folder_of(data_dir)) as api:
            return command(api, *args, **kwargs)

    return with_api


def find_api(*, url: str | None, key: str | None, folder: Folder) -> Api:
    """Return the API that was named, else the one that runs with this data directory."""
    running = None if url else folder.running()
    if running is not None:
        url = running.api_url
        key = key or folder.credentials().get("account", {}).get("key")
    if not url:
        raise click.ClickException(NOT_FOUND.format(folder=folder.path, instead="name one with --url (DARKROOM_URL)"))
    if not key:
        raise click.ClickException("an API key is needed: --key or DARKROOM_KEY (`darkroom keys create` makes one)")
    if not url.startswith(("http://", "https://")):
        raise click.UsageError(f"--url (DARKROOM_URL) must begin with http:// or https://, not be {url!r}")
    return Api(url, key)
