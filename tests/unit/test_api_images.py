"""Images that come with a submit: judged, stored, or refused by name."""

import base64
import io

import fakeredis
import pytest
from PIL import Image

from shared.errors import BacklogFull
from tests.apibench import ApiBench, png

URL = "https://example.com/a.png"
GIF = base64.b64encode(b"GIF89a" + bytes(40)).decode()
INLINE = base64.b64encode(png()).decode()


@pytest.fixture
def bench(tmp_path):
    return ApiBench(fakeredis.FakeRedis(decode_responses=True), tmp_path)


def stored(bench):
    folder = bench.settings.data_dir / "storage" / "inputs"
    return sorted(path for path in folder.rglob("*") if path.is_file())


def spec_of(bench, uid):
    return bench.backlog.read(uid, account=bench.credentials.account).submission.spec


@pytest.mark.parametrize("image", [INLINE, f"data:image/png;base64,{INLINE}"])
def test_an_image_that_comes_along_is_stored(bench, image):
    uid = bench.submit(image=image, strength=0.5)

    (path,) = stored(bench)
    assert spec_of(bench, uid).image == str(path.relative_to(bench.settings.data_dir / "storage"))
    assert Image.open(io.BytesIO(path.read_bytes())).size == (64, 64)
    assert str(uid) not in str(path)
    assert INLINE not in str(bench.redis.get(f"{{dr}}:s:{uid}"))


def test_an_image_to_be_fetched_waits_for_a_courier(bench):
    uid = bench.submit(image=URL)

    assert spec_of(bench, uid).image == URL
    assert bench.redis.zcard("{dr}:q:ingest/fetch:1:1") == 1
    assert bench.get(f"/v1/jobs/{uid}").json["status"] == "queued"


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"image": "no base64!"}, "image"),
        ({"image": ""}, "image"),
        ({"image": 7}, "image"),
        ({"image": GIF}, "image"),
        ({"image": "file:///etc/passwd"}, "image"),
        ({"image": INLINE, "mask_image": GIF}, "mask_image"),
        ({"image": INLINE[:60]}, "image"),
        ({"strength": 0.5}, "strength"),
        ({"mask_image": INLINE}, "mask_image"),
        ({"image": INLINE, "strength": 1.01}, "strength"),
        ({"image": INLINE, "strength": -0.01}, "strength"),
        ({"image": INLINE, "outpainting": True}, "outpainting"),
        ({"image": INLINE, "mask_image": INLINE, "inpaint_full_res_padding": 257}, "inpaint_full_res_padding"),
    ],
)
def test_what_cannot_be_is_refused_by_name(bench, fields, field):
    answer = bench.post("/v1/jobs", {"prompt": "x", **fields})

    assert (answer.status_code, answer.json["field"]) == (400, field)
    assert bench.job_count() == 0
    assert stored(bench) == []


@pytest.mark.parametrize("url", ["http://127.0.0.1/a.png", "http://169.254.169.254/", "http://[::1]/", "http://a:b@c/"])
def test_an_address_that_leads_inward_is_refused(bench, url):
    answer = bench.post("/v1/jobs", {"prompt": "x", "image": url})

    assert (answer.status_code, answer.json["code"], answer.json["field"]) == (400, "outbound_refused", "image")
    assert bench.job_count() == 0


def test_a_repeated_request_leaves_no_second_copy(bench):
    body = {"prompt": "x", "image": INLINE}
    first = bench.post("/v1/jobs", body, **{"Idempotency-Key": "k"})
    again = bench.post("/v1/jobs", body, **{"Idempotency-Key": "k"})

    assert again.json == first.json
    assert len(stored(bench)) == 1


def test_a_refused_request_leaves_no_copy(bench, monkeypatch):
    def refuse(*_args, **_options):
        raise BacklogFull

    monkeypatch.setattr(bench.backlog, "submit", refuse)
    answer = bench.post("/v1/jobs", {"prompt": "x", "image": INLINE})

    assert answer.status_code == 409
    assert stored(bench) == []


def test_erasing_a_job_erases_its_inputs(bench):
    uid = bench.submit(image=INLINE, mask_image=base64.b64encode(png("white")).decode())
    assert len(stored(bench)) == 2
    bench.post(f"/v1/jobs/{uid}/cancel")
    assert bench.delete(f"/v1/jobs/{uid}").status_code == 204
    assert stored(bench) == []


def form(bench, **fields):
    return bench.client.post("/v1/jobs", data=fields, headers=bench.headers, content_type="multipart/form-data")


def test_a_form_brings_files(bench):
    fields = {"prompt": "7", "width": "128", "guidance_scale": "2.5", "seed": "[1, null]", "num_images": "2"}
    flags = {"embed_parameters": "false", "track_id": "9"}
    answer = form(bench, **fields, **flags, image=(io.BytesIO(png()), "a.png"))

    assert answer.status_code == 202, answer.text
    spec = spec_of(bench, answer.json["uid"])
    assert (spec.prompt, spec.width, spec.guidance_scale, spec.num_images) == ("7", 128, 2.5, 2)
    assert spec.embed_parameters is False
    assert answer.json["track_id"] == 9
    assert len(stored(bench)) == 1


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"width": "wide"}, "width"),
        ({"width": "512.5"}, "width"),
        ({"image": (io.BytesIO(b"GIF89a"), "a.png")}, "image"),
        ({"image": (io.BytesIO(b""), "a.png")}, "image"),
        ({"width": (io.BytesIO(b"512"), "a.txt")}, "width"),
        ({"what": (io.BytesIO(png()), "a.png")}, "what"),
    ],
)
def test_a_form_is_judged_like_json(bench, fields, field):
    answer = form(bench, prompt="x", **fields)

    assert (answer.status_code, answer.json["field"]) == (400, field)
    assert bench.job_count() == 0
