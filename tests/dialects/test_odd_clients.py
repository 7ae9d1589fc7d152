"""What HTTP clients do beside the examples: each dialect takes it, or says in its own envelope what is wrong."""

import base64
import gzip
import io
import json
import random

import fakeredis
import pytest
import requests
from PIL import Image

from api import events
from shared.dialects.accept import prefers
from tests.apibench import png
from tests.dialects import rig

#: dialect -> where its simplest request goes, and what that is
REQUESTS = {
    "opensourceais": ("/api/v1/private/client/ai/diffusion", {"word": "a red circle"}),
    "aithriving": ("/api/generate/basic/textToImage", {"prompt": "a red circle", "width": 320, "height": 320}),
    "modelslab": ("/api/v1/enterprise/text2img", {"prompt": "a red circle", "width": 64, "height": 64}),
    "octoai": ("/generate/sd", {"prompt": "a red circle", "width": 128, "height": 128}),
    "stability": ("/v1/generation/demo/text-to-image", {"text_prompts": [{"text": "a red circle"}]}),
}
JSON = {"Content-Type": "application/json"}
ORIGIN = "https://app.example"
everywhere = pytest.mark.parametrize("dialect", REQUESTS)


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(events, "BLOCK_MS", 50)
        redis, folder = fakeredis.FakeRedis(decode_responses=True), tmp_path_factory.mktemp("api")
        with rig.service(redis, folder, sync_wait_s=30.0, short_wait_s=20.0, cors_origins=(ORIGIN,)) as parts:
            yield parts


@pytest.fixture
def worker(service):
    service[1].specs.clear()
    return service[1]


def noisy_png(side=480) -> bytes:
    """Return a picture of more than half a million bytes, which many frameworks bound forms by."""
    out = io.BytesIO()
    Image.frombytes("RGB", (side, side), random.Random(7).randbytes(3 * side * side)).save(out, "PNG")
    return out.getvalue()


def told(dialect, answer):
    """Return what an error says, in the dialect's envelope."""
    body = answer.json if not callable(answer.json) else answer.json()
    if dialect == "aithriving":
        assert (answer.status_code, body["code"], body["data"]) == (200, -1, None)
        return body["message"]
    assert answer.status_code >= 400
    if dialect == "opensourceais":
        assert (body["data"], body["status"]) == (None, answer.status_code)
        return body["statusText"]
    if dialect == "octoai" and answer.status_code == 422:
        (fault,) = body["detail"]
        return fault["msg"]
    return body["message"]


def succeeded(dialect, answer):
    assert answer.status_code == (201 if dialect == "opensourceais" else 200), answer.text
    body = answer.json if not callable(answer.json) else answer.json()
    assert body.get("code", 0) == 0, body
    return body


def post(bench, dialect, data=None, *, path="", headers=None, **options):
    where, body = REQUESTS[dialect]
    sent = json.dumps(body).encode() if data is None else data
    return bench.client.post(where + path, data=sent, headers={**bench.headers, **JSON, **(headers or {})}, **options)


@everywhere
def test_a_slash_at_the_end_changes_nothing(bench, dialect):
    succeeded(dialect, post(bench, dialect, path="/"))


@everywhere
@pytest.mark.parametrize("before", ["/", "//"])
def test_slashes_twice_are_one(bench, dialect, before):
    where, body = REQUESTS[dialect]

    # By its own environment: test clients take what comes before the path for a host.
    answer = bench.client.post(
        "/x", json=body, headers=bench.headers, environ_overrides={"PATH_INFO": before + where.replace("/", "//")}
    )

    succeeded(dialect, answer)


@everywhere
@pytest.mark.parametrize(
    "content_type",
    [
        "application/json; charset=UTF-8",
        "application/json; charset=ISO-8859-1",
        "text/plain",
        "application/octet-stream",
    ],
)
def test_json_is_json_whatever_it_is_called(bench, dialect, content_type):
    succeeded(dialect, post(bench, dialect, headers={"Content-Type": content_type}))


