"""The worker's small parts: watchdogs, the word to stop, roles, what Flower's Revoke takes, and who loads torch."""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import structlog
from celery.worker.control import Panel
from kombu.exceptions import OperationalError

from shared import logs
from shared.accounts import Accounts
from shared.backlog import Backlog
from shared.celery_app import SilentBell, make_celery
from shared.job import Status, Submission
from shared.settings import Settings
from shared.spec import JobSpec
from tests.services import wait_until
from worker import flower_events, watchdogs
from worker.flower_buttons import REFUSED, cancel_on_revoke, refuse_what_harms, uids
from worker.flower_events import JobEvents
from worker.stopping import Stopping
from worker.watchdogs import DEAF_S, PULSE_S, Pulse, StallWatchdog


@pytest.fixture
def clock(monkeypatch):
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(watchdogs.time, "monotonic", lambda: clock.now)
    return clock


def test_a_pipeline_that_stands_still_ends_the_process(clock):
    ended = []
    watchdog = StallWatchdog(60, end=lambda: ended.append(1))
    clock.now += 1000
    watchdog.check()
    watchdog.step()
    clock.now += 59
    watchdog.check()
    assert not ended
    clock.now += 2
    watchdog.check()
    assert ended == [1]


def test_a_pipeline_at_rest_may_take_its_time(clock):
    ended = []
    watchdog = StallWatchdog(60, end=lambda: ended.append(1))
    watchdog.step()
    watchdog.rest()
    clock.now += 1000
    watchdog.check()
    assert not ended


def beat_for(pulse, clock, seconds):
    for _ in range(int(seconds)):
        clock.now += 1
        pulse.beat()


def test_an_idle_worker_wakes_itself_now_and_then(clock):
    woken, ended = [], []
    pulse = Pulse(lambda: (woken.append(1), pulse.begin(), pulse.rest()), end=lambda: ended.append(1))
    beat_for(pulse, clock, 10 * (PULSE_S + 1) + 1)
    assert len(woken) == 10
    assert not ended


def test_a_worker_that_hears_nothing_is_ended(clock):
    ended = []
    pulse = Pulse(lambda: None, end=lambda: ended.append(1))
    beat_for(pulse, clock, DEAF_S - 1)
    assert not ended
    beat_for(pulse, clock, 3)
    assert ended == [1]


def test_neither_work_nor_an_outage_counts_as_deafness(clock):
    ended = []
    pulse = Pulse(lambda: None, end=lambda: ended.append(1))
    pulse.begin()
    beat_for(pulse, clock, 3 * DEAF_S)
    pulse.rest()
    beat_for(pulse, clock, DEAF_S - 1)
    clock.now += 10 * DEAF_S  # Redis was away: no beats
    beat_for(pulse, clock, DEAF_S - 1)
    assert not ended


