"""`darkroom queue top|quarantine|retry` against a real Valkey."""

from io import StringIO

import pytest
from rich.console import Console

from shared.backlog import Operations
from shared.celery_app import SilentBell
from shared.cli import top
from tests.unit.test_cli_operators import desk  # noqa: F401 - a fixture

NODE = "w@h"


@pytest.fixture
def backlog(desk):  # noqa: F811
    desk.bench.backlog.hello(NODE, "1", pool="default", models=["demo"])
    return desk.bench.backlog


def lose(backlog, times=3):
    """Let the worker die with what it holds so often."""
    for number in range(times):
        backlog.claim(NODE, max_jobs=8, max_images=16)
        backlog.hello(NODE, f"after {number}", pool="default", models=["demo"])


def test_top_shows_workers_their_jobs_and_the_busiest_accounts(desk, backlog):  # noqa: F811
    first, _ = desk.bench.submit(), desk.bench.submit()
    (lease,) = backlog.claim(NODE, max_jobs=1, max_images=1).leases
    backlog.renew(NODE, {lease: (3, 20)})
    backlog.hello("idle@h", "1", pool="default", models=["demo", "other"])

    seen = desk.json("queue", "top")

    idle, busy = seen["workers"]
    assert (idle["node"], idle["models"], idle["jobs"], idle["idle"]) == ("idle@h", ["demo", "other"], [], False)
    (job,) = busy["jobs"]
    assert (job["uid"], job["account"], job["lane"], job["step"], job["steps"]) == (
        first,
        "alice",
        "default/demo",
        3,
        20,
    )
    assert seen["accounts"] == [{"name": "alice", "waiting": 1, "running": 1}]
    shown = desk.run("queue", "top")
    assert f"{first}  alice    demo   3/20" in shown
    assert "alice    1        1" in shown


def test_top_looks_again_until_it_is_stopped(valkey):
    class Twice(Operations):
        looks = 0

        def workers(self):
            self.looks += 1
            if self.looks == 3:
                raise KeyboardInterrupt
            return super().workers()

    output = StringIO()
    operations = Twice(valkey, SilentBell())

    with pytest.raises(KeyboardInterrupt):
        top.watch(operations, Console(file=output, force_terminal=True), every_s=0.0)

    assert output.getvalue().count("worker") == 2


def test_jobs_that_lost_three_workers_are_listed_and_run_again(desk, backlog):  # noqa: F811
    uid = desk.bench.submit()
    lose(backlog)

    (job,) = desk.json("queue", "quarantine")
    assert (job["uid"], job["account"], job["lane"], job["worker"]) == (uid, "alice", "default/demo", NODE)
    _, row = desk.run("queue", "quarantine").splitlines()
    assert row.split()[:2] + row.split()[-2:] == [str(uid), "alice", NODE, "default/demo"]

    assert f"{uid}: queued" in desk.run("queue", "retry", str(uid))
    assert desk.json("queue", "quarantine") == []
    lose(backlog, times=2)
    assert desk.json("jobs", "show", str(uid))["status"] == "queued"  # it has three lives again


def test_one_that_cannot_run_again_does_not_stop_the_others(desk, backlog):  # noqa: F811
    uid = desk.bench.submit()
    lose(backlog)
    waiting = desk.bench.submit()

    output = desk.run("queue", "retry", "1", str(waiting), str(uid), exit_code=1)

    assert "1: There is no such job." in output
    assert f"{waiting}: " in output
    assert f"{uid}: queued" in output
