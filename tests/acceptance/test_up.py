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
SLOW = {"num_inference_steps": 200, "width": 512, "height": 512}
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


def test_a_prompt_on_the_command_line_becomes_a_picture(data_dir, tmp_path):
    with stack.running(data_dir) as darkroom:
        where = ("--data-dir", str(data_dir))
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
    assert stat.S_IMODE((data_dir / "credentials.json").stat().st_mode) == 0o600


def test_ctrl_c_in_the_middle_of_a_job_stops_everything_in_time(data_dir):
    darkroom = stack.launch(data_dir)
    uid = darkroom.submit(**SLOW)
    wait_until(lambda: darkroom.job(uid)["status"] == "running", timeout_s=stack.JOB_S, what="a running job")
    darkroom.session.close()
    processes = darkroom.descendants()
    started = time.monotonic()

    assert darkroom.stop(signal.SIGINT) == 0

    assert time.monotonic() - started < STOP_S
    assert left_of(processes) == []
    assert not (data_dir / "stack.json").exists()


def test_a_stack_that_was_killed_leaves_nothing_and_can_be_started_at_once(data_dir):
    first = stack.launch(data_dir)
    uid = first.submit(**SLOW)
    first.session.close()
    processes = first.descendants()

    assert first.stop(signal.SIGKILL) == -signal.SIGKILL

    with stack.running(data_dir) as second:
        assert left_of(processes) == []
        assert second.job(uid)["status"] in {"queued", "running"}


def test_a_folder_or_a_port_in_use_is_refused_before_anything_starts(data_dir, tmp_path):
    with stack.running(data_dir) as darkroom:
        port = darkroom.url.rpartition(":")[2]
        same_folder = command("up", "--port", str(free_port()), "--data-dir", str(data_dir))
        same_port = command("up", "--port", port, "--data-dir", str(tmp_path / "other"))

    assert same_folder.returncode == same_port.returncode == 1
    assert f"runs already with the data directory {data_dir}" in same_folder.stderr
    assert f"API at {darkroom.url}" in same_folder.stderr
    assert f"port {port} on 127.0.0.1 is in use" in same_port.stderr
    assert not (tmp_path / "other" / "valkey").exists()


def test_a_redis_of_the_users_own_is_used_and_not_stopped(data_dir, valkey_server, valkey):
    with stack.running(data_dir, REDIS_URL=valkey_server.url) as darkroom:
        assert "valkey" not in darkroom.describe()["processes"]
        uid = darkroom.submit(num_inference_steps=2, width=128, height=128)
        assert darkroom.finished(uid)["status"] == "succeeded"

    assert valkey.exists(f"{{dr}}:j:{uid}")


def test_a_redis_that_is_not_there_is_named(data_dir):
    with socket.create_server((HOST, 0)) as server:
        port = server.getsockname()[1]
    ports = ("--port", str(free_port()), "--flower-port", str(free_port()))

    done = command("up", *ports, "--data-dir", str(data_dir), REDIS_URL=f"redis://{HOST}:{port}/0")

    assert done.returncode == 1
    assert "REDIS_URL: the server cannot be used" in done.stderr
