"""Two thousand lines: refused with their faults, then drawn, over a restart of the API and a Ctrl-C.

API, queue and command line are processes of their own; the worker is real but for its model, which draws noise.
"""

import csv
import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

from shared.backlog import Backlog, Batches
from shared.celery_app import SilentBell
from shared.outbox import Outbox
from shared.storage.disk import DiskStorage
from tests import liveapi
from tests.services import valkey, wait_until
from tests.worker_rig import Rig
from worker.ticker import Ticker

LINES = 2000
BAD = range(7, LINES, 200)
#: Generous: the machine may be busy with other tests.
RUN_S = 900.0
#: Of a test run in the background the command would inherit that Ctrl-C is ignored; in a terminal it is not.
COMMAND = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from shared.cli import main
main(prog_name="darkroom")
"""


def jobs(*, bad=()):
    for line in range(1, LINES + 1):
        job = {"prompt": f"number {line}", "seed": line, "width": 64, "height": 64, "num_inference_steps": 1}
        yield job | ({"width": 65} if line in bad else {}) | {"track_id": line}


def write(path, lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


class Operator:
    """Somebody at a terminal."""

    def __init__(self, api, folder):
        self.folder = folder
        self.api = api

    def begin(self, *words):
        return subprocess.Popen(
            [sys.executable, "-c", COMMAND, *words],
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={
                **os.environ,
                "PYTHONPATH": str(Path(__file__).parents[2]),
                "DARKROOM_URL": self.api.url,
                "DARKROOM_KEY": self.api.headers["Authorization"].removeprefix("Bearer "),
            },
        )

    def run(self, *words):
        """Return exit status, stdout and stderr."""
        process = self.begin(*words)
        out, err = process.communicate(timeout=RUN_S)
        return process.returncode, out, err

    def images(self):
        return len(list((self.folder / "out").glob("*.png")))

    def wait_for_images(self, number):
        wait_until(lambda: self.images() >= number, timeout_s=RUN_S, what=f"{number} images")


@contextmanager
def worker_and_courier(server, storage):
    """A worker with a model of noise, and what the courier does for batches; yields the worker's parts."""
    redis = server.client()
    rig = Rig(redis, one_by_one=False, storage=storage)
    batches = Batches(redis, SilentBell(), rig.backlog)
    ticker = Ticker(Backlog(redis, SilentBell()), batches, Outbox(redis, lease_s=30), SilentBell(), period_s=0.1)
    done = threading.Event()

    def work():
        while not done.wait(0.02):
            rig.runner.turn()

    thread = threading.Thread(target=work)
    rig.heartbeat.start()
    ticker.start()
    thread.start()
    try:
        yield rig
    finally:
        done.set()
        rig.stopping.set()
        thread.join()
        ticker.stop()
        rig.heartbeat.stop()
        redis.close()


@pytest.mark.slow
def test_two_thousand_lines(tmp_path):
    (tmp_path / "data").mkdir()
    with valkey() as server, liveapi.running(server, tmp_path / "data") as api:
        operator = Operator(api, tmp_path)

        write(tmp_path / "jobs.jsonl", jobs(bad=BAD))
        status, out, err = operator.run("batch", "run", "jobs.jsonl", "-o", "out")
        assert (status, out) == (1, "")
        faults = [line.strip().removeprefix("Error: ") for line in err.splitlines()]
        assert faults == [f"line {line}: width: must be a multiple of 8" for line in BAD]
        assert api.get("/v1/batches").json()["data"] == []

        write(tmp_path / "jobs.jsonl", jobs())
        storage = DiskStorage(tmp_path / "data" / "storage", base_url=api.url, secret="never asked for a link")
        with worker_and_courier(server, storage) as rig:
            first = operator.begin("batch", "run", "jobs.jsonl", "-o", "out")
            operator.wait_for_images(200)
            api.service.stop()
            api.start()
            operator.wait_for_images(500)
            first.send_signal(signal.SIGINT)
            assert first.wait(RUN_S) == 130
            told = first.stderr.read()
            assert "darkroom batch run jobs.jsonl -o out" in told
            kept = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.png")}
            assert 500 <= len(kept) < LINES

            status, out, err = operator.run("batch", "run", "jobs.jsonl", "-o", "out", "--json")
            assert status == 0, err
            drawn = sum(rig.pipeline.calls)

        (batch,) = api.get("/v1/batches").json()["data"]
        assert json.loads(out)["batch"]["id"] == batch["id"]
        assert (batch["status"], batch["counts"]["succeeded"]) == ("completed", LINES)
        assert drawn == LINES
        check_folder(tmp_path / "out", kept)
        check_manifest(api, batch)


def check_folder(folder, kept):
    """Every line has its image, and none was fetched twice."""
    names = sorted(path.name for path in folder.glob("*.png"))
    assert names == [f"{line:04}.png" for line in range(1, LINES + 1)]
    assert {name: (folder / name).stat().st_mtime_ns for name in kept} == kept
    assert len({(folder / name).read_bytes() for name in names}) == LINES
    with (folder / "results.csv").open(newline="") as rows:
        told = [(row["line"], row["status"], row["prompt"], row["files"]) for row in csv.DictReader(rows)]
    assert told == [(str(n), "succeeded", f"number {n}", f"{n:04}.png") for n in range(1, LINES + 1)]


def check_manifest(api, batch):
    path = f"/v1/batches/{batch['id']}/results"
    lines = [json.loads(line) for line in api.get(path, stream=True).iter_lines()]
    assert [(line["line"], line["track_id"], line["status"]) for line in lines] == [
        (number, number, "succeeded") for number in range(1, LINES + 1)
    ]
    assert [line["outputs"][0]["seed"] for line in lines] == list(range(1, LINES + 1))
    table = api.get(path, params={"format": "csv", "cursor": LINES - 1}).text
    assert table.splitlines()[1].startswith(f"{LINES},{lines[-1]['uid']},succeeded")
