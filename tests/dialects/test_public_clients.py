"""How programs in public call these services, where they do it in another way than the documents' own examples."""

import base64
import io
import json
import socket

import fakeredis
import pytest
import requests
from PIL import Image

from api import events
from tests import liveapi
from tests.apibench import png
from tests.dialects import rig
from tests.dialects.test_odd_clients import REQUESTS, everywhere, succeeded, told

ORIGIN = "https://app.example"
PICTURE = png(size=(512, 512))
IMAGE_TO_IMAGE = "/v1/generation/{}/image-to-image"


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


def form(*parts, boundary="--------------------------731"):
    """Return a multipart body, given each part's headers and what it holds, and its Content-Type."""
    lines = [f"--{boundary}\r\n{headers}\r\n\r\n".encode() + data + b"\r\n" for headers, data in parts]
    return b"".join(lines) + f"--{boundary}--\r\n".encode(), f'multipart/form-data; boundary="{boundary}"'


def field(name, text):
    return f'Content-Disposition: form-data; name="{name}"', text.encode()


def buffer(name, data=PICTURE, kind="application/octet-stream"):
    """Return a part as Node's `form-data` makes one of a buffer: its type is told, a file's name is not."""
    return f'Content-Disposition: form-data; name="{name}"\r\nContent-Type: {kind}', data


def send(bench, path, *parts):
    body, content_type = form(*parts)
    return bench.client.post(path, data=body, headers={**bench.headers, "Content-Type": content_type})


@pytest.mark.parametrize("kind", ["application/octet-stream", "image/png", "Image/PNG; name=a"])
def test_a_buffer_is_a_file_without_a_name(bench, worker, kind):
    prompt = field("text_prompts[0][text]", "a fox")

    answer = send(bench, IMAGE_TO_IMAGE.format("demo"), buffer("init_image", kind=kind), prompt)

    assert answer.status_code == 200, answer.text
    assert (worker.specs[0].task, worker.specs[0].prompt) == ("image_to_image", "a fox")


def test_so_are_masks_and_other_services_files(bench, worker):
    masking, source = f"{IMAGE_TO_IMAGE.format('demo')}/masking", field("mask_source", "MASK_IMAGE_WHITE")
    prompt = field("text_prompts[0][text]", "a fox")

    assert send(bench, masking, buffer("init_image"), buffer("mask_image"), prompt, source).status_code == 200
    answer = send(bench, "/api/generate/basic/imageToImage", buffer("init_image"), field("prompt", "a fox"))
    assert answer.json["code"] == 0, answer.text
    native = send(bench, "/v1/jobs", buffer("image"), field("prompt", "a fox"), field("width", "64"))
    assert native.status_code == 202, native.text
    assert bench.get(f"/v1/jobs/{native.json['uid']}?wait=30").json["status"] == "succeeded"
    assert [spec.task for spec in worker.specs] == ["inpaint", "image_to_image", "image_to_image"]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_so_is_a_picture_whose_part_tells_nothing(bench, worker, kind):
    """As the service's own examples in Go send it."""
    out = io.BytesIO()
    Image.new("RGB", (512, 512), "red").save(out, kind)
    nothing = 'Content-Disposition: form-data; name="init_image"', out.getvalue()

    answer = send(bench, IMAGE_TO_IMAGE.format("demo"), nothing, field("text_prompts[0][text]", "a fox"))

    assert answer.status_code == 200, answer.text
    assert worker.specs[0].task == "image_to_image"


def test_text_that_begins_like_a_picture_is_text(bench, worker):
    answer = send(bench, IMAGE_TO_IMAGE.format("demo"), buffer("init_image"), field("text_prompts[0][text]", "RIFFs"))

    assert answer.status_code == 200, answer.text
    assert worker.specs[0].prompt == "RIFFs"


def test_text_stays_text_in_its_own_characters(bench, worker):
    disposition = 'Content-Disposition: form-data; name="text_prompts[0][text]"'
    latin = f"{disposition}\r\nContent-Type: text/plain; charset=iso-8859-1", "füchse".encode("latin-1")

    answer = send(bench, IMAGE_TO_IMAGE.format("demo"), buffer("init_image"), latin)

    assert answer.status_code == 200, answer.text
    assert worker.specs[0].prompt == "füchse"


def test_a_form_as_dotnet_writes_it(bench, worker):
    name = "Content-Type: text/plain; charset=utf-8\r\nContent-Disposition: form-data; name="
    file = "Content-Type: image/png\r\nContent-Disposition: form-data; name=init_image; filename=a.png"

    answer = send(
        bench,
        IMAGE_TO_IMAGE.format("demo"),
        (f"{file}; filename*=utf-8''a.png", PICTURE),
        (f'{name}"text_prompts[0][text]"', "ein Füchslein".encode()),
        (f"{name}steps", b"30"),
    )

    assert answer.status_code == 200, answer.text
    assert (worker.specs[0].prompt, worker.specs[0].num_inference_steps) == ("ein Füchslein", 30)


