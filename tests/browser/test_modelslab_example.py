"""The program in ModelsLab's document, `fetch()` and all, as a page from elsewhere in a real browser."""

import html
import json
import re
import subprocess
from pathlib import Path

import pytest

from tests import services
from tests.apibench import png
from tests.browser.test_docs_page import FLAGS
from tests.conftest import need
from tests.dialects import rig

#: As it is printed there.
EXAMPLE = Path(__file__).parents[1] / "dialects" / "golden" / "modelslab" / "seed_fetch.txt"
PRINTED = {
    "address": "https://stablediffusionapi.com",
    "key": '"key": ""',
    "model": '"model_id": "model_id"',
    "image": "https://pub-8b49af329fae499aa563997f5d4068a4.r2.dev/generations/d8cd0add-8cd7-40a4-802b-7b80be45a14c-0.png",
}
PAGE = (
    '<!doctype html><link rel="icon" href="data:,"><pre></pre>'
    "<script>console.log = text => { document.querySelector('pre').textContent = text };\nPROGRAM</script>"
)


@pytest.fixture
def elsewhere():
    """A server that has the page, and the image that the program names."""
    with services.receiver() as server:
        yield server


@pytest.fixture
def api(valkey, tmp_path, elsewhere):
    options = {"cors_origins": (elsewhere.url,), "outbound_allow": rig.LOOPBACK, "short_wait_s": 60.0}
    with (
        rig.service(valkey, tmp_path, **options) as (bench, worker),
        rig.ingest(bench, valkey),
        rig.listening(bench) as url,
    ):
        yield bench, worker, url


def program(bench, url, image):
    """Return the program with nothing replaced but address, key, model and image."""
    text = EXAMPLE.read_text()
    for name, value in {
        "address": url,
        "key": f'"key": "{bench.credentials.key}"',
        "model": '"model_id": "demo"',
        "image": image,
    }.items():
        assert text.count(PRINTED[name]) == 1
        text = text.replace(PRINTED[name], value)
    return text


def test_the_documents_program_in_a_browser(api, elsewhere, tmp_path):
    bench, worker, url = api
    page = PAGE.replace("PROGRAM", program(bench, url, f"{elsewhere.url}/a.png"))
    elsewhere.replies += [
        services.Reply(headers={"Content-Type": "text/html"}, body=page.encode()),
        services.Reply(headers={"Content-Type": "image/png"}, body=png("blue")),
    ]

    # Virtual time stands still while an answer is awaited.
    options = ["--virtual-time-budget=1000", f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom"]
    command = [need("chromium"), *FLAGS, *options, f"{elsewhere.url}/"]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=180, check=True).stdout

    answer = json.loads(html.unescape(re.search("<pre>(.*)</pre>", shown, re.DOTALL)[1]))
    assert answer["status"] == "success"
    assert answer["meta"]["steps"] == 30
    assert answer["output"][0].startswith(url)
    (spec,) = worker.specs
    assert (spec.task, spec.prompt) == ("image_to_image", "papercraft, quilling, layers, landscape")
