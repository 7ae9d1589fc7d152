"""The same done to several jobs or batches."""

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import click

from shared.cli.api import Api, Refused
from shared.errors import BacklogUnavailable, DarkroomError


def each(api: Api, path: str, numbers: Sequence[int], action: str, *, as_json: bool) -> None:
    """POST an action of each, and tell how each stands."""
    for_each(
        numbers,
        lambda number: api.post(f"{path}/{number}/{action}"),
        says=lambda found: str(found["status"]),
        as_json=as_json,
    )


def for_each(
    numbers: Iterable[int],
    do: Callable[[int], dict[str, Any]],
    *,
    says: Callable[[dict[str, Any]], str],
    as_json: bool,
) -> None:
    """Do it to each, whatever becomes of the others, and tell of each; exit status 1 where one was refused."""
    done, refused = [], False
    for number in dict.fromkeys(numbers):
        try:
            found = do(number)
        except BacklogUnavailable:
            raise
        except (Refused, DarkroomError) as error:
            refused = True
            click.echo(f"{number}: {error.message}", err=True)
            continue
        done.append(found)
        if not as_json:
            click.echo(f"{number}: {says(found)}")
    if as_json:
        click.echo(json.dumps(done, indent=2))
    if refused:
        raise click.exceptions.Exit(1)
