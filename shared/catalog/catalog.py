"""Looking names up in the catalog."""

from collections import ChainMap
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final, Self, cast

from shared.catalog.entries import Asset, Entry, Kind, Model
from shared.catalog.reading import Contents, read
from shared.errors import ConfigurationError, InvalidField
from shared.settings import Settings

SHIPPED: Final = Path(__file__).parents[1] / "catalog.toml"
#: The alias that means the installation's default model.
DEFAULT_ALIAS: Final = "default"


class Shelf:
    """All entries of one kind, by name and alias.

    What has an owner is seen by its owner alone, and comes first there: an alias of its own may be anybody's name.
    """

    def __init__(self, kind: Kind, entries: Mapping[str, Entry], aliases: Mapping[str, str]) -> None:
        self._kind = kind
        public = {name: entry for name, entry in entries.items() if not entry.owner}
        self._public = {alias: entry.name for entry in public.values() for alias in entry.aliases}
        self._public |= {name: name for name in public}
        self._own: dict[str, dict[str, str]] = {}
        for entry in entries.values():
            if entry.owner:
                names = dict.fromkeys((*entry.aliases, entry.name), entry.name)
                self._own[entry.owner] = {**names, **self._own.get(entry.owner, {})}
        for alias, target in aliases.items():
            if target not in self._public:
                raise ConfigurationError("MODELS_CATALOG", f"the alias {alias!r} names no {kind.noun}: {target!r}")
            self._public.setdefault(alias, self._public[target])
        self._entries = {name: replace(entry, aliases=self._aliases_of(entry)) for name, entry in entries.items()}

    def _aliases_of(self, entry: Entry) -> tuple[str, ...]:
        names = self._own[entry.owner] if entry.owner else self._public
        return tuple(a for a, target in names.items() if target == entry.name and a not in {entry.name, DEFAULT_ALIAS})

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    def seen_by(self, account: str) -> tuple[Entry, ...]:
        """Return the entries that an account may name."""
        return tuple(entry for entry in self if entry.owner in {"", account})

    def resolve(self, name: str, account: str) -> Entry:
        """Return the entry of that name or alias; `InvalidField` naming the kind's field where there is none."""
        names = ChainMap(self._own.get(account, {}), self._public)
        if name not in names:
            known = ", ".join(sorted(entry.name for entry in self.seen_by(account))) or "none"
            raise InvalidField(self._kind.field, f"there is no {self._kind.noun} {name!r}; known: {known}")
        return self._entries[names[name]]

    def named(self, name: str) -> Entry:
        """Return the entry of that very name, whoever may see it; KeyError where there is none."""
        return self._entries[name]


class Catalog:
    """Looks models, and what they wear, up by name or alias."""

    def __init__(self, contents: Contents, *, default: str) -> None:
        self._shelves = {
            kind: Shelf(kind, contents.entries.get(kind, {}), contents.aliases.get(kind, {})) for kind in Kind
        }
        self._default = default

    @classmethod
    def load(cls, settings: Settings) -> Self:
        """Read the shipped catalog and the operator's; `ConfigurationError` where one cannot be read."""
        shipped = read(SHIPPED, lenient=True)
        own = Contents() if settings.models_catalog is None else read(settings.models_catalog)
        merged = {kind: {**shipped.entries[kind], **own.entries.get(kind, {})} for kind in Kind}
        default = _default(merged[Kind.MODEL], settings.models_default)
        aliases = {kind: {**shipped.aliases[kind], **own.aliases.get(kind, {})} for kind in Kind}
        # What the shipped names stand for may not be there; an operator's must.
        for kind, spare in shipped.aliases.items():
            for alias in spare.keys() - own.aliases.get(kind, {}).keys():
                if kind is not Kind.MODEL and aliases[kind][alias] not in merged[kind]:
                    del aliases[kind][alias]
        aliases[Kind.MODEL] = {
            alias: default if target == DEFAULT_ALIAS else target for alias, target in aliases[Kind.MODEL].items()
        }
        aliases[Kind.MODEL][DEFAULT_ALIAS] = default
        return cls(Contents(merged, aliases), default=default)

    def __iter__(self) -> Iterator[Model]:
        """Iterate over all models, whoever may see them."""
        return cast("Iterator[Model]", iter(self._shelves[Kind.MODEL]))

    @property
    def default(self) -> Model:
        """The model that `default` means."""
        return self.model(self._default)

    def models(self, account: str = "") -> tuple[Model, ...]:
        """Return the models that an account, by its name, may name."""
        return cast("tuple[Model, ...]", self._shelves[Kind.MODEL].seen_by(account))

    def assets(self, account: str = "") -> tuple[Asset, ...]:
        """Return everything else that an account may name."""
        seen = [entry for kind, shelf in self._shelves.items() if kind is not Kind.MODEL
                for entry in shelf.seen_by(account)]  # fmt: skip
        return cast("tuple[Asset, ...]", tuple(seen))

    def resolve(self, name: str, *, account: str = "") -> Model:
        """Return the model of that name or alias; `InvalidField` naming `model` where there is none."""
        return cast("Model", self._shelves[Kind.MODEL].resolve(name, account))

    def resolve_asset(self, kind: Kind, name: str, *, account: str = "") -> Asset:
        """Return what that name or alias means; `InvalidField` naming the kind's field where there is none."""
        return cast("Asset", self._shelves[kind].resolve(name, account))

    def model(self, name: str) -> Model:
        """Return the model of that very name, whoever may see it; KeyError where there is none."""
        return cast("Model", self._shelves[Kind.MODEL].named(name))

    def asset(self, kind: Kind, name: str) -> Asset:
        """Return the asset of that very name, whoever may see it; KeyError where there is none."""
        return cast("Asset", self._shelves[kind].named(name))


def _default(models: Mapping[str, Entry], wanted: str) -> str:
    """Return the name of the model that MODELS_DEFAULT means, by its name or an alias of its own."""
    for name, entry in models.items():
        if not entry.owner and wanted in {name, *entry.aliases}:
            return name
    raise ConfigurationError("MODELS_DEFAULT", f"there is no model {wanted!r} in the catalog that everybody may use")
