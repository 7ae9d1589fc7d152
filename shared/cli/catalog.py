"""`darkroom models add` and `rm`: edit the catalog's file, once what is added was seen to load."""

import json
import os
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from shared.catalog import Catalog
from shared.catalog.editing import added, removed
from shared.catalog.entries import Kind
from shared.doctor.model_files import fault_of
from shared.settings import Settings, child_environment

_KINDS = click.Choice([str(kind) for kind in Kind])
_RESTART = "Start the API and the workers anew, so that they know of it."


@click.command()
@click.argument("name")
@click.argument("source")
@click.option("--kind", type=_KINDS, default="model", show_default=True, help="What it is.")
@click.option("--catalog", type=click.Path(path_type=Path, dir_okay=False), help="The file.  [default: MODELS_CATALOG]")
@click.option("--file", help="The file inside a source that holds several.")
@click.option("--base", help="The family that it belongs to.  [default: sd1]")
@click.option("--core", help="Where parts come from that it lacks.")
@click.option("--variant", help="The precision to read, such as fp16.")
@click.option("--description", help="Shown in lists.")
@click.option("--owner", help="The account that alone may use it.")
@click.option("--alias", "aliases", multiple=True, help="Another name; may be given several times.")
@click.option("--no-load", is_flag=True, help="Look at local files' headers only, where torch is not installed.")
@click.option("--json", "as_json", is_flag=True, help="Print the entry as JSON.")
def add(*, name: str, source: str, kind: str, catalog: Path | None, no_load: bool, as_json: bool, **more: Any) -> None:
    """Add NAME to the catalog, from SOURCE.

    SOURCE is a folder, a .safetensors file or a Hugging Face id. It is loaded first, as a worker would, and added only
    if that works. Pickles are refused. A path that begins with . or ~ starts at the catalog's file.
    """
    settings = _settings(catalog)
    values = {"source": source, **{key: list(v) if key == "aliases" else v for key, v in more.items() if v}}
    text = settings.models_catalog.read_text(encoding="utf-8") if settings.models_catalog.exists() else ""
    with _changed(settings, added, text, Kind(kind), name, values) as tried:
        _check_files(Catalog.load(tried), Kind(kind), name)
        if not no_load:
            _load(tried, kind, name, source)
    click.echo(json.dumps({"kind": kind, "name": name, **values}, indent=2) if as_json else f"added {name}. {_RESTART}")


@click.command()
@click.argument("name")
@click.option("--kind", type=_KINDS, default="model", show_default=True, help="What it is.")
@click.option("--catalog", type=click.Path(path_type=Path, dir_okay=False), help="The file.  [default: MODELS_CATALOG]")
@click.option("--json", "as_json", is_flag=True, help="Print what was removed as JSON.")
def rm(*, name: str, kind: str, catalog: Path | None, as_json: bool) -> None:
    """Take NAME from the catalog. Its files stay, and so does what is shipped."""
    settings = _settings(catalog)
    text = settings.models_catalog.read_text(encoding="utf-8") if settings.models_catalog.exists() else ""
    with _changed(settings, removed, text, Kind(kind), name) as tried:
        Catalog.load(tried)  # an alias may need it, or MODELS_DEFAULT name it
    click.echo(json.dumps({"kind": kind, "name": name}, indent=2) if as_json else f"removed {name}. {_RESTART}")


def _settings(catalog: Path | None) -> Any:
    settings = Settings.from_env()
    path = catalog or settings.models_catalog
    if path is None:
        raise click.UsageError("name the catalog's file with --catalog or MODELS_CATALOG")
    return settings.evolve(models_catalog=path.absolute())


@contextmanager
def _changed(settings: Any, edit: Any, text: str, *args: Any) -> Iterator[Settings]:
    """Put the edited file in the catalog's place if the block ends well; until then it lies beside it."""
    path = settings.models_catalog
    try:
        changed = edit(text, *args)
    except (ValueError, tomllib.TOMLDecodeError) as error:
        raise click.ClickException(f"{path}: {error}") from error
    handle, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".toml")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(changed)
        yield settings.evolve(models_catalog=Path(beside))
        Path(beside).chmod(path.stat().st_mode & 0o777 if path.exists() else 0o644)
        Path(beside).replace(path)
    finally:
        Path(beside).unlink(missing_ok=True)


def _check_files(catalog: Catalog, kind: Kind, name: str) -> None:
    entry = catalog.model(name) if kind is Kind.MODEL else catalog.asset(kind, name)
    if fault := fault_of(entry):
        raise click.ClickException(f"{name} was not added: {fault}")


def _load(settings: Settings, kind: str, name: str, source: str) -> None:
    """Load it in a process of its own: torch has no place in this one."""
    if find_spec("torch") is None:
        raise click.ClickException(
            "torch is not installed here, so it cannot be loaded: add it on a worker, or --no-load"
        )
    environment = child_environment(MODELS_CATALOG=str(settings.models_catalog), LOG_LEVEL="ERROR")
    command = [sys.executable, "-m", "worker.trial", kind, name]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603 - ours
    if done.returncode:
        why = (done.stderr.strip().splitlines() or ["the process ended without a word"])[-1]
        raise click.ClickException(f"{name} was not added: {source}: {why}")
