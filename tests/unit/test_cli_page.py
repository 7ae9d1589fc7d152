"""The page of the command line: every command is told of, and what it shows works as it stands."""

import importlib
import re
import shlex
from functools import partial
from pathlib import Path

import click
import pytest

from shared.cli import main
from shared.cli.batch_run import BatchRun
from tests.unit.test_cli_operators import desk  # noqa: F401 - a fixture

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = (DOCS / "cli.md").read_text()
SECTIONS = {
    title: [shlex.split(line, comments=True)[1:] for line in block.splitlines() if line.startswith("darkroom ")]
    for title, block in re.findall(r"^## ([^\n]+)\n\n<!-- tested -->\n```sh\n(.*?)```", PAGE, re.DOTALL | re.MULTILINE)
}


def leaves(group, path=()):
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from leaves(command, (*path, name))
        elif not command.hidden:
            yield " ".join((*path, name))


@pytest.mark.parametrize("command", sorted(leaves(main)))
def test_every_command_is_told_of(command):
    pages = "\n".join(path.read_text() for path in DOCS.glob("*.md"))

    assert re.search(rf"\b{command}\b", pages)


def drawing(desk):  # noqa: F811
    """A worker does the next job whenever a command waits."""
    return lambda _seconds: desk.bench.draw()


#: Loads the demo model in a process of its own.
SLOW = {"Models"}


@pytest.mark.parametrize(
    "section", [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in sorted(SECTIONS)]
)
def test_the_examples_work(desk, monkeypatch, section):  # noqa: F811
    uid, prefix, batch = str(desk.bench.submit()), "", ""
    Path("prompts.csv").write_text("prompt\na red circle\n")
    monkeypatch.setattr(importlib.import_module("shared.cli.batch"), "BatchRun", partial(BatchRun, sleep=drawing(desk)))
    desk.bench.key_of("bob")

    for arguments in SECTIONS[section]:
        words = [{"UID": uid, "PREFIX": prefix, "BATCH": batch}.get(word, word) for word in arguments]
        output = desk.run(*words, DEVICE="cpu")
        found = re.search(r"dr_\S{7}", output)
        prefix = found[0] if found else prefix
        if section == "Batches":
            batch = "".join(desk.bench.redis.lrange("{dr}:bx:1", 0, 0))


def test_the_page_shows_what_it_says_it_shows():
    assert set(SECTIONS) >= {"Is it well?", "Jobs", "Batches", "Accounts and keys", "Models", "The queue", "Webhooks"}
