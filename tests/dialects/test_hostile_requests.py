"""What no honest client sends: each dialect says in its own envelope what is wrong with it, and nothing breaks."""

import json

import fakeredis
import pytest

from api import events
from tests.dialects import rig
from tests.dialects.test_odd_clients import JSON, REQUESTS, everywhere, succeeded, told

#: Half of a character: JSON may spell it, nothing can store it.
HALF = "\ud800"
UNICODE = "must be valid Unicode text"
PROMPTS = {"opensourceais": "word", "stability": "text_prompts[0].text"}
KINDS = {kind: f"/api/v6/images/{kind}" for kind in ("img2img", "inpaint", "controlnet")}
INLINE = "data:image/png;base64,iVBORw0KGgo="


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(events, "BLOCK_MS", 50)
        redis, folder = fakeredis.FakeRedis(decode_responses=True), tmp_path_factory.mktemp("api")
        with rig.service(redis, folder, sync_wait_s=30.0, short_wait_s=20.0) as parts:
            yield parts


def sent(bench, path, body, **headers):
    """Post whatever can be written down, by the bench's key unless a header says otherwise."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return bench.client.post(path, data=data, headers={**bench.headers, **JSON, **headers})


@everywhere
def test_half_a_character_in_a_prompt(bench, dialect):
    path, body = REQUESTS[dialect]
    name = PROMPTS.get(dialect, "prompt")
    prompt = {"text_prompts": [{"text": f"a {HALF}"}]} if dialect == "stability" else {name: f"a {HALF}"}

    message = told(dialect, sent(bench, path, body | prompt))

    assert message == (UNICODE if dialect == "octoai" else f"{name}: {UNICODE}")


@everywhere
def test_half_a_character_in_a_fields_name(bench, dialect):
    path, body = REQUESTS[dialect]

    answer = sent(bench, path, {**body, f"x{HALF}": 1})

    succeeded(dialect, answer)
    assert answer.headers["Darkroom-Ignored"] == "x?"


@pytest.mark.parametrize("url", [f"https://example.com/{HALF}.png", f"https://{HALF}.example/a.png"])
@pytest.mark.parametrize(
    ("kind", "field"), [("img2img", "init_image"), ("inpaint", "mask_image"), ("controlnet", "control_image")]
)
def test_half_a_character_in_an_images_address(bench, kind, field, url):
    images = {"init_image": INLINE, "mask_image": INLINE, "controlnet_model": "canny", field: url}

    answer = sent(bench, KINDS[kind], {**REQUESTS["modelslab"][1], **images})

    assert (answer.status_code, told("modelslab", answer)) == (400, f"{field}: {UNICODE}")


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt": HALF},
        {"negative_prompt": HALF},
        {"model": HALF},
        {"image": f"https://example.com/{HALF}", "strength": 1},
        {"webhook_url": f"https://example.com/{HALF}"},
        {"track_id": HALF},
        {"vae": HALF},
        {"loras": [{"name": HALF}]},
        {"textual_inversions": {HALF: "x"}},
        {"textual_inversions": {"x": HALF}},
        {HALF: 1},
    ],
    ids=lambda fields: ascii(fields)[:40],
)
def test_half_a_character_anywhere_in_the_native_api(bench, fields):
    answer = sent(bench, "/v1/jobs", {"prompt": "a fox", **fields})

    assert answer.status_code == 400, answer.text
    assert answer.json["errors"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("loras", {HALF: 1}),
        ("textual_inversions", {HALF: None}),
        ("textual_inversions", {"x": HALF}),
        ("checkpoint", HALF),
        ("vae", HALF),
        ("init_image", HALF),
        ("seed", [1, HALF]),
        ("steps", 10**4000),
        ("cfg_scale", 10**4000),
        ("seed", [10**4000]),
        ("loras", {"x": 10**4000}),
    ],
    ids=lambda value: ascii(value)[:30],
)
def test_octoais_names_and_numbers(bench, field, value):
    path, body = REQUESTS["octoai"]

    answer = sent(bench, path, body | {field: value})

    assert answer.status_code == 422, answer.text
    assert answer.json["detail"][0]["loc"] == ["body", field]


@everywhere
def test_of_a_name_that_comes_twice_the_last_counts(bench, dialect):
    path, body = REQUESTS[dialect]
    name = next(iter(body))
    twice = json.dumps({name: 7})[:-1].encode() + b", " + json.dumps(body)[1:].encode()

    succeeded(dialect, sent(bench, path, twice))


@everywhere
@pytest.mark.parametrize(
    "content_type",
    [
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=é",
        'multipart/form-data; boundary="a',
        "multipart/form-data; boundary=" + "a" * 5000,
        "multipart/mixed; boundary=a",
        "application/json; charset=nothing",
        ";;;",
        "",
    ],
)
def test_json_under_a_type_that_cannot_be(bench, dialect, content_type):
    path, body = REQUESTS[dialect]

    answer = sent(bench, path, body, **{"Content-Type": content_type})

    succeeded(dialect, answer)


@everywhere
@pytest.mark.parametrize(
    "body",
    [
        b'--a\r\nContent-Disposition: form-data; name="prompt"\r\n',
        b"--a\r\n\r\nno disposition\r\n--a--\r\n",
        b'--a\r\nContent-Disposition: form-data; name="prompt"; filename="\x00/../x"\r\n\r\nx\r\n--a--',
        b'--a\r\nContent-Disposition: form-data; name="prompt"\r\nContent-Type: a/b; charset=none\r\n\r\n\xff\r\n--a--',
        b"--a--",
        b"\x00" * 4096,
    ],
    ids=["breaks off", "no disposition", "nul in a name", "charset", "empty", "zeros"],
)
def test_forms_that_are_none(bench, dialect, body):
    answer = sent(bench, REQUESTS[dialect][0], body, **{"Content-Type": "multipart/form-data; boundary=a"})

    assert answer.status_code < 500, answer.text
    if answer.status_code != 200 or dialect == "aithriving":
        assert "our side" not in told(dialect, answer)


@everywhere
@pytest.mark.parametrize(
    "value", ["Bearer", "Bearer \xe9\xff", "Bearer dr_" + "x" * 8000, "\t", "Basic dTpw", "Bearer a b c"]
)
def test_keys_that_open_nothing(bench, dialect, value):
    path, body = REQUESTS[dialect]

    answer = sent(bench, path, body, Authorization=value)

    assert answer.status_code in {200, 400, 401}
    assert "key" in (message := told(dialect, answer)) or "token" in message


@pytest.mark.parametrize("engine", ["%00", "%ff", "%F0%9F%98%80", "a%20b", "..", "x" * 3000])
def test_engines_that_cannot_be(bench, engine):
    answer = sent(bench, f"/v1/generation/{engine}/text-to-image", REQUESTS["stability"][1])

    assert (answer.status_code, answer.json["name"]) == (404, "not_found")


@pytest.mark.parametrize("id_", ["%00", "%ff", "-1", "1e3", "%EF%BC%91", "9" * 400, "0x1f", "%2e%2e"])
@pytest.mark.parametrize(
    ("dialect", "method", "path"),
    [
        ("opensourceais", "GET", "/api/v1/private/client/request/"),
        ("modelslab", "POST", "/api/v6/images/fetch/"),
        ("octoai", "GET", "/v1/requests/"),
    ],
)
def test_ids_that_cannot_be(bench, dialect, method, path, id_):
    answer = bench.client.open(path + id_, method=method, headers=bench.headers)

    assert answer.status_code == 404, answer.text
    assert told(dialect, answer)