def test_an_orphan_ends_itself():
    grandchild = """
import time
from worker.watchdogs import ParentWatchdog
watchdog = ParentWatchdog()
print('watching', flush=True)
while True:
    watchdog.check()
    time.sleep(0.01)
"""
    middle = f"""
import subprocess, sys
child = subprocess.Popen([sys.executable, '-c', {grandchild!r}], stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", middle], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as parent:
        pid = int(parent.stdout.readline())
        assert _alive(pid)
        parent.kill()
    wait_until(lambda: not _alive(pid), what="the orphan's end")


def _alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_the_child_hears_that_its_parent_stops():
    stopping, (ready, said) = Stopping(), os.pipe()
    pid = os.fork()
    if pid == 0:
        event = stopping.listen()
        os.write(said, b"?" if not event.is_set() else b"!")
        os._exit(0 if event.wait(60) else 1)
    assert os.read(ready, 1) == b"?"
    stopping.tell()
    stopping.tell()
    assert os.waitpid(pid, 0)[1] == 0


def test_a_child_forked_after_the_word_hears_it_too():
    stopping = Stopping()
    stopping.tell()
    assert stopping.listen().wait(60)


@pytest.mark.parametrize(
    ("task_id", "expected"),
    [
        ("1795167822257", [1795167822257]),
        (7, [7]),
        (["1", "no-uid", "2"], [1, 2]),
        ("0b6a7b1e-0d3c-4b58-93a2-8f7c1d5e6f70", []),
        ("١٢", []),
        ("-1", []),
        (None, []),
        ([], []),
    ],
)
def test_only_uids_are_taken_for_jobs(task_id, expected):
    assert list(uids(task_id)) == expected


def test_revoke_cancels_and_then_does_what_it_did(valkey, monkeypatch):
    account = Accounts(valkey).create_key("tests").account
    backlog = Backlog(valkey, SilentBell())
    spec = JobSpec(prompt="a red circle", model="demo", seed=1)
    uid = backlog.submit(Submission(spec=spec), account=account, pool="default").uid
    revoked = []

    def original(_state, task_id, *, terminate):
        assert not terminate  # it would end the process, and with it other jobs
        revoked.append(task_id)
        return {"ok": 1}

    monkeypatch.setitem(Panel.data, "revoke", original)
    cancel_on_revoke(lambda: backlog, lambda: valkey)
    for _ in range(2):
        assert Panel.data["revoke"](None, [str(uid), "999", "no-uid"], terminate=True) == {"ok": 1}
    assert backlog.read(uid, account=account).status is Status.CANCELLED
    assert revoked == [[str(uid), "999", "no-uid"]] * 2


def test_commands_that_would_do_harm_are_answered_with_why_not(monkeypatch):
    for name in REFUSED:
        monkeypatch.setitem(Panel.data, name, Panel.data[name])  # fails where Celery knows no such command
    refuse_what_harms()

    assert {name: Panel.data[name](None, n=1)["error"] for name in REFUSED} == REFUSED


def test_events_that_cannot_be_sent_harm_nobody(monkeypatch):
    events = JobEvents(make_celery(Settings(redis_url="redis://127.0.0.1:1/0")), "worker@test")
    monkeypatch.setattr(flower_events, "PATIENCE_S", 0.1)
    events.ended(7, Status.SUCCEEDED)


def test_a_dispatcher_that_fails_is_made_anew(monkeypatch):
    events = JobEvents(make_celery(Settings(redis_url="redis://127.0.0.1:1/0")), "worker@test")
    sent = []

    def broken(*_, **__):
        raise OperationalError

    dispatchers = iter([SimpleNamespace(send=broken), SimpleNamespace(send=lambda kind, **_: sent.append(kind))])
    monkeypatch.setattr(events, "_connect", lambda: next(dispatchers))
    for status in (Status.SUCCEEDED, Status.CANCELLED, Status.RUNNING):
        events.ended(7, status)
    assert sent == ["task-revoked"]


@pytest.mark.parametrize("module", ["worker.app", "worker.courier_app"])
def test_neither_courier_nor_parent_loads_torch(module):
    code = f"import sys, {module}; print(sorted({{'torch', 'diffusers', 'transformers', 'numpy'}} & set(sys.modules)))"
    environment = {**os.environ, "REDIS_URL": "redis://127.0.0.1:1/0"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.strip() == "[]"


PASSWORD = "hunter2"


def fail_and_log(**fields):
    def fail(secret):
        if secret:
            raise ValueError("it broke")

    try:
        fail(PASSWORD)
    except ValueError:
        structlog.get_logger("tests.ours").exception("our.event", **fields)


@pytest.fixture
def kept_logging():
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


def test_json_logs_hold_one_object_a_line_and_no_variables(kept_logging, capsys):
    logs.configure(Settings(log_format="json"))
    fail_and_log(uid=7)
    logging.getLogger("tests.theirs").warning("their %s", "line")
    ours, theirs = map(json.loads, capsys.readouterr().err.splitlines())
    assert (ours["event"], ours["uid"], ours["level"]) == ("our.event", 7, "error")
    assert "it broke" in ours["exception"]
    assert PASSWORD not in json.dumps(ours)
    assert (theirs["event"], theirs["logger"]) == ("their line", "tests.theirs")


def test_console_logs_show_no_variables(kept_logging, capsys):
    logs.configure(Settings())
    fail_and_log()
    shown = capsys.readouterr().err
    assert "it broke" in shown
    assert PASSWORD not in shown