@everywhere
def test_a_byte_order_mark_and_white_space_change_nothing(bench, dialect):
    body = json.dumps(REQUESTS[dialect][1]).encode()

    succeeded(dialect, post(bench, dialect, b"\xef\xbb\xbf\r\n" + body + b"\n"))


@everywhere
def test_a_compressed_body_is_refused_as_such(bench, dialect):
    packed = gzip.compress(json.dumps(REQUESTS[dialect][1]).encode())

    answer = post(bench, dialect, packed, headers={"Content-Encoding": "gzip"})

    assert "compressed bodies are not taken" in told(dialect, answer)


@everywhere
@pytest.mark.parametrize(
    ("body", "says"),
    [
        (json.dumps({"prompt": "é"}).encode("utf-16"), "not valid UTF-8"),
        (b'{"prompt": "\xe9"}', "not valid UTF-8"),
        (b"[]", "must be a JSON object"),
        (b'{"seed": NaN}', "not valid JSON"),
        (b'{"seed": ' + b"9" * 5_000 + b"}", "not valid JSON"),
        (b'{"a": ' + b"[" * 50_000 + b"]" * 50_000 + b"}", "not valid JSON"),
        (b"<html>", "not valid JSON"),
    ],
    ids=["utf16", "latin1", "list", "nan", "digits", "deep", "html"],
)
def test_a_body_that_cannot_be_read_says_why(bench, dialect, body, says):
    assert says in told(dialect, post(bench, dialect, body))


@everywhere
def test_no_body_at_all(bench, dialect):
    message = told(dialect, post(bench, dialect, b""))

    # Those that take forms too read a form of nothing.
    assert any(says in message for says in ("the body is empty", "word: is required", "prompt is required"))


@pytest.mark.parametrize(
    "path", ["/api/v1/public/config/diffusion", "/api/v1/private/client", "/v1/engines/list", "/v1/user/balance"]
)
def test_what_comes_along_with_a_get_is_not_looked_at(bench, path):
    answer = bench.client.get(path, data=b"\x1f\x8b{", headers={**bench.headers, "Content-Encoding": "gzip"})

    assert answer.status_code == 200, answer.text


@everywhere
def test_a_wrong_method_is_told_in_the_dialects_envelope(bench, dialect):
    answer = bench.client.get(REQUESTS[dialect][0], headers=bench.headers)

    assert "GET is not for" in told(dialect, answer)
    assert "POST" in answer.headers["Allow"]
    assert answer.status_code == (200 if dialect == "aithriving" else 405)


@pytest.mark.parametrize(
    ("dialect", "path"),
    [
        ("opensourceais", "/api/v1/public/config"),
        ("opensourceais", "/api/v1/private/client/requests/1"),
        ("aithriving", "/api/generate/pro/textToImage"),
        ("aithriving", "/api/edit"),
        ("modelslab", "/api/v1/enterprise/text2video"),
        ("modelslab", "/api/v6/voice/text_to_audio"),
        ("octoai", "/generate/sdxl"),
        ("octoai", "/v1/requests/1/more"),
        ("stability", "/v1/generation/demo/image-to-image/upscale"),
    ],
)
def test_a_path_that_is_none_is_told_in_the_envelope_of_whose_it_would_be(bench, dialect, path):
    answer = bench.client.post(path, json={}, headers=bench.headers)

    assert told(dialect, answer) == f"There is nothing at {path}."
    assert answer.status_code == (200 if dialect == "aithriving" else 404)


@pytest.mark.parametrize("path", ["/v1/nothing", "/api/v1/nothing", "/api/v2/images/text2img", "/nothing"])
def test_a_path_that_could_be_anybodys_is_told_as_a_problem(bench, path):
    answer = bench.client.post(path, json={}, headers=bench.headers)

    assert (answer.status_code, answer.mimetype) == (404, "application/problem+json")