@pytest.mark.parametrize("cut", [8, 60, 3000])
def test_a_form_that_breaks_off_says_what_is_missing(bench, cut):
    body, content_type = form(field("text_prompts[0][text]", "a fox"), buffer("init_image"))

    answer = bench.client.post(
        IMAGE_TO_IMAGE.format("demo"), data=body[:-cut], headers={**bench.headers, "Content-Type": content_type}
    )

    assert answer.status_code == 400
    assert told("stability", answer) == "init_image: is required: send it as a file"


def test_a_form_of_too_many_parts_is_too_large(bench):
    answer = send(bench, IMAGE_TO_IMAGE.format("demo"), *[field(f"x{number}", "") for number in range(1_500)])

    assert (answer.status_code, told("stability", answer)) == (413, "The body is too large.")


def test_an_empty_negative_prompt_is_none(bench, worker):
    prompts = [{"text": "a fox", "weight": 1}, {"text": "", "weight": -1}, {"text": "  "}]
    names = [("[0][text]", "a fox"), ("[1][text]", ""), ("[1][weight]", "-1")]

    answer = bench.post("/v1/generation/demo/text-to-image", {"text_prompts": prompts})
    in_form = send(
        bench,
        IMAGE_TO_IMAGE.format("demo"),
        buffer("init_image"),
        *[field(f"text_prompts{name}", text) for name, text in names],
    )

    assert (answer.status_code, in_form.status_code) == (200, 200), (answer.text, in_form.text)
    assert [(spec.prompt, spec.negative_prompt) for spec in worker.specs] == [("a fox", "")] * 2


@pytest.mark.parametrize("prompts", [[{"text": ""}], [{"text": " ", "weight": -1}, {"text": ""}]])
def test_nothing_but_empty_prompts_is_refused(bench, prompts):
    answer = bench.post("/v1/generation/demo/text-to-image", {"text_prompts": prompts})

    assert (answer.status_code, told("stability", answer)) == (400, "text_prompts[0].text: must not be empty")


@pytest.mark.parametrize("engine", ["stable-diffusion-v1-5", "stable-diffusion-v1-6"])
def test_the_engines_that_programs_have_built_in(bench, worker, engine):
    body = {"text_prompts": [{"text": "a lighthouse on a cliff"}], "cfg_scale": 7, "samples": 1, "steps": 30}

    answer = bench.post(f"/v1/generation/{engine}/text-to-image", {**body, "height": 512, "width": 512})

    assert answer.status_code == 200, answer.text
    assert Image.open(io.BytesIO(base64.b64decode(answer.json["artifacts"][0]["base64"]))).size == (512, 512)
    assert worker.specs[0].model == "demo"


@pytest.mark.parametrize("version", ["v1", "v1beta", "v1alpha"])
def test_the_previews_of_version_1(bench, worker, version):
    """With the bare key, and a picture's type over JSON, as programs have sent it."""
    prompts = [{"text": "a lighthouse", "weight": 1}, {"text": "fog", "weight": -1}]
    body = {"text_prompts": prompts, "cfg_scale": 7, "width": 512, "height": 512, "samples": 1, "steps": 30}
    bare = {"Authorization": bench.credentials.key, "Accept": "image/png", "Content-Type": "image/png"}

    path = f"/{version}/generation/stable-diffusion-v1-5/text-to-image"
    answer = bench.client.post(path, data=json.dumps(body), headers=bare)

    assert (answer.status_code, answer.mimetype) == (200, "image/png"), answer.text
    assert (worker.specs[0].prompt, worker.specs[0].negative_prompt) == ("a lighthouse", "fog")
    assert bench.get(f"/{version}/user/balance").json == {"credits": 1_000_000}
    assert "demo" in {engine["id"] for engine in bench.get(f"/{version}/engines/list").json}


def test_the_forms_of_version_1_beta(bench, worker):
    path = IMAGE_TO_IMAGE.format("demo").replace("v1", "v1beta")

    answer = send(bench, path, buffer("init_image"), field("text_prompts[0][text]", "a fox"), field("height", "512"))

    assert answer.status_code == 200, answer.text
    assert answer.headers["Darkroom-Ignored"] == "height"
    assert worker.specs[0].task == "image_to_image"


def test_the_forms_of_version_1_alpha_are_not_there(bench):
    options = json.dumps({"text_prompts": [{"text": "a fox"}], "step_schedule_start": 0.6})
    path = IMAGE_TO_IMAGE.format("demo").replace("v1", "v1alpha")

    answer = send(bench, path, buffer("init_image"), field("options", options))

    assert (answer.status_code, told("stability", answer)) == (404, f"There is nothing at {path}.")


