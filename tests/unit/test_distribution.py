"""What a quick run of the tests leaves out, and how the rest is shared out."""

from pathlib import Path
from types import SimpleNamespace

from tests.covering import covering
from tests.distribution import LONG, ONE_STACK, pytest_collection_modifyitems, unit_of

ROOT = Path(__file__).parents[2]


def test_every_row_and_every_column_stays_in_a_quick_run():
    pairs = covering(range(7), ["text", "image", "inpaint", "outpaint"], always=["text"])
    quick = [pair.values for pair in pairs if not pair.marks]

    assert len({pair.values for pair in pairs}) == len(pairs) == 28
    assert [row for row, column in quick if column == "text"] == list(range(7))
    assert [row for row, column in quick if column != "text"] == list(range(7))
    assert {column for _, column in quick} == {"text", "image", "inpaint", "outpaint"}
    assert {mark.name for pair in pairs for mark in pair.marks} == {"slow"}


def test_the_files_that_come_first_are_there():
    assert [file for file in LONG if not (ROOT / file).is_file()] == []


def test_long_files_come_first_and_a_files_tests_stay_in_order():
    names = ["tests/unit/test_a.py::b", "tests/unit/test_a.py::a", f"{LONG[-1]}::x", f"{LONG[0]}::y[::]"]
    items = [SimpleNamespace(nodeid=name) for name in names]

    pytest_collection_modifyitems(items)

    assert [item.nodeid for item in items] == [names[3], names[2], *names[:2]]


def test_who_shares_a_stack_is_kept_together():
    assert {unit_of(f"{file}::test_x") for file in ONE_STACK} == {"one stack"}
    assert unit_of("tests/unit/test_a.py::test_x[a::b]") == "tests/unit/test_a.py"
