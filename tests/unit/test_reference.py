"""The pages made from the code are as the code makes them, and say what is so."""

import re

import pytest

from shared.dialects import PROVIDERS
from shared.dialects.base import Fetch, Submit, Wait
from shared.settings import VARIABLES
from tests.reference import DOCS, PAGES, configuration, errors

ROOT = DOCS.parent
#: Modules of the worker package that run in couriers alone, and those that run in both.
COURIERS = {"archiver", "courier", "ingest", "receivers", "retention"}
BOTH = {"signals"}


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_what_the_code_makes(name):
    assert (DOCS / name).read_text() == PAGES[name](), "run `make docs`"


def test_it_is_known_who_reads_a_setting():
    assert set(configuration.READ_BY) == set(VARIABLES)


def reads():
    """Yield every setting that a process' own code reads, and the process."""
    sources = {
        configuration.API: [*(ROOT / "api").rglob("*.py"), ROOT / "deploy/gunicorn.conf.py"],
        configuration.UP: [*(ROOT / "shared/stack").rglob("*.py")],
    }
    workers = [path for path in (ROOT / "worker").rglob("*.py") if path.stem not in BOTH]
    sources[configuration.COURIER] = [path for path in workers if path.stem in COURIERS]
    sources[configuration.WORKER] = [path for path in workers if path.stem not in COURIERS]
    for process, paths in sources.items():
        for path in paths:
            for name in re.findall(r"settings\.([a-z0-9_]+)\b", path.read_text()):
                if name in VARIABLES:
                    yield name, process


@pytest.mark.parametrize(("name", "process"), sorted(set(reads())))
def test_who_reads_a_setting_is_told(name, process):
    assert process in configuration.READ_BY[name]


def test_every_error_is_in_one_table():
    page = (DOCS / "errors.md").read_text()
    listed = re.findall(r"^\| `([a-z_]+)` \|", page, re.MULTILINE)

    assert {kind.code for kind in errors.tree()} - errors.UNSEEN <= set(listed)
    assert {kind.code for kind in errors.tree()} >= errors.NATIVE | errors.COMMANDS | errors.UNSEEN


def test_the_error_tree_is_drawn_whole():
    drawn = re.findall(r"[├└]── (\w+)", (ROOT / "shared/errors.py").read_text())

    assert {kind.__name__ for kind in errors.tree() if kind.__module__ == "shared.errors"} <= {"DarkroomError", *drawn}


def test_only_formats_that_read_jobs_find_none():
    reading = {name for name, dialect in PROVIDERS.items() if any(isinstance(each, Fetch) for each in dialect.routes)}
    waiting = {
        name
        for name, dialect in PROVIDERS.items()
        for route in dialect.routes
        if isinstance(route, Submit) and route.wait(errors.Call(method="POST")) is Wait.END
    }

    assert set(errors.ONLY["job_not_found"]) == set(errors.ONLY["job_gone"]) == reading
    assert {*errors.ONLY["timed_out"], "aithriving"} == waiting


@pytest.mark.parametrize("kind", errors.tree(), ids=lambda kind: kind.__name__)
def test_aithriving_answers_all_alike(kind):
    reply = PROVIDERS["aithriving"].render_error(errors.made(kind), errors.Call(method="POST"))

    assert (reply.status, reply.body["code"], reply.body["data"]) == (200, -1, None)
