"""`darkroom accounts` and `darkroom jobs` against a real Valkey and the real API."""

import csv
import json
import threading
from io import StringIO

import pytest
from click.testing import CliRunner
from werkzeug.serving import make_server

from shared.cli import main
from shared.job import Status
from shared.keys import account_key, names_key
from tests.apibench import ApiBench


class Desk:
    """The API behind a port, and the command line before it."""

    def __init__(self, server, client, data_dir, **settings):
        self.bench = ApiBench(client, data_dir, **settings)
        self.http = make_server("127.0.0.1", 0, self.bench.app, threaded=True)
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.01,))
        self.thread.start()
        self.environment = {
            "REDIS_URL": server.url,
            "DARKROOM_URL": f"http://127.0.0.1:{self.http.server_port}",
            "DARKROOM_KEY": self.bench.credentials.key,
            "COLUMNS": "200",
        }

    def run(self, *arguments, exit_code=0, **environment):
        result = CliRunner().invoke(main, arguments, env={**self.environment, **environment})
        assert result.exit_code == exit_code, result.output
        return result.stdout if exit_code == 0 else result.output

    def json(self, *arguments, **options):
        return json.loads(self.run(*arguments, "--json", **options))

    def close(self):
        self.http.shutdown()
        self.thread.join()
        self.http.server_close()
        self.bench.parts.hub.close()