@pytest.mark.parametrize("version", ["v1", "v1beta", "v1alpha"])
def test_a_key_is_tried_by_asking_for_its_account(bench, version):
    path, id_ = f"/{version}/user/account", bench.credentials.account

    answer = bench.get(path)

    organization = {"id": id_, "name": "alice", "role": "MEMBER", "is_default": True}
    assert answer.json == {"id": id_, "email": "", "organizations": [organization]}
    refused = bench.client.get(path, headers={"Authorization": "Bearer sk-nothing"})
    assert (refused.status_code, refused.json["name"]) == (401, "unauthorized")


@pytest.mark.parametrize("scheme", ["", "Bearer ", "bearer ", "BEARER  "])
@pytest.mark.parametrize("header", ["Authorization", "Authentication"])
def test_aithrivings_key_under_either_name_with_whichever_word(bench, header, scheme):
    path, body = REQUESTS["aithriving"]

    answer = bench.client.post(path, json=body, headers={header: scheme + bench.credentials.key})

    succeeded("aithriving", answer)


@everywhere
def test_a_bearer_in_lower_case(bench, dialect):
    path, body = REQUESTS[dialect]

    succeeded(dialect, bench.client.post(path, json=body, headers={"Authorization": f"bearer {bench.credentials.key}"}))


def test_browsers_may_send_what_clients_introduce_themselves_by(bench):
    own = "authorization,content-type,x-fern-language,x-fern-sdk-name,x-fern-sdk-version,x-requested-with,user-agent"
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": own}

    answers = [
        bench.client.options("/generate/sd", headers={"Origin": origin, **asked})
        for origin in (ORIGIN, "https://evil.example")
    ]

    allowed = {name.strip().lower() for name in answers[0].headers["Access-Control-Allow-Headers"].split(",")}
    assert set(own.split(",")) <= allowed
    assert "Access-Control-Allow-Headers" not in answers[1].headers


def test_what_is_no_headers_name_is_not_repeated(bench):
    asked = {"Origin": ORIGIN, "Access-Control-Request-Method": "POST"}

    answer = bench.client.options(
        "/generate/sd", headers={**asked, "Access-Control-Request-Headers": 'x-a, a b, "c", ,'}
    )

    allowed = answer.headers["Access-Control-Allow-Headers"].split(", ")
    assert "x-a" in allowed
    assert not {"a b", '"c"', ""} & set(allowed)


def exchanged(port, *pieces) -> tuple[bytes, dict]:
    """Send a request piece by piece, each but the first when something came back; return status line and JSON."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        for number, piece in enumerate(pieces):
            if number:
                assert connection.recv(4096).startswith(b"HTTP/1.1 100 Continue")
            connection.sendall(piece)
        received = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, body = received.partition(b"\r\n\r\n")
    return head.split(b"\r\n")[0], json.loads(body)


def test_what_http_has_beside_the_usual(valkey_server, tmp_path):
    """Against gunicorn itself: what takes requests apart is not ours."""
    path, body = REQUESTS["opensourceais"]
    data = json.dumps(body).encode()
    with liveapi.running(valkey_server, tmp_path) as api:
        key = f"Authorization: {api.headers['Authorization']}\r\nConnection: close\r\n"
        sized = f"{key}Content-Length: {len(data)}\r\n"
        lower = sized.replace("Authorization", "authorization").replace("Content-Length", "content-length")
        absolute = f"POST {api.url}{path} HTTP/1.1\r\nHost: darkroom.example\r\n"
        here = f"POST {path}?from=app&x=%zz HTTP/1.1\r\nHost: darkroom.example\r\n"
        chunks = b"%x;quality=1\r\n%s\r\n0\r\nX-Checksum: 1\r\n\r\n" % (len(data), data)
        answers = {
            "1.0": exchanged(api.port, f"POST {path} HTTP/1.0\r\n{sized}\r\n".encode() + data),
            "whole URL": exchanged(api.port, f"{absolute}{sized}\r\n".encode() + data),
            "question": exchanged(api.port, f"{here}{sized}Expect: 100-continue\r\n\r\n".encode(), data),
            "chunks": exchanged(api.port, f"{here}{key}Transfer-Encoding: chunked\r\n\r\n".encode() + chunks),
            "lower case": exchanged(api.port, f"{here}{lower}\r\n".encode() + data),
        }
        head = requests.head(f"{api.url}/api/v1/public/config/diffusion", timeout=60)

    for name, (status, answer) in answers.items():
        assert b" 201 " in status, (name, status, answer)
        assert set(answer["data"]) == {"uid", "created_at"}
    assert (head.status_code, head.content) == (200, b"")
    assert int(head.headers["Content-Length"]) > 1000
