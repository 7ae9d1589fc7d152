"""The commands of the README and of the guide to batches, as they stand there, against a running Darkroom."""

import json
import re
import subprocess
import sys
from pathlib import Path

from PIL import Image

from tests import stack
from tests.services import HOST, free_port, wait_until

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BATCHES = (ROOT / "docs" / "batches.md").read_text()


def block(name, page=README):
    (text,) = re.findall(rf"<!-- tested: {name} -->\n```[a-z]+\n(.*?)```", page, re.DOTALL)
    return text


def bash(darkroom, script, folder):
    """Run a block with the stack's address and key in place of the README's."""
    script = re.sub(r"^export .*$", "", script, flags=re.MULTILINE)
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env={
            "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
            "PYTHONPATH": str(ROOT),
            "DARKROOM_URL": darkroom.url,
            "DARKROOM_KEY": darkroom.key,
        },
        capture_output=True,
        text=True,
        timeout=stack.JOB_S,
        check=True,
    )


def test_submit_poll_and_fetch(darkroom, tmp_path):
    done = bash(darkroom, block("use"), tmp_path)

    assert json.loads(done.stdout)["status"] == "succeeded"
    with Image.open(tmp_path / "picture.png") as picture:
        assert picture.format == "PNG"
    redrawn = json.loads(bash(darkroom, block("image"), tmp_path).stdout)
    assert darkroom.finished(redrawn["uid"])["status"] == "succeeded"


def test_the_guide_to_batches(darkroom, tmp_path):
    names = re.findall(r"<!-- tested: ([a-z]+) -->", BATCHES)
    script = "\n".join(f"echo '--- {name}'\n{block(name, BATCHES)}" for name in names)

    parts = dict(part.split("\n", 1) for part in bash(darkroom, script, tmp_path).stdout.split("--- ")[1:])

    assert names == ["file", "run", "submit", "matrix", "steer", "results", "archive"]
    assert parts["file"].startswith("3 jobs for ")
    assert parts["run"].split()[-5:] == ["1.png", "2.png", "3.png", "batch.json", "results.csv"]
    with Image.open(tmp_path / "out" / "2.png") as picture:
        assert picture.size == (128, 128)
    assert json.loads(parts["matrix"])["count"] == 12
    assert "trial" in parts["steer"]
    assert json.loads(parts["results"].splitlines()[0])["prompt"] == "a red circle"
    assert (tmp_path / "manifest.csv").read_text().splitlines()[1].startswith("1,")
    assert all(name in parts["archive"] for name in ("1.png", "2-0.png", "2-1.png", "results.csv"))


def test_the_receiver_verifies_a_webhook(darkroom, tmp_path):
    port = str(free_port())
    secret = json.loads((darkroom.data_dir / "credentials.json").read_text())["account"]["webhook_secret"]
    (tmp_path / "receiver.py").write_text(block("receiver").replace("9000", port))
    with subprocess.Popen(
        [sys.executable, "receiver.py", secret],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as receiver:
        try:
            wait_until(lambda: is_listening(port), what="the receiver")
            bash(darkroom, block("webhook").replace("9000", port), tmp_path)
            line = receiver.stdout.readline()
        finally:
            receiver.kill()

    assert re.fullmatch(rf"\d+ succeeded order-1 \['{darkroom.url}/media/.*'\]\n", line)


def is_listening(port):
    done = subprocess.run(["bash", "-c", f"exec 3<>/dev/tcp/{HOST}/{port}"], check=False, stderr=subprocess.DEVNULL)
    return done.returncode == 0
