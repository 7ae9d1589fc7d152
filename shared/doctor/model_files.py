"""The catalog's files: whether they are there, and are what they should be."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from shared.catalog import Catalog
from shared.catalog.entries import Entry
from shared.doctor.finding import Finding, error, good
from shared.errors import ConfigurationError
from shared.settings import Settings

_AREA: Final = "models"
_SUFFIX: Final = ".safetensors"
#: Longer headers than the format's own bound are none.
_LONGEST_HEADER: Final = 100_000_000


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
    files = [place] if place.is_file() else sorted(place.rglob(f"*{_SUFFIX}"))
    if not files:
        return f"{place} holds no {_SUFFIX} file"
    return next((fault for file in files if (fault := _header_fault(file))), "")


def _header_fault(file: Path) -> str:
    """Return why a file cannot be in the format safetensors: its header must be whole, and its data be there."""
    try:
        size = file.stat().st_size
        with file.open("rb") as source:
            (length,) = struct.unpack("<Q", source.read(8))
            if length > min(size - 8, _LONGEST_HEADER):
                return f"{file} is cut off, or no {_SUFFIX} file"
            header = json.loads(source.read(length))
        ends = [told["data_offsets"][1] for name, told in header.items() if name != "__metadata__"]
    except (OSError, struct.error, ValueError, KeyError, TypeError, AttributeError) as failure:
        return f"{file} cannot be read: {failure}"
    return "" if size == 8 + length + max(ends, default=0) else f"{file} is cut off"
