"""`darkroom models`: what there is to draw with; what is added to it, and taken from it."""

import json
from copy import copy

import click
from rich.console import Console
from rich.table import Table

from shared.cli.access import uses_api
from shared.cli.api import Api
from shared.cli.catalog import add, rm


@click.group()
def models() -> None:
    """Look at the models that requests may name; edit the catalog."""


models.add_command(add)
models.add_command(rm)


@models.command("ls")
@click.option("--json", "as_json", is_flag=True, help="Print them as JSON.")
@uses_api
def list_models(api: Api, *, as_json: bool) -> None:
    """List models, and the LoRAs, VAEs and others for them."""
    found = [{"kind": "model", **model} for model in api.models()] + api.assets()
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    table = Table("kind", "name", "aliases", "base", "description", box=None, header_style="bold", pad_edge=False)
    for entry in found:
        table.add_row(
            entry["kind"].replace("_", " "),
            entry["name"],
            ", ".join(entry["aliases"]),
            entry["base"],
            entry["description"],
        )
    Console().print(table)


# Its name of old, which scripts may use.
_of_old = copy(list_models)
_of_old.hidden = True
models.add_command(_of_old, "list")
