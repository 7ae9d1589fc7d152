"""Whatever dies, each job ends once: real processes, real kills."""

import os
import signal

import psutil
import pytest

from tests import services, stack

SLOW = {"num_inference_steps": 150, "width": 256, "height": 256}
QUICK = {"num_inference_steps": 2, "width": 128, "height": 128}


@pytest.fixture(scope="module")
def darkroom():
    with stack.running() as running:
        yield running


@pytest.fixture(scope="module")
def receiver():
    with services.receiver() as server:
        yield server


def in_the_middle(darkroom, uid):
    job = darkroom.job(uid)
    return job["status"] == "running" and 0 < job["progress"]["step"] < job["progress"]["steps"]


@pytest.mark.parametrize("victim", ["child", "parent"])
def test_a_job_survives_its_worker(darkroom, receiver, victim):
    before = len(receiver.requests)
    uid = darkroom.submit(seed=5, webhook_url=receiver.url + "/hook", track_id=victim, **SLOW)
    services.wait_until(lambda: in_the_middle(darkroom, uid), timeout_s=stack.JOB_S, what="the job under way")
    child = darkroom.pool_child()
    os.kill(child.pid if victim == "child" else darkroom.pid("worker"), signal.SIGKILL)

    job = darkroom.finished(uid)

    assert job["status"] == "succeeded"
    assert job["attempts"] == 2
    receiver.wait_for(before + 1)
    told = [r for r in receiver.requests if f'"{victim}"'.encode() in r.body]
    assert len(told) == 1
    assert not (psutil.pid_exists(child.pid) and psutil.Process(child.pid).status() != psutil.STATUS_ZOMBIE)


def test_nothing_queued_is_lost_when_valkey_is_killed(darkroom):
    slow = darkroom.submit(**SLOW)
    queued = [darkroom.submit(seed=seed, **QUICK) for seed in range(10)]
    valkey = darkroom.pid("valkey")
    # AOF is written once a second; what is older than that survives a kill.
    services.wait_until(lambda: aof_written(darkroom, queued[-1]), what="the queue on disk")

    os.kill(valkey, signal.SIGKILL)

    services.wait_until(lambda: darkroom.describe()["processes"].get("valkey", valkey) != valkey, what="a new Valkey")
    services.wait_until(lambda: darkroom.call("GET", "/readyz").status_code == 200, timeout_s=stack.READY_S)
    assert [darkroom.finished(uid)["status"] for uid in [slow, *queued]] == ["succeeded"] * 11


def aof_written(darkroom, uid):
    return any(str(uid).encode() in file.read_bytes() for file in darkroom.data_dir.rglob("*.aof"))


def test_a_crashed_api_comes_back(darkroom):
    web = darkroom.pid("web")
    os.kill(web, signal.SIGKILL)
    services.wait_until(lambda: darkroom.describe()["processes"].get("web", web) != web, what="a new API")
    services.wait_until(lambda: answers(darkroom), timeout_s=stack.READY_S, what="the API's answer")
    assert darkroom.finished(darkroom.submit(**QUICK))["status"] == "succeeded"


def answers(darkroom):
    try:
        return darkroom.call("GET", "/readyz").status_code == 200
    except OSError:
        return False
