"""How operators' commands find Redis itself."""

from pathlib import Path

import click

from shared.backlog import Backlog, Operations
from shared.celery_app import CeleryBell, make_celery
from shared.cli.access import NOT_FOUND, folder_of
from shared.redis_client import connect
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


def backlog_of(data_dir: Path | None) -> Backlog:
    """Return the backlog there; it wakes workers as the API does."""
    settings = direct_settings(data_dir)
    bell = CeleryBell(make_celery(settings))
    return Backlog(connect(settings), bell, limit=settings.backlog_limit, lease_s=settings.lease_s)


def operations_of(data_dir: Path | None) -> Operations:
    """Return operators' side of it."""
    settings = direct_settings(data_dir)
    return Operations(connect(settings), CeleryBell(make_celery(settings)))