def test_head_and_options_are_answered(bench):
    path = "/api/v1/public/config/diffusion"
    head, full = bench.client.head(path), bench.client.get(path)
    options = bench.client.options(REQUESTS["octoai"][0])

    assert (head.status_code, head.data, head.content_length) == (200, b"", len(full.data))
    assert options.status_code == 200
    assert set(options.headers["Allow"].split(", ")) == {"POST", "OPTIONS"}


@pytest.mark.parametrize("content_type", ["application/json", "application/x-www-form-urlencoded", "text/plain"])
@pytest.mark.parametrize(
    ("dialect", "path"),
    [("octoai", "/generate/sd"), ("modelslab", "/api/v6/images/img2img")],
    ids=["octoai", "modelslab"],
)
def test_large_pictures_come_in_json_whatever_it_is_called(bench, worker, dialect, path, content_type):
    body = {"prompt": "a red circle", "width": 128, "height": 128, "init_image": base64.b64encode(noisy_png()).decode()}

    answer = bench.client.post(path, data=json.dumps(body), headers={**bench.headers, "Content-Type": content_type})

    succeeded(dialect, answer)
    assert worker.specs[0].image


@pytest.mark.parametrize(
    ("path", "picture", "coding"),
    [
        ("/api/v6/images/img2img", "init_image", "data"),
        ("/api/v6/images/img2img", "init_image", "files"),
        ("/v1/jobs", "image", "files"),
    ],
)
def test_large_pictures_come_as_text_in_forms(bench, path, picture, coding):
    form = {"prompt": "a red circle", picture: base64.b64encode(noisy_png()).decode()}
    if coding == "files":  # which makes it multipart; without a file's name it is a field
        form = {name: (None, value) for name, value in form.items()}
    sent = requests.Request("POST", "http://localhost" + path, **{coding: form}).prepare()

    answer = bench.client.post(path, data=sent.body, headers={**bench.headers, **sent.headers})

    assert answer.status_code in {200, 202}, answer.text


@pytest.mark.parametrize(
    ("dialect", "fields"),
    [
        ("aithriving", ("cfg_scale", "steps", "seed")),
        ("stability", ("cfg_scale", "steps", "seed", "samples")),
        ("opensourceais", ("steps", "seed", "guidance", "url_upload", "model", "output")),
        ("modelslab", ("seed", "samples", "scheduler", "tomesd", "safety_checker_type", "lora_model", "webhook")),
    ],
)
def test_an_empty_string_is_a_field_left_out(bench, dialect, fields):
    body = REQUESTS[dialect][1] | dict.fromkeys(fields, "")

    answer = post(bench, dialect, json.dumps(body).encode())

    succeeded(dialect, answer)
    assert "Darkroom-Ignored" not in answer.headers


@pytest.mark.parametrize("dialect", ["aithriving", "stability"])
@pytest.mark.parametrize("field", ["sampler", "style_preset", "clip_guidance_preset"])
def test_in_json_an_empty_word_is_none_of_those_known(bench, dialect, field):
    answer = post(bench, dialect, json.dumps(REQUESTS[dialect][1] | {field: ""}).encode())

    assert told(dialect, answer).startswith(f"{field}: must be one of")


def test_the_empty_fields_of_a_form_are_left_out(bench, worker):
    empty = dict.fromkeys(("width", "height", "seed", "image_strength", "sampler", "style_preset"), "")
    form = {"prompt": "a red circle", **empty, "init_image": (io.BytesIO(png(size=(320, 384))), "a.png")}

    answer = bench.client.post("/api/generate/basic/imageToImage", data=form, headers=bench.headers)

    succeeded("aithriving", answer)
    assert (worker.specs[0].width, worker.specs[0].height, worker.specs[0].strength) == (320, 384, 0.65)


