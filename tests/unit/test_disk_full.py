"""A disk that is full: what is written fails cleanly and leaves nothing half-written. Met for real, by a child process
whose files may not grow beyond a size."""

import json
import subprocess
import sys

import pytest

CHILD = """
import json, resource, sys
from pathlib import Path
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
root, what = Path(sys.argv[1]), sys.argv[2]
from shared.backlog import Lease
from shared.errors import StorageUnavailable
from shared.job import Result, Submission
from shared.spec import JobSpec
from shared.storage.disk import DiskStorage
from worker.spool import Spool
told = []
if what == "storage":
    disk = DiskStorage(root, base_url="", secret="s" * 16)
    for size in (1_000, 100_000):
        try:
            disk.put("results/a/1/0.png", bytes([size % 251]) * size, content_type="image/png")
        except StorageUnavailable as error:
            told.append(error.message)
    told.append(len(disk.get("results/a/1/0.png").data))
else:
    spool = Spool(root, node="worker@test")
    lease = Lease(7, 1, "h" * 32, "1", 1, 1, 2, Submission(spec=JobSpec(prompt="a fox")))
    try:
        spool.keep(lease, steps=3, result=Result(), files=[b"x" * 1_000, b"x" * 100_000])
    except OSError as error:
        told.append(error.strerror)
    told.append(len(list(spool.found())))
    kept = spool.keep(lease, steps=3, result=Result(), files=[b"x" * 1_000])
    (found,) = spool.found()
    told.append(found == kept.__class__(**{**{n: getattr(kept, n) for n in kept.__slots__}, "size_bytes": 0}))
told.append(sorted(path.name for path in root.rglob("*") if path.is_file()))
print(json.dumps(told))
"""


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("storage", ["could not store results/a/1/0.png: File too large", 1_000, ["0.png"]]),
        ("spool", ["File too large", 0, True, ["0", "job.json"]]),
    ],
)
def test_nothing_is_left_half_written(tmp_path, what, told):
    command = [sys.executable, "-c", CHILD, str(tmp_path), what]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert json.loads(done.stdout) == told
