"""The command line as those meet it who do not know it: help, narrow terminals, wrong addresses, nobody there."""

import json

import click
import pytest
from click.testing import CliRunner

from shared.cli import main
from tests.unit.test_cli import service  # noqa: F401 - a fixture
from tests.unit.test_cli_operators import desk  # noqa: F401 - a fixture

#: They run until Ctrl-C, show a demonstration, or write JSON Lines as it is.
NO_JSON = {("up",), ("demo",), ("batch", "results")}
LONG = "a very detailed oil painting of a red circle on a blue background, in the manner of an old master, at night"


def commands(group=main, path=()):
    """Yield each group and command with its words."""
    yield path, group
    for name, command in getattr(group, "commands", {}).items():
        if not command.hidden:
            yield from commands(command, (*path, name))


LEAVES = {path: command for path, command in commands() if not isinstance(command, click.Group)}
GROUPS = {path: command for path, command in commands() if isinstance(command, click.Group)}


@pytest.mark.parametrize("path", LEAVES, ids=" ".join)
def test_every_command_prints_json_where_asked(path):
    flags = {flag for each in LEAVES[path].params for flag in each.opts}

    assert ("--json" in flags) is (path not in NO_JSON)


@pytest.mark.parametrize("path", GROUPS, ids=lambda path: " ".join(path) or "darkroom")
def test_lists_of_commands_are_whole_on_a_narrow_terminal(path):
    shown = CliRunner().invoke(main, [*path, "--help"], env={"COLUMNS": "80"})

    assert shown.exit_code == 0
    _usage, *listed = shown.output.splitlines()
    assert [line for line in listed if line.endswith("...") or len(line) > 80] == []


@pytest.mark.parametrize("path", LEAVES, ids=" ".join)
def test_every_command_and_option_is_explained(path):
    shown = CliRunner().invoke(main, [*path, "--help"], env={"COLUMNS": "80"})

    assert shown.exit_code == 0
    assert max(map(len, shown.output.splitlines())) <= 80
    assert LEAVES[path].help
    assert [each.name for each in LEAVES[path].params if isinstance(each, click.Option) and not each.help] == []


def lines(desk, *words):  # noqa: F811
    return desk.run(*words, COLUMNS="80").splitlines()


def test_tables_have_a_line_a_row_on_a_narrow_terminal(desk):  # noqa: F811
    uids = [desk.bench.submit(prompt=f"{LONG}\n{number}", track_id=f"order {number} of our shop") for number in (1, 2)]
    desk.run("keys", "create", "alice", "--name", "the till beside the door, by the window")

    jobs, keys = lines(desk, "jobs", "ls"), lines(desk, "keys", "ls")

    assert [line.split()[0] for line in jobs] == ["uid", *map(str, reversed(uids))]
    assert all("a very detailed" in line and line.rstrip().endswith("…") for line in jobs[1:])
    assert len(keys) == 3
    assert max(map(len, jobs + keys)) <= 80
    assert lines(desk, "queue", "ls")[1].split()[:4] == ["default", "demo", "open", "2"]


@pytest.mark.parametrize(
    ("environment", "exit_code", "says"),
    [
        ({"DARKROOM_URL": "localhost:8000"}, 2, "must begin with http:// or https://"),
        ({"DARKROOM_URL": "http://nowhere.invalid"}, 3, "there is no host of this name"),
        ({"DARKROOM_URL": "http://127.0.0.1:1"}, 3, "the connection was refused"),
        ({"DARKROOM_KEY": "dr_wrong"}, 1, "A valid API key is required"),
        ({"DARKROOM_KEY": ""}, 1, "--key or DARKROOM_KEY"),
    ],
)
@pytest.mark.parametrize("words", [("jobs", "ls"), ("submit", "x"), ("batch", "status", "7"), ("webhooks", "ls")])
def test_a_wrong_address_or_key_is_told_in_a_line(desk, words, environment, exit_code, says):  # noqa: F811
    output = desk.run(*words, exit_code=exit_code, **environment)

    assert says in output
    assert "Traceback" not in output
    assert len(output.splitlines()) == (4 if exit_code == 2 else 1)


