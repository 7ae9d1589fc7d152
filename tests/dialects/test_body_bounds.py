"""The largest body that is read, and one byte more: JSON and forms, in each dialect's own envelope.

So too the largest picture: it is named by its field.
"""

import base64
import json
import zlib

import fakeredis
import pytest

from api import events
from shared.inputs import MAX_BYTES
from tests.apibench import png
from tests.dialects import rig
from tests.dialects.test_documented_errors import aithriving, modelslab, octoai, osais, stability
from tests.dialects.test_odd_clients import REQUESTS, succeeded, told

MOST = 100_000
TOO_LARGE = "The body is too large."
ANSWERS = {
    "opensourceais": osais(413, TOO_LARGE),
    "aithriving": aithriving(TOO_LARGE),
    "modelslab": modelslab(413, TOO_LARGE),
    "octoai": octoai(413, TOO_LARGE),
    "stability": stability(413, "bad_request", TOO_LARGE),
}
PICTURE = png(size=(512, 512))
ENCODED = base64.b64encode(PICTURE).decode()
#: dialect -> where its forms go, their fields, and their files.
FORMS = {
    "opensourceais": ("/api/v1/private/client/ai/diffusion", {"word": "a fox"}, {}),
    "aithriving": ("/api/generate/basic/imageToImage", {"prompt": "a fox"}, {"init_image": PICTURE}),
    "modelslab": ("/api/v6/images/img2img", {"prompt": "a fox", "init_image": ENCODED}, {}),
    "stability": (
        "/v1/generation/demo/image-to-image",
        {"text_prompts[0][text]": "a fox"},
        {"init_image": PICTURE},
    ),
}
BOUNDARY = "--------------------------731"


@pytest.fixture(scope="module")
def services(tmp_path_factory):
    """Two services: one whose bodies are bounded by `MOST`, and one as it is shipped."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(events, "BLOCK_MS", 50)
        waits = {"sync_wait_s": 30.0, "short_wait_s": 20.0}
        tight = (fakeredis.FakeRedis(decode_responses=True), tmp_path_factory.mktemp("tight"))
        usual = (fakeredis.FakeRedis(decode_responses=True), tmp_path_factory.mktemp("usual"))
        with (
            rig.service(*tight, max_body_bytes=MOST, **waits) as (small, _),
            rig.service(*usual, **waits) as (large, _),
        ):
            yield small, large


@pytest.fixture
def bench(services):
    return services[0]


def form(fields, files) -> bytes:
    parts = [(f'name="{name}"', value.encode()) for name, value in fields.items()]
    parts += [(f'name="{name}"; filename="{name}.png"', data) for name, data in files.items()]
    lines = [
        f"--{BOUNDARY}\r\nContent-Disposition: form-data; {told}\r\n\r\n".encode() + data + b"\r\n"
        for told, data in parts
    ]
    return b"".join(lines) + f"--{BOUNDARY}--\r\n".encode()


def of_size(make, size) -> bytes:
    """Return what `make` makes of a filling so long that there are `size` bytes of it."""
    return make("x" * (size - len(make(""))))


def post(bench, path, body, content_type):
    return bench.client.post(path, data=body, headers={**bench.headers, "Content-Type": content_type})


def judge(dialect, at, beyond):
    succeeded(dialect, at)
    assert (beyond.status_code, beyond.json) == ANSWERS[dialect]
    assert beyond.content_type == "application/json"


@pytest.mark.parametrize("dialect", REQUESTS)
def test_json(bench, dialect):
    path, fields = REQUESTS[dialect]

    def made(filling):
        return json.dumps({**fields, "note": filling}).encode()

    at, beyond = (post(bench, path, of_size(made, size), "application/json") for size in (MOST, MOST + 1))

    judge(dialect, at, beyond)
    assert at.headers["Darkroom-Ignored"] == "note"


@pytest.mark.parametrize("dialect", FORMS)
def test_forms(bench, dialect):
    path, fields, files = FORMS[dialect]

    def made(filling):
        return form({**fields, "note": filling}, files)

    kind = f"multipart/form-data; boundary={BOUNDARY}"
    at, beyond = (post(bench, path, of_size(made, size), kind) for size in (MOST, MOST + 1))

    judge(dialect, at, beyond)


@pytest.mark.parametrize("dialect", ["opensourceais", "modelslab"])
def test_urlencoded_forms(bench, dialect):
    path, fields = REQUESTS[dialect]

    def made(filling):
        return "&".join(f"{name}={value}" for name, value in {**fields, "note": filling}.items()).encode()

    kind = "application/x-www-form-urlencoded"
    at, beyond = (post(bench, path, of_size(made, size), kind) for size in (MOST, MOST + 1))

    judge(dialect, at, beyond)


def test_nobody_elses_bound_comes_first(services):
    """OctoAI's JSON may hold three pictures as large as may be."""
    settings = services[1].settings

    assert settings.max_body_bytes > 2 * 4 * MAX_BYTES / 3


def padded_png(size) -> bytes:
    """Return a picture of so many bytes: a chunk that nobody knows makes up for what it lacks."""
    data = png(size=(512, 512))
    filling = bytes(size - len(data) - 12)
    chunk = b"prVt" + filling
    return data[:-12] + len(filling).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big") + data[-12:]


@pytest.mark.parametrize("over", [0, 1], ids=["at", "beyond"])
@pytest.mark.parametrize("dialect", ["aithriving", "modelslab", "octoai", "stability"])
def test_the_largest_picture(services, dialect, over):
    bench, data = services[1], padded_png(MAX_BYTES + over)
    assert len(data) == MAX_BYTES + over
    if dialect in {"aithriving", "stability"}:
        path, fields, _ = FORMS[dialect]
        body = form(fields, {"init_image": data})
        answer = post(bench, path, body, f"multipart/form-data; boundary={BOUNDARY}")
    else:
        path = {"modelslab": "/api/v6/images/img2img", "octoai": "/generate/sd"}[dialect]
        size = {"width": 512, "height": 512}
        answer = bench.post(path, {"prompt": "a fox", "init_image": base64.b64encode(data).decode(), **size})

    if over:
        message = told(dialect, answer)
        assert "20 MiB" in message or f"{MAX_BYTES:,}" in message, message
        assert "init_image" in answer.text
    else:
        succeeded(dialect, answer)
