"""The documentation page in a real browser, offline: nothing is missing, nothing spills over."""

import re
import subprocess
import threading

import fakeredis
import pytest
from PIL import Image
from werkzeug.serving import make_server

from tests.apibench import ApiBench
from tests.conftest import need

#: Debian's chromium as CI runs it: no GPU, no sandbox (root in a container), no calls home.
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--hide-scrollbars"]


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    bench = ApiBench(fakeredis.FakeRedis(decode_responses=True), tmp_path_factory.mktemp("docs"))
    server = make_server("127.0.0.1", 0, bench.app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def browse(tmp_path):
    def run(*args):
        command = [need("chromium"), *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", *args]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)

    return run


def test_it_is_laid_out_without_a_complaint(browse, url):
    shown = browse("--enable-logging=stderr", "--v=0", "--dump-dom", f"{url}/docs")

    assert "/v1/jobs/{uid}/events" in shown.stdout
    assert f"curl {url}/v1/jobs" in shown.stdout
    complaints = [line for line in shown.stderr.splitlines() if "CONSOLE" in line and "favicon" not in line]
    assert complaints == []


@pytest.mark.parametrize("width", [1280, 500])
def test_it_is_styled_and_fits(browse, url, tmp_path, width):
    picture = tmp_path / "docs.png"
    browse(f"--window-size={width},1600", f"--screenshot={picture}", f"{url}/docs")

    with Image.open(picture) as image:
        pixels = image.convert("RGB")
        assert pixels.size == (width, 1600)
        # The page's own colours: paper, and the dark blocks of code.
        assert pixels.getpixel((width - 2, 2)) == (251, 250, 248)
        assert (26, 21, 20) in {pixels.getpixel((width // 2, y)) for y in range(1600)}


def test_every_link_inside_leads_somewhere(url, browse):
    page = browse("--dump-dom", f"{url}/docs").stdout

    targets = set(re.findall(r'href="#([^"]+)"', page))
    assert len(targets) > 8
    assert targets <= set(re.findall(r'id="([^"]+)"', page))