@pytest.mark.parametrize(("status", "exit_code"), [(200, 1), (404, 1), (502, 3)])
def test_another_server_at_the_address_is_told(service, status, exit_code):  # noqa: F811
    service.on("GET", "/v1/jobs?limit=20", (status, b"<html>Welcome to nginx!</html>"))

    result = CliRunner().invoke(main, ["jobs", "ls", "--url", service.url, "--key", "dr_key"])

    assert (result.exit_code, isinstance(result.exception, SystemExit)) == (exit_code, True)
    assert result.stderr.startswith("Error: ")


@pytest.mark.parametrize(
    "words",
    [
        ("queue", "ls"),
        ("queue", "top", "--once"),
        ("queue", "retry", "7"),
        ("queue", "pause", "default"),
        ("keys", "ls"),
        ("accounts", "ls"),
        ("webhooks", "secret", "rotate", "alice"),
    ],
    ids=" ".join,
)
def test_without_redis_the_exit_status_is_that_of_an_outage(words):
    result = CliRunner().invoke(main, words, env={"REDIS_URL": "redis://127.0.0.1:1/0"})

    assert result.exit_code == 3, result.output
    assert "Redis cannot be reached" in result.stderr
    assert "darkroom doctor" in result.stderr


def test_a_key_that_lacks_a_scope_or_is_revoked_is_told(desk):  # noqa: F811
    weak = desk.json("keys", "create", "alice", "--scopes", "read")["key"]
    assert "lacks the scope `submit`" in desk.run("submit", "x", exit_code=1, DARKROOM_KEY=weak)

    assert desk.json("keys", "revoke", weak[:10])["prefix"] == weak[:10]
    assert "A valid API key is required" in desk.run("jobs", "ls", exit_code=1, DARKROOM_KEY=weak)


def test_bad_tables_are_told_by_line(desk, tmp_path):  # noqa: F811
    for text, says in (
        ("prompt,sed\nx,1\n", "sed: there is no such field"),
        (
            "prompt,seed\na circle, red,1\n",
            "line 1: the row has 3 cells; the first line has 2 (text with commas needs quotes)",
        ),
        ("prompt,width\nx,511\n", "line 1: width: must be a multiple of 8"),
        ("", "line"),
    ):
        (tmp_path / "bad.csv").write_text(text)
        assert says in desk.run("batch", "run", "bad.csv", "-o", "out", exit_code=1)
        assert not (tmp_path / "out" / "batch.json").exists()


def test_what_steers_the_queue_answers_in_json(desk):  # noqa: F811
    assert desk.json("queue", "pause", "default/demo") == {"pool": "default", "model": "demo", "state": "paused"}
    assert desk.json("queue", "resume", "default") == {"pool": "default", "model": None, "state": "open"}
    uid = desk.bench.submit()
    desk.bench.post(f"/v1/jobs/{uid}/cancel")
    assert desk.json("queue", "retry", str(uid)) == [{"uid": uid, "status": "queued"}]
    assert "7: There is no such job." in desk.run("queue", "retry", "7", exit_code=1)
    assert desk.json("webhooks", "disabled") == {"data": []}
    assert desk.json("webhooks", "enable", "https://shop.example/hook") == {"data": []}
    assert desk.json("webhooks", "secret", "rotate", "alice")["secret"].startswith("whsec_")
    assert desk.json("webhooks", "secret", "retire", "alice") == {"account": "alice"}


def test_a_webhook_that_cannot_be_sent_again_does_not_stop_the_others(desk):  # noqa: F811
    without = desk.bench.submit()
    uid = desk.bench.submit(webhook_url="https://shop.example/hook")
    for each in (without, uid):
        desk.bench.post(f"/v1/jobs/{each}/cancel")

    output = desk.run("webhooks", "redeliver", str(without), str(uid), exit_code=1)

    assert f"{without}: " in output
    assert f"{uid}: is sent again" in output
    told = json.loads(desk.run("webhooks", "redeliver", str(uid), "--json"))
    assert (told[0]["uid"], told[0]["webhooks"][0]["state"]) == (uid, "waiting")
