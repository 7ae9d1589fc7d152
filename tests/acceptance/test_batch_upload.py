"""The largest batch comes in through a real server without being held in memory."""

import json
import re
import sys
from pathlib import Path

import pytest
import requests
from redis import Redis

from shared.accounts import Accounts
from shared.batch import MAX_LINES
from tests.services import HOST, Service, free_port, valkey

#: Generous: the machine may be busy with other tests.
UPLOAD_S = 900
GROWTH_MB = 100


def resident_mb(pids, name="VmRSS") -> float:
    texts = [Path(f"/proc/{pid}/status").read_text() for pid in pids]
    return max(int(re.search(rf"{name}:\s+(\d+) kB", text)[1]) for text in texts) / 1024


def answers(url) -> bool:
    try:
        return requests.get(f"{url}/healthz", timeout=5).ok
    except requests.ConnectionError:
        return False


def lines():
    for number in range(MAX_LINES):
        job = {
            "prompt": f"a large red circle on a blue background, number {number}",
            "seed": number,
            "track_id": number,
        }
        yield json.dumps(job).encode() + b"\n"


@pytest.mark.slow
def test_a_hundred_thousand_lines_do_not_grow_the_process(tmp_path):
    with valkey() as server:
        redis: Redis = server.client()
        port = free_port()
        url = f"http://{HOST}:{port}"
        api = Service(
            [sys.executable, "-m", "gunicorn", "-c", "deploy/gunicorn.conf.py", "api.wsgi:app"],
            ready=lambda: answers(url),
            log=tmp_path / "api.log",
            env={"REDIS_URL": server.url, "PORT": str(port), "DARKROOM_DATA_DIR": str(tmp_path / "data")},
        )
        api.start()
        try:
            key = Accounts(redis).create_key("alice").key
            headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/jsonl"}
            one = requests.post(f"{url}/v1/batches", data=b'{"prompt": "x"}', headers=headers, timeout=60)
            assert one.status_code == 202, one.text
            pid = api.process.pid
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            before = resident_mb(children)
            answer = requests.post(f"{url}/v1/batches", data=lines(), headers=headers, timeout=UPLOAD_S)
            grown = resident_mb(children, "VmHWM") - before
        finally:
            api.stop()

        assert answer.status_code == 202, answer.text
        assert answer.json()["counts"]["queued"] == MAX_LINES
        assert redis.hget("{dr}:count", "deferred") == str(MAX_LINES - 1000)
        print(f"grown by {grown:.1f} MB in {answer.elapsed.total_seconds():.0f} s")
        assert grown < GROWTH_MB
