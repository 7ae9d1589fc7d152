"""Tables for a terminal: a line a row, however narrow it is."""

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, stretch: Collection[str] = ()) -> None:
    """Print rows, one a line; where there is no room for all of it the columns `stretch` are cut."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in columns:
        table.add_column(name, no_wrap=name not in stretch)
    for row in rows:
        table.add_row(*(_cell(value) for value in row))
    Console().print(table)


def minute(time: str | None) -> str:
    """Return an API's time as 2026-01-31 12:00, in UTC as all of them are."""
    return (time or "")[: len("2026-01-31T12:00")].replace("T", " ")


def _cell(value: Any) -> Text:
    text = "" if value is None else " ".join(str(value).split())
    return Text(text, no_wrap=True, overflow="ellipsis")
