"""`python -m worker.trial KIND NAME`: load one entry of the catalog as a worker would. For `darkroom models add`."""

import sys
from typing import Any

from shared.catalog import Catalog
from shared.catalog.entries import Kind
from shared.errors import DarkroomError
from shared.logs import configure
from shared.settings import Settings
from shared.spec import JobSpec, Lora
from worker.engine import Engine


def main(kind: Kind, name: str) -> None:
    """Load it; exit status 1 and the reason where that cannot be."""
    settings = Settings.from_env()
    configure(settings)
    if fault := fault_of(settings, kind, name):
        sys.exit(fault)


def fault_of(settings: Settings, kind: Kind, name: str) -> str:
    """Return why an entry of the catalog cannot be loaded, '' where it can."""
    try:
        catalog = Catalog.load(settings)
        load(Engine(settings, catalog), catalog, kind, name)
    except DarkroomError as error:
        why = f"{error.message}: {error.__cause__}" if error.__cause__ else error.message
        return " ".join(why.split())  # the libraries' own reasons have several lines, of which the last is the least
    return ""


def load(engine: Engine, catalog: Catalog, kind: Kind, name: str) -> None:
    """Load an entry; what is no model is put on the default model, or on one of its own base."""
    if kind is Kind.MODEL:
        engine.model(name)
        return
    base = catalog.asset(kind, name).base
    fitting = [each.name for each in (catalog.default, *catalog) if each.base == base]
    if not fitting:
        raise DarkroomError(f"the catalog has no model of the base {base!r} to try it on: add one first, or use --base")
    model, _ = engine.model(fitting[0])
    if kind is Kind.CONTROLNET:
        model.controlnets.get(name, model.pipeline.unet)
        return
    worn: dict[Kind, dict[str, Any]] = {
        Kind.LORA: {"loras": (Lora(name),)},
        Kind.VAE: {"vae": name},
        Kind.TEXTUAL_INVERSION: {"textual_inversions": ((name, "<trial>"),)},
    }
    with engine.dressed(model, JobSpec(prompt="x", model=model.name, **worn[kind])):
        pass


if __name__ == "__main__":
    main(Kind(sys.argv[1]), sys.argv[2])
