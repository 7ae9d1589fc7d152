"""How operators' commands find Redis itself."""

from pathlib import Path

import click

from shared.cli.access import NOT_FOUND, folder_of
from shared.settings import Settings


def direct_settings(data_dir: Path | None) -> Settings:
    """Return the settings with the Redis of REDIS_URL, else of the running stack."""
    settings = Settings.from_env()
    if settings.redis_url and data_dir is None:
        return settings
    folder = folder_of(data_dir)
    running = folder.running()
    if running is None:
        raise click.ClickException(NOT_FOUND.format(folder=folder.path, instead="set REDIS_URL"))
    return settings.evolve(redis_url=running.redis_url)
