"""The pages of docs/ that are made from the code: `make docs` writes them, a test compares them with what is there."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

from tests.reference import configuration, errors, parameters

DOCS: Final = Path(__file__).parents[2] / "docs"
#: file in docs/ -> what makes its text
PAGES: Final[dict[str, Callable[[], str]]] = {
    "configuration.md": configuration.page,
    "errors.md": errors.page,
    "parameters.md": parameters.page,
}
