"""TOML and folders -> entries of the catalog; `shared/catalog.toml` describes the form."""

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final

from shared.catalog.entries import Asset, Entry, Kind, Model
from shared.errors import ConfigurationError
from shared.formats import unmarked

SAFETENSORS: Final = ".safetensors"
#: Formats that can hold code, which runs when they are loaded.
PICKLES: Final = frozenset({".ckpt", ".pt", ".pth", ".bin", ".pkl"})
#: kind -> the folder of such entries in a folder of assets
FOLDERS: Final = {
    Kind.MODEL: "checkpoints",
    Kind.LORA: "loras",
    Kind.VAE: "vaes",
    Kind.TEXTUAL_INVERSION: "textual_inversions",
    Kind.CONTROLNET: "controlnets",
}
#: Of these a folder in diffusers' format is an entry too, not a single file alone.
_IN_FOLDERS: Final = frozenset({Kind.MODEL, Kind.VAE, Kind.CONTROLNET})
_TABLES: Final = {kind.table: kind for kind in Kind}
_LISTS: Final = frozenset({"aliases", "triggers"})
_NUMBERS: Final = frozenset({"max_pixels", "text_layers"})
#: Keys beside `source` that say where something lies.
_PLACES: Final = frozenset({"core", "safety_checker", "clip"})


@dataclass(frozen=True, slots=True)
class Contents:
    """What one file says: entries and further names for them, by kind."""

    entries: Mapping[Kind, Mapping[str, Entry]] = field(default_factory=dict)
    aliases: Mapping[Kind, Mapping[str, str]] = field(default_factory=dict)


def read(path: Path, *, lenient: bool = False) -> Contents:
    """Read a catalog; `ConfigurationError` where that cannot be.

    A `lenient` one may name folders that are not there; entries that need them are left out.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
        unknown = set(data) - {*_TABLES, "aliases", "folders"}
        if unknown:
            raise ValueError(f"there are no tables {sorted(unknown)}")  # noqa: TRY301 - told with the file's name
        found = _found(data.get("folders", []), home=path.parent, lenient=lenient)
        entries = {kind: _entries(kind, data, found, home=path.parent, lenient=lenient) for kind in Kind}
        return Contents(entries, _aliases(data.get("aliases", {})))
    except (OSError, tomllib.TOMLDecodeError, TypeError, ValueError) as error:
        raise ConfigurationError("MODELS_CATALOG", f"{path}: {error}") from error


def _entries(
    kind: Kind, data: Mapping[str, Any], found: Mapping[Kind, Mapping[str, Any]], *, home: Path, lenient: bool
) -> dict[str, Entry]:
    """Return the table's entries and the folders', of which a table may tell more."""
    told = {**found[kind]}
    for name, more in data.get(kind.table, {}).items():
        told[name] = {**found[kind].get(name, {}), **more}
        if lenient and "source" not in told[name]:
            del told[name]
    return {name: _entry(kind, name, values, home=home) for name, values in told.items()}


def _entry(kind: Kind, name: str, values: Mapping[str, Any], *, home: Path) -> Entry:
    build = Model if kind is Kind.MODEL else Asset
    kinds = {f.name for f in fields(build)} - {"name", "kind"}
    place = f"[{kind.table}.{name}]"
    if set(values) - kinds or "source" not in values:
        raise ValueError(f"{place} needs `source` and does not take {sorted(set(values) - kinds)}")
    if kind is Kind.MODEL and unmarked(name) != name:
        raise ValueError(f"{place} cannot be called so: # and a number behind a name mean jobs of a later version")
    for key, value in values.items():
        if not _is(value, "list" if key in _LISTS else "number" if key in _NUMBERS else "text"):
            raise ValueError(f"{place} {key} cannot be {value!r}")
    checked: dict[str, Any] = {key: tuple(value) if key in _LISTS else value for key, value in values.items()}
    for key in ("source", "file"):
        _refuse_pickle(place, str(values.get(key, "")))
    checked["source"] = _placed(str(values["source"]), home)
    for key in _PLACES & set(values):
        checked[key] = _placed(str(values[key]), home)
    return build(**{**checked, "name": name, "kind": kind})


def _is(value: Any, wanted: str) -> bool:
    if wanted == "list":
        return isinstance(value, list) and all(isinstance(item, str) for item in value)
    if wanted == "number":
        return isinstance(value, int) and not isinstance(value, bool) and value > 0
    return isinstance(value, str)


def _refuse_pickle(place: str, name: str) -> None:
    if Path(name).suffix.lower() in PICKLES:
        raise ValueError(f"{place} {name} is a pickle, which can hold code that runs when it is loaded; convert it to "
                         f"{SAFETENSORS}")  # fmt: skip


def _placed(source: str, home: Path) -> str:
    """Return a path that begins with . or ~ as an absolute one; anything else as it is."""
    return str((home / Path(source).expanduser()).resolve()) if source.startswith((".", "~")) else source


def _found(folders: Any, *, home: Path, lenient: bool) -> dict[Kind, dict[str, Any]]:
    """Return what lies in the folders of assets: kind -> name -> the entry's values."""
    found: dict[Kind, dict[str, Any]] = {kind: {} for kind in Kind}
    for told in folders:
        values = dict(told)
        folder = Path(_placed(values.pop("path"), home)) if isinstance(values.get("path"), str) else None
        if folder is None or set(values) - {"base", "core", "owner"}:
            raise ValueError("[[folders]] needs `path` and takes `base`, `core` and `owner` beside it")
        if not folder.is_dir() and not lenient:
            raise ValueError(f"[[folders]] {folder} is not there")
        for kind, name, place in _in_folder(folder):
            shared = {key: value for key, value in values.items() if key != "core" or kind is Kind.MODEL}
            found[kind][name] = {"source": str(place), **shared}
    return found


def _in_folder(folder: Path) -> Iterator[tuple[Kind, str, Path]]:
    for kind, name in FOLDERS.items():
        for place in sorted((folder / name).glob("*")):
            if place.suffix == SAFETENSORS and place.is_file():
                yield kind, place.stem, place
            elif kind in _IN_FOLDERS and place.is_dir() and not place.name.startswith("."):
                yield kind, place.name, place


def _aliases(data: Mapping[str, Any]) -> dict[Kind, dict[str, str]]:
    """Return the further names by kind: those that stand alone are models'."""
    aliases: dict[Kind, dict[str, str]] = {kind: {} for kind in Kind}
    for name, target in data.items():
        if name in _TABLES and isinstance(target, dict):
            aliases[_TABLES[name]] |= {alias: str(meant) for alias, meant in target.items()}
        else:
            aliases[Kind.MODEL][name] = str(target)
    return aliases
