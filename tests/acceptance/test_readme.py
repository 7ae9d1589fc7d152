"""The README's commands, as they stand there, against a running Darkroom."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests import stack
from tests.services import HOST, free_port, wait_until

README = (Path(__file__).parents[2] / "README.md").read_text()


def block(name):
    (text,) = re.findall(rf"<!-- tested: {name} -->\n```[a-z]+\n(.*?)```", README, re.DOTALL)
    return text


@pytest.fixture(scope="module")
def darkroom():
    with stack.running() as running:
        yield running


def bash(darkroom, script, folder):
    """Run a block with the stack's address and key in place of the README's."""
    script = re.sub(r"^export .*$", "", script, flags=re.MULTILINE)
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", "DARKROOM_URL": darkroom.url, "DARKROOM_KEY": darkroom.key},
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
