"""The catalog's files: whether they are there, and are what they should be."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from shared.catalog import Catalog
from shared.catalog.entries import Entry, Kind
from shared.catalog.reading import PICKLES, SAFETENSORS
from shared.doctor.finding import Finding, error, good
from shared.doctor.tensors import header_of, kind_of
from shared.errors import ConfigurationError
from shared.settings import Settings

_AREA: Final = "models"
#: What a folder with a whole model in diffusers' format has.
_INDEX: Final = "model_index.json"


def look_at_models(settings: Settings) -> Iterator[Finding]:
    """Yield what is wrong with the catalog or with an entry of it, or how many entries are well."""
    try:
        catalog = Catalog.load(settings)
    except ConfigurationError as failure:
        yield error(_AREA, failure.message, "Mend the catalog's file, or unset the setting.")
        return
    entries: list[Entry] = [*catalog, *catalog.assets()]
    faults = {entry.name: fault for entry in entries if (fault := fault_of(entry))}
    for entry in entries:
        if entry.name in faults:
            do = f"Put it there, or mend [{entry.kind.table}.{entry.name}] in {settings.models_catalog}."
            yield error(_AREA, f"{entry.kind.noun} {entry.name}: {faults[entry.name]}", do)
    yield good(_AREA, f"{len(entries) - len(faults)} of {len(entries)} entries have their files, or are fetched by id")


def fault_of(entry: Entry) -> str:
    """Return what is wrong with the files of an entry that lie on this machine, '' where nothing is."""
    path = Path(entry.source)
    if not path.is_absolute():
        return ""  # embedded, or fetched by its Hugging Face id
    place = path / entry.file if entry.file and path.is_dir() else path
    if not place.exists():
        return f"{place} is not there"
    files = [place] if place.is_file() else sorted(place.rglob(f"*{SAFETENSORS}"))
    if not files:
        pickles = sorted(file.name for file in place.rglob("*") if file.suffix.lower() in PICKLES)
        return f"{place} holds no {SAFETENSORS} file" + (f"; pickles are not read: {pickles[0]}" if pickles else "")
    try:
        names = {file: header_of(file) for file in files}
    except ValueError as failure:
        return str(failure)
    return _kind_fault(entry.kind, place, {file: kind_of(found) for file, found in names.items()})


def _kind_fault(kind: Kind, place: Path, seen: Mapping[Path, Kind | None]) -> str:
    """Return that an entry is of another kind than it is said to be. What lies deeper in a folder is a part of it."""
    own = {file: found for file, found in seen.items() if place in (file, file.parent)}
    if (place / _INDEX).exists():
        own = {place / _INDEX: Kind.MODEL}
    for file, found in own.items():
        if found and found is not kind:
            return f"{file} is that of a {found.noun}, not of a {kind.noun}: its kind is {found}"
    return ""
