"""`darkroom doctor`: what is wrong with an installation, and what to do."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Final

import click

from shared.cli.access import data_dir_option, folder_of
from shared.doctor import (
    Finding,
    Level,
    look_at_accounts,
    look_at_models,
    look_at_programs,
    look_at_redis,
    look_at_settings,
    look_at_storage,
)
from shared.redis_client import connect
from shared.settings import Settings

_MARKS: Final = {Level.OK: ("ok", "green"), Level.WARNING: ("warning", "yellow"), Level.ERROR: ("error", "red")}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@data_dir_option
def doctor(*, as_json: bool, data_dir: Path | None) -> None:
    """Check what runs and what it runs on; say what to do.

    Looks at Redis, storage, clock, device, versions, model files and settings. Reads the settings as the services do,
    from the environment. Exit status: 0 without errors, 1 with some; warnings alone are no errors.
    """
    found = []
    for finding in _findings(_settings(data_dir)):
        found.append(finding)
        if not as_json:
            _show(finding)
    errors = sum(finding.level is Level.ERROR for finding in found)
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in found], indent=2))
    if errors:
        raise click.exceptions.Exit(1)


def _settings(data_dir: Path | None) -> Settings:
    settings = Settings.from_env()
    folder = folder_of(data_dir)
    running = None if settings.redis_url and data_dir is None else folder.running()
    settings = settings.evolve(data_dir=folder.path)
    return settings if running is None else settings.evolve(redis_url=running.redis_url)


def _findings(settings: Settings) -> Iterator[Finding]:
    yield from look_at_settings(settings)
    if settings.redis_url:
        with connect(settings) as redis:
            yield from look_at_redis(redis)
            yield from look_at_accounts(settings, redis)
    else:
        says = "REDIS_URL is not set, and nothing runs with this data directory"
        yield Finding("redis", Level.WARNING, says, "`darkroom up` starts a server of its own; else set REDIS_URL.")
    yield from look_at_storage(settings)
    yield from look_at_models(settings)
    yield from look_at_programs(settings)


def _show(finding: Finding) -> None:
    word, colour = _MARKS[finding.level]
    click.echo(f"{click.style(f'{word:<8}', fg=colour)} {finding.area:<9} {finding.says}")
    if finding.do:
        click.echo(f"{'':<19}-> {finding.do}")
