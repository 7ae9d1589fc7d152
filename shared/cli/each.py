"""The same done to several jobs or batches."""

import json
from collections.abc import Sequence

import click

from shared.cli.api import Api, Refused


def each(api: Api, path: str, numbers: Sequence[int], action: str, *, as_json: bool) -> None:
    """Do it to each, whatever becomes of the others, and tell how each stands; exit status 1 where one was refused."""
    done, refused = [], False
    for number in dict.fromkeys(numbers):
        try:
            found = api.post(f"{path}/{number}/{action}")
        except Refused as error:
            refused = True
            click.echo(f"{number}: {error.message}", err=True)
            continue
        done.append(found)
        if not as_json:
            click.echo(f"{number}: {found['status']}")
    if as_json:
        click.echo(json.dumps(done, indent=2))
    if refused:
        raise click.exceptions.Exit(1)