def test_of_a_forms_repeated_fields_and_files_the_last_counts(bench, worker):
    form = {
        "prompt": ["a blue square", "a red circle"],
        "init_image": [(io.BytesIO(b"no picture"), "a.png"), (io.BytesIO(png(size=(320, 320))), "b.png")],
    }
    answer = bench.client.post("/api/generate/basic/imageToImage", data=form, headers=bench.headers)

    succeeded("aithriving", answer)
    assert worker.specs[0].prompt == "a red circle"


@pytest.mark.parametrize(
    ("accept", "png"),
    [
        ("image/png", True),
        ("image/png, */*", True),
        ("image/*", True),
        ("IMAGE/PNG;q=0.9, application/json;q=0.1", True),
        ("image/png; charset=binary", True),
        ("application/json, image/png;q=0.5", False),
        ("application/json, image/png", False),
        ("application/*, image/png;q=0.5", False),
        ("image/png;q=0", False),
        ("image/png;q=much, */*", False),
        ("image/jpeg", False),
        ("*/*", False),
        ("text/plain", False),
        (",;,", False),
        ("", False),
    ],
)
def test_what_a_caller_would_rather_have(accept, png):
    assert prefers("image/png", to="application/json", accept=accept) is png


@pytest.mark.parametrize(("accept", "kind"), [("image/png, */*", "image/png"), ("*/*", "application/json")])
def test_stability_answers_the_picture_itself_where_it_is_preferred(bench, accept, kind):
    answer = post(bench, "stability", headers={"Accept": accept})

    assert (answer.status_code, answer.mimetype) == (200, kind)
    assert answer.data.startswith(b"\x89PNG") == (kind == "image/png")


@everywhere
def test_browsers_may_send_what_the_dialects_read(bench, dialect):
    wanted = {
        "aithriving": "authentication, content-type",
        "octoai": "authorization, content-type, x-octoai-async",
        "stability": "authorization, content-type, organization, stability-client-id, stability-client-version",
    }.get(dialect, "authorization, content-type")
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": wanted}

    preflight = bench.client.options(REQUESTS[dialect][0], headers={"Origin": ORIGIN, **asked})
    answer = post(bench, dialect, headers={"Origin": ORIGIN, "Accept": "image/png"})

    allowed = {name.strip().lower() for name in preflight.headers["Access-Control-Allow-Headers"].split(",")}
    assert preflight.status_code == 204
    assert set(wanted.split(", ")) <= allowed
    if dialect == "stability":
        exposed = answer.headers["Access-Control-Expose-Headers"].split(", ")
        assert {"Seed", "Finish-Reason"} <= set(exposed) & set(answer.headers.keys())


@everywhere
def test_a_key_in_the_query_opens_nothing(bench, dialect):
    where, body = REQUESTS[dialect]

    answer = bench.client.post(f"{where}?key={bench.credentials.key}", json=body)

    assert "key" in (message := told(dialect, answer)) or "token" in message


@everywhere
def test_what_is_sent_in_chunks_or_after_a_question_arrives(bench, dialect):
    where, body = REQUESTS[dialect]
    data = json.dumps(body).encode()
    with rig.listening(bench) as url:
        chunked = requests.post(
            url + where, data=iter([data[:7], data[7:]]), headers={**bench.headers, **JSON}, timeout=60
        )
        asking = requests.post(
            url + where, data=data, headers={"AUTHORIZATION": bench.headers["Authorization"], "Expect": "100-continue"},
            timeout=60,
        )  # fmt: skip

    succeeded(dialect, chunked)
    succeeded(dialect, asking)


def test_more_than_may_be_sent_is_refused_in_chunks_too(tmp_path):
    redis = fakeredis.FakeRedis(decode_responses=True)
    with rig.service(redis, tmp_path, max_body_bytes=1000) as (bench, _), rig.listening(bench) as url:
        for dialect, (where, body) in REQUESTS.items():
            data = json.dumps({**body, "junk": "x" * 5000}).encode()
            answer = requests.post(
                url + where, data=iter([data[:500], data[500:]]), headers={**bench.headers, **JSON}, timeout=60
            )
            assert "too large" in told(dialect, answer), answer.text
