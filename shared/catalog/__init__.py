"""The catalog: names that requests may use -> models and what models wear.

Two TOML files: the one that ships (`shared/catalog.toml`) and the operator's own (MODELS_CATALOG), which adds to it.

    entries.py   what one entry says
    reading.py   TOML and folders -> entries
    catalog.py   looking names up
    fitting.py   a job's names -> the catalog's, where they go together
    abilities.py what a job asks of its model that not every model can do
"""

from shared.catalog.abilities import check_abilities
from shared.catalog.catalog import DEFAULT_ALIAS, Catalog
from shared.catalog.entries import Asset, Entry, Kind, Model
from shared.catalog.fitting import fitted

__all__ = ["DEFAULT_ALIAS", "Asset", "Catalog", "Entry", "Kind", "Model", "check_abilities", "fitted"]