@pytest.fixture
def desk(valkey_server, valkey, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = Desk(valkey_server, valkey, tmp_path)
    yield made
    made.close()


def test_a_top_up_adds_exactly(desk):
    assert desk.json("accounts", "topup", "alice", "2.5") == {"account": "alice", "granted": 2500, "available": 2500}
    assert desk.json("accounts", "topup", "alice", "0.1", "--dollars")["available"] == 12_500
    assert "12.499 credits to spend" in desk.run("accounts", "topup", "alice", "--", "-0.001")


def test_no_balance_goes_below_zero(desk):
    desk.run("accounts", "topup", "alice", "1")
    desk.bench.submit()

    output = desk.run("accounts", "topup", "alice", "--", "-0.9", exit_code=1)

    assert "850 millicredits that are neither spent nor reserved" in output
    assert desk.json("accounts", "show", "alice")["balance"] == 1000


@pytest.mark.parametrize(
    ("arguments", "exit_code", "says"),
    [
        (("topup", "alice", "0.0001"), 2, "at most three decimals"),
        (("topup", "alice", "lots"), 2, "is no number"),
        (("topup", "alice", "nan"), 2, "at most three decimals"),
        (("topup", "nobody", "1"), 1, "There is no account 'nobody'"),
        (("show", "nobody"), 1, "There is no account 'nobody'"),
        (("plan", "alice", "gold"), 2, "there is no plan 'gold'; known: free, paid"),
        (("usage", "--days", "0"), 2, "--days"),
    ],
)
def test_what_cannot_be_is_refused(desk, arguments, exit_code, says):
    assert says in desk.run("accounts", *arguments, exit_code=exit_code)


def test_accounts_are_listed_and_shown(desk):
    desk.bench.key_of("bob")
    desk.run("accounts", "topup", "alice", "1")
    desk.bench.submit()

    alice, bob = desk.json("accounts", "ls")
    assert (alice["name"], alice["balance"], alice["reserved"], alice["waiting"]) == ("alice", 1000, 150, 1)
    assert (bob["name"], bob["balance"]) == ("bob", None)
    shown = desk.run("accounts", "show", "alice")
    assert "0.85" in shown
    assert "not metered" in desk.run("accounts", "ls")


def test_usage_is_exported(desk):
    desk.run("accounts", "topup", "alice", "1")
    desk.bench.submit()
    desk.bench.draw()

    (row,) = csv.DictReader(StringIO(desk.run("accounts", "usage", "--csv")))
    (told,) = desk.json("accounts", "usage", "alice", "--days", "2")

    assert {name: str(value) for name, value in told.items()} == row
    assert (row["account"], row["images"], row["millicredits"], row["granted"]) == ("alice", "1", "150", "1000")
    assert "alice" in desk.run("accounts", "usage")


def test_a_plan_changes_what_the_queue_goes_by(desk):
    for _ in range(4):
        desk.bench.submit()
    desk.json("accounts", "plan", "alice", "free")
    backlog = desk.bench.backlog
    backlog.hello("w@h", "1", pool="default", models=["demo"])

    first = backlog.claim("w@h", max_jobs=4, max_images=16).leases
    assert len(first) == 2  # free accounts run two at once
    assert backlog.claim("w@h", max_jobs=4, max_images=16).leases == ()
    desk.run("accounts", "plan", "alice", "paid")
    assert len(backlog.claim("w@h", max_jobs=4, max_images=16).leases) == 2


def test_a_stricter_plan_holds_back_an_account_that_runs_more(desk):
    for _ in range(4):
        desk.bench.submit()
    backlog = desk.bench.backlog
    backlog.hello("w@h", "1", pool="default", models=["demo"])
    assert len(backlog.claim("w@h", max_jobs=3, max_images=16).leases) == 3

    desk.run("accounts", "plan", "alice", "free")

    assert backlog.claim("w@h", max_jobs=4, max_images=16).leases == ()


def test_plans_are_listed(desk, tmp_path):
    (tmp_path / "plans.toml").write_text("[plans.studio]\nmax_waiting = 5\nmax_running = 3\n")

    found = desk.json("accounts", "plans", PLANS_FILE=str(tmp_path / "plans.toml"))

    assert [plan["name"] for plan in found] == ["free", "paid", "studio"]
    assert "max_running" in desk.run("accounts", "plans")


def test_without_redis_it_says_so(desk):
    output = desk.run("accounts", "ls", exit_code=3, REDIS_URL="redis://127.0.0.1:1/0")

    assert "cannot be reached" in output


def test_jobs_are_listed_shown_cancelled_and_retried(desk):
    first, second = desk.bench.submit(track_id="mine"), desk.bench.submit(prompt="two")

    assert [job["uid"] for job in desk.json("jobs", "ls")] == [second, first]
    assert [job["uid"] for job in desk.json("jobs", "ls", "--limit", "1")] == [second]
    assert [job["uid"] for job in desk.json("jobs", "ls", "--track-id", "mine")] == [first]
    assert str(first) in desk.run("jobs", "ls", "--status", "queued")
    assert desk.json("jobs", "show", str(first))["track_id"] == "mine"
    assert "queued" in desk.run("jobs", "show", str(first))
    assert [job["status"] for job in desk.json("jobs", "cancel", str(first), str(second))] == ["cancelled"] * 2
    assert f"{first}: queued" in desk.run("jobs", "retry", str(first))


def test_one_that_is_refused_does_not_stop_the_others(desk):
    uid = desk.bench.submit()
    desk.bench.draw(Status.FAILED, {"code": "x", "message": "x", "retryable": False})

    output = desk.run("jobs", "retry", "1", str(uid), exit_code=1)

    assert "1: There is no such job." in output
    assert f"{uid}: queued" in output


@pytest.mark.parametrize(
    ("environment", "exit_code"), [({"DARKROOM_KEY": "dr_wrong"}, 1), ({"DARKROOM_URL": "http://127.0.0.1:1"}, 3)]
)
def test_exit_codes_tell_a_refusal_from_an_outage(desk, environment, exit_code):
    desk.run("jobs", "ls", exit_code=exit_code, **environment)


def test_an_account_is_made_for_a_pool(desk):
    desk.run("keys", "create", "studio", "--pool", "large")
    desk.run("keys", "create", "shop")

    pools = {
        name: desk.bench.redis.hget(account_key(desk.bench.redis.hget(names_key(), name)), "pool")
        for name in ("studio", "shop")
    }
    assert pools == {"studio": "large", "shop": "default"}
