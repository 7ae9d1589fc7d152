"""Log lines tell which job they are about, and whose; a job's can be followed from its submission to its end."""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import fakeredis
import pytest

from shared.backlog import Backlog
from shared.celery_app import SilentBell
from shared.outbox import Entry
from tests.apibench import ApiBench
from tests.worker_rig import POISON, Rig
from worker.courier import Courier

ROOT = Path(__file__).parents[2]


class Log:
    def __init__(self, read) -> None:
        self._read = read

    def lines(self, event=None):
        found = [json.loads(line) for line in self._read().splitlines()]
        return [line for line in found if event in (None, line["event"])]

    def line(self, event):
        (found,) = self.lines(event)
        return found


@pytest.fixture
def log(log_lines):
    return Log(log_lines)


@pytest.fixture
def bench(tmp_path):
    made = ApiBench(fakeredis.FakeRedis(decode_responses=True), tmp_path)
    yield made
    made.parts.hub.close()


@pytest.fixture
def rig():
    return Rig(fakeredis.FakeRedis(decode_responses=True))


def test_a_submission_and_a_cancel(bench, log):
    uid = bench.submit()
    bench.post(f"/v1/jobs/{uid}/cancel")

    accepted, cancelled = log.line("job.accepted"), log.line("job.cancel_asked")
    assert (accepted["uid"], accepted["account"], accepted["replayed"]) == (uid, "1", False)
    assert (accepted["dialect"], accepted["model"]) == ("native", "demo")
    assert (cancelled["uid"], cancelled["account"], cancelled["status"]) == (uid, "1", "cancelled")
    assert accepted["request_id"] != cancelled["request_id"]


def test_a_batch(bench, log):
    batch = bench.post("/v1/batches", [{"prompt": "a"}, {"prompt": "b"}]).json["id"]
    bench.post(f"/v1/batches/{batch}/cancel")

    assert {"batch": batch, "account": "1", "lines": 2}.items() <= log.line("batch.accepted").items()
    assert {"batch": batch, "account": "1", "action": "cancel"}.items() <= log.line("batch.set").items()
    assert [line["status"] for line in log.lines("job.ended")] == ["cancelled", "cancelled"]


@pytest.mark.parametrize(
    ("path", "body"),
    [("/v1/jobs/7", None), ("/api/v6/images/fetch/7", {"key": ""})],
    ids=["native", "a dialect"],
)
def test_a_fault_of_ours_tells_whose_request_it_was(bench, log, monkeypatch, path, body):
    monkeypatch.setattr(bench.parts.backlog, "read", lambda *_args, **_options: 1 / 0)
    key = bench.credentials.key
    answer = bench.client.post(path, json={"key": key}) if body else bench.get(path)

    failed = log.line("request.failed")
    assert answer.status_code == 500
    assert failed["account"] == "1"
    assert failed["request_id"] == answer.headers["Darkroom-Request-Id"]
    assert "ZeroDivisionError" in failed["exception"]


def test_the_next_request_is_not_taken_for_the_last_ones(bench, log, monkeypatch):
    bench.submit()
    monkeypatch.setattr(bench.parts.backlog, "read_by_handle", lambda *_args, **_options: 1 / 0)
    bench.client.get("/api/v1/public/results/1-00000000000000000000000000000000")
    bench.client.get("/v1/jobs/1")
    bench.client.get("/v1/nothing", headers={"Authorization": "Bearer x"})
    monkeypatch.setattr(bench.parts.accounts, "authenticate", lambda *_args: 1 / 0)
    bench.get("/v1/jobs/1")

    assert "account" not in log.line("request.failed")


def test_a_workers_lines_are_about_their_job(rig, log):
    good, bad = rig.submit(), rig.submit(prompt=POISON)
    rig.runner.turn()

    ended = {line["uid"]: line for line in log.lines("job.ended")}
    assert {uid: line["status"] for uid, line in ended.items()} == {good: "succeeded", bad: "failed"}
    assert {line["account"] for line in ended.values()} == {rig.account}
    assert ended[bad]["code"] == "generation_failed"
    failed = log.line("run.failed")
    assert (failed["uid"], failed["account"], failed["uids"]) == (bad, rig.account, [bad])
    assert not [line for line in log.lines() if not ("uid" in line or "uids" in line)]


def test_what_the_queue_ends_by_itself(rig, log):
    uid = rig.submit()
    for number in range(3):
        rig.claim()
        rig.hello(str(number))

    assert [line["why"] for line in log.lines("leases.lost")] == ["restarted"] * 3
    ended = log.line("job.ended")
    assert (ended["uid"], ended["account"]) == (uid, rig.account)
    assert (ended["status"], ended["code"]) == ("failed", "worker_lost")


def test_a_couriers_lines_are_about_the_webhooks_job(log):
    entry = Entry(id="7:1", uid=7, account="3", event="succeeded", attempt=1, created_ms=0)
    outbox = SimpleNamespace(claim=lambda _: entry, settle=lambda *_: "dead")
    backlog = Backlog(fakeredis.FakeRedis(decode_responses=True), SilentBell())
    Courier(outbox=outbox, backlog=backlog, batches=None, accounts=None, links=None, http=None).deliver("7:1")

    attempted = log.line("webhook.attempted")
    assert (attempted["uid"], attempted["account"], attempted["outcome"]) == (7, "3", "dead")


def test_every_event_on_the_page_is_one():
    page = (ROOT / "docs/logs.md").read_text()
    sources = [path for folder in ("api", "worker", "shared") for path in ROOT.glob(f"{folder}/**/*.py")]
    code = "".join(path.read_text() for path in sources)
    told = set(re.findall(r"`([a-z]+\.[a-z_]+)`", page))

    assert len(told) > 10
    assert {name for name in told if f'"{name}"' not in code} == set()
