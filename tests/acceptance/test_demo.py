"""`make demo`, less its set-up."""

import os
import signal
import subprocess
import sys

import psutil
from PIL import Image

from tests import stack
from tests.services import wait_until


def start(folder):
    own = {name: value for name, value in os.environ.items() if name not in stack.FOREIGN}
    # Settings of the caller's must not lead the demo astray.
    foreign = {"REDIS_URL": "redis://127.0.0.1:9/0", "S3_ENDPOINT_URL": "http://127.0.0.1:9", "S3_BUCKET": "x"}
    return subprocess.Popen(
        [sys.executable, "-m", "shared.cli", "demo", "-o", str(folder / "demo.png")],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**own, **foreign, "DARKROOM_DATA_DIR": str(folder)},
    )


def test_the_demo_leaves_a_picture_and_nothing_running(tmp_path):
    with start(tmp_path) as demo:
        wait_until(lambda: len(psutil.Process(demo.pid).children()) >= 5, what="the stack's processes")
        processes = psutil.Process(demo.pid).children(recursive=True)
        told, _ = demo.communicate(timeout=stack.READY_S)

    assert demo.returncode == 0, told
    for part in ("signature verified, track_id came back", "set-up", "queued", "generate", "store", "webhook"):
        assert part in told
    with Image.open(tmp_path / "demo.png") as picture:
        assert picture.format == "PNG"
    _, alive = psutil.wait_procs(processes, timeout=10)
    assert [p for p in alive if p.status() != psutil.STATUS_ZOMBIE] == []


def test_a_demo_that_is_interrupted_says_so_and_stops_everything(tmp_path):
    with start(tmp_path) as demo:
        wait_until(lambda: len(psutil.Process(demo.pid).children()) >= 5, what="the stack's processes")
        processes = psutil.Process(demo.pid).children(recursive=True)
        demo.send_signal(signal.SIGINT)
        told, _ = demo.communicate(timeout=60)

    assert demo.returncode == 1
    assert "Aborted!" in told
    assert not (tmp_path / "demo.png").exists()
    _, alive = psutil.wait_procs(processes, timeout=10)
    assert [p for p in alive if p.status() != psutil.STATUS_ZOMBIE] == []
