"""docs/parameters.md: what each parameter of each API means, and the test that shows its effect."""

import ast
import tomllib
from pathlib import Path
from typing import Any, Final

from api.schemas import JobRequest
from tests.reference.table import table

ROOT: Final = Path(__file__).parents[2]
#: API -> its parameters as its documents have them
TABLE: Final[dict[str, dict[str, Any]]] = tomllib.loads((ROOT / "tests/dialects/parameters.toml").read_text())
#: what a parameter means -> the tests of its effect
EFFECTS: Final[dict[str, list[str]]] = tomllib.loads(Path(__file__).with_name("effects.toml").read_text())
APIS: Final = tuple(TABLE["operations"])
#: What the native API calls that which is no field of JobSpec.
NATIVE: Final = {
    "webhook_url": "(webhook)",
    "webhook_events": "(webhook events)",
    "track_id": "(track_id)",
    "priority": "(priority)",
    "start_deadline_s": "(start deadline)",
    "run_deadline_s": "(run deadline)",
}
HEAD: Final = """\
# Parameters

<!-- Made by `make docs` from tests/dialects/parameters.toml and tests/reference/effects.toml. Change those. -->

What the parameters of each API mean: the field of `JobSpec`, which is also the native API's, or in brackets what else.
The last column names the tests that show the effect; those that need the trained demo model are skipped where it is
missing. `(none)` are taken, and have no effect or are refused with any value but the one that does nothing.
[Each API's own page](dialects/README.md) tells defaults, bounds and peculiarities.

"""


def page() -> str:
    """Return the page."""
    rows = (
        (
            f"`{meaning}`",
            *(", ".join(f"`{name}`" for name in names(api, meaning)) for api in ("native", *APIS)),
            tests(meaning),
        )
        for meaning in EFFECTS
    )
    return HEAD + table(("means", "native", *APIS, "shown by"), rows)


def names(api: str, meaning: str) -> list[str]:
    """Return what an API calls it."""
    if api == "native":
        return [name for name in JobRequest._declared_fields if NATIVE.get(name, name) == meaning]
    return [name for name, row in TABLE[api].items() if meaning in (row["canonical"], row.get("also"))]


def tests(meaning: str) -> str:
    """Return the tests of an effect."""
    return "<br>".join(f"`{test.removeprefix('tests/')}`" for test in EFFECTS[meaning])


def defined(test: str) -> bool:
    """Tell whether a test (`path::name`) is there."""
    path, name = test.split("::")
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return any(isinstance(node, ast.FunctionDef) and node.name == name for node in ast.walk(tree))
