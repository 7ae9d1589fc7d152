"""`darkroom up` as people use it: started, submitted to, stopped, killed, started again."""

import os
import signal
import socket
import stat
import subprocess
import sys
import time

import psutil
import pytest
import requests
from PIL import Image

from tests import stack
from tests.services import HOST, free_port, wait_until

SMALL = ("--steps", "2", "--width", "128", "--height", "128")
QUICK = {"num_inference_steps": 2, "width": 128, "height": 128}
SLOW = {"num_inference_steps": 150, "width": 256, "height": 256}
SLOWER = {"num_inference_steps": 200, "width": 512, "height": 512}
STOP_S = 10.0


def command(*arguments, **environment):
    """Run `darkroom` to its end."""
    own = {name: value for name, value in os.environ.items() if name not in stack.FOREIGN}
    return subprocess.run(
        [sys.executable, "-m", "shared.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=stack.JOB_S,
        check=False,
        env={**own, **environment},
    )


def left_of(processes):
    _, alive = psutil.wait_procs(processes, timeout=STOP_S)
    return [p for p in alive if p.status() != psutil.STATUS_ZOMBIE]


@pytest.fixture
def data_dir(tmp_path):
    return tmp_path / "data"


def is_running(darkroom, uid):
    return darkroom.job(uid)["status"] == "running"


def test_a_prompt_on_the_command_line_becomes_a_picture(darkroom, tmp_path):
    where = ("--data-dir", str(darkroom.data_dir))
    submitted = command("submit", "a red circle", "-o", str(tmp_path / "out.png"), *SMALL, *where)
    listed = command("models", "list", *where)
    made = command("keys", "create", "bob", *where)
    refused = command("submit", "a red circle", "--width", "7", *where)
    pages = [requests.get(url, timeout=30) for url in (darkroom.url + "/docs", darkroom.flower_url)]

    assert submitted.returncode == 0, submitted.stderr
    with Image.open(tmp_path / "out.png") as picture:
        assert picture.size == (128, 128)
    assert "demo" in listed.stdout
    assert "bob" in made.stdout
    assert refused.returncode == 1
    assert "width: must lie between 64 and 2,048" in refused.stderr
    assert [page.status_code for page in pages] == [200, 401]  # Flower asks for its password
    assert stat.S_IMODE((darkroom.data_dir / "credentials.json").stat().st_mode) == 0o600


def test_what_is_queued_survives_however_a_stack_ends_and_nothing_is_left_running(data_dir):
    with stack.running(data_dir) as first:  # ended by Ctrl-C in the middle of a job
        key = first.key
        uids = [first.submit(**SLOW), *(first.submit(seed=seed, **QUICK) for seed in range(5))]
        wait_until(lambda: is_running(first, uids[0]), timeout_s=stack.JOB_S, what="a running job")
        first.session.close()
        processes = first.descendants()
        started = time.monotonic()
        assert first.stop(signal.SIGINT) == 0
        assert time.monotonic() - started < STOP_S
        assert left_of(processes) == []
        assert not (data_dir / "stack.json").exists()

    with stack.running(data_dir) as second:  # killed
        assert second.key == key
        assert [second.finished(uid)["status"] for uid in uids] == ["succeeded"] * 6
        last = second.submit(**SLOWER)
        second.session.close()
        processes = second.descendants()
        assert second.stop(signal.SIGKILL) == -signal.SIGKILL

    with stack.running(data_dir) as third:  # at once; ended as systemd does it
        assert left_of(processes) == []
        wait_until(lambda: is_running(third, last), timeout_s=stack.JOB_S, what="a running job")
        third.session.close()
        processes = third.descendants()
        assert third.stop(signal.SIGTERM) == 0
        assert left_of(processes) == []


def test_a_folder_or_a_port_in_use_is_refused_before_anything_starts(darkroom, tmp_path):
    folder, port = darkroom.data_dir.resolve(), darkroom.url.rpartition(":")[2]
    same_folder = command("up", "--port", str(free_port()), "--data-dir", str(folder))
    same_port = command("up", "--port", port, "--data-dir", str(tmp_path / "other"))

    assert same_folder.returncode == same_port.returncode == 1
    assert f"runs already with the data directory {folder}" in same_folder.stderr
    assert f"API at {darkroom.url}" in same_folder.stderr
    assert f"port {port} on 127.0.0.1 is in use" in same_port.stderr
    assert not (tmp_path / "other" / "valkey").exists()


def test_two_stacks_run_side_by_side_and_a_redis_of_the_users_own_is_not_stopped(
    darkroom, data_dir, valkey_server, valkey
):
    with stack.running(data_dir, REDIS_URL=valkey_server.url) as other:
        assert "valkey" not in other.describe()["processes"]
        mine, theirs = darkroom.submit(seed=1, **QUICK), other.submit(seed=1, **QUICK)
        assert darkroom.finished(mine)["status"] == other.finished(theirs)["status"] == "succeeded"
        assert other.call("GET", f"/v1/jobs/{mine}").status_code == 404
        assert darkroom.image(mine) == other.image(theirs)

    assert valkey.exists(f"{{dr}}:j:{theirs}")


def test_a_redis_that_is_not_there_is_named(data_dir):
    with socket.create_server((HOST, 0)) as server:
        port = server.getsockname()[1]
    ports = ("--port", str(free_port()), "--flower-port", str(free_port()))

    done = command("up", *ports, "--data-dir", str(data_dir), REDIS_URL=f"redis://{HOST}:{port}/0")

    assert done.returncode == 1
    assert "REDIS_URL: the server cannot be used" in done.stderr
