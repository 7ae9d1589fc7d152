"""How the tests are shared out among processes."""

from pathlib import Path
from types import SimpleNamespace

from tests.distribution import LONG, pytest_collection_modifyitems

ROOT = Path(__file__).parents[2]


def test_the_files_that_come_first_are_there():
    assert [file for file in LONG if not (ROOT / file).is_file()] == []


def test_long_files_come_first_and_a_files_tests_stay_in_order():
    names = ["tests/unit/test_a.py::b", "tests/unit/test_a.py::a", f"{LONG[-1]}::x", f"{LONG[0]}::y[::]"]
    items = [SimpleNamespace(nodeid=name) for name in names]

    pytest_collection_modifyitems(items)

    assert [item.nodeid for item in items] == [names[3], names[2], *names[:2]]
