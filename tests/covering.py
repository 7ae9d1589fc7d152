"""Pairs of parameters of which a quick run needs only some."""

from collections.abc import Collection, Iterable
from typing import Any

import pytest


def covering(rows: Iterable[Any], columns: Collection[Any], *, always: Collection[Any] = ()) -> list[Any]:
    """Return every pair of a row and a column as parameters of a test; most are slow, and left out of `make test`.

    Quick are each row with the columns that are named `always`, and with one of the others, taken in turn.
    """
    others = [column for column in columns if column not in always]
    return [
        pytest.param(
            row,
            column,
            id=f"{row}-{column}",
            marks=() if column in always or column == others[number % len(others)] else pytest.mark.slow,
        )
        for number, row in enumerate(rows)
        for column in columns
    ]
