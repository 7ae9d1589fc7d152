"""ControlNets that a submit asks for: by name, with pictures that are judged, stored, or refused by name."""

import base64
import io
import json

import fakeredis
import pytest
from PIL import Image

from shared.spec import ControlNet, JobSpec
from tests.apibench import ApiBench, png

URL = "https://example.com/a.png"
INLINE = base64.b64encode(png()).decode()
OTHER = base64.b64encode(png("blue")).decode()
CATALOG = """
[controlnets.edges]
source = "./edges"
base = "demo"
hint = "canny"
aliases = ["e"]
[controlnets.depth]
source = "./depth"
base = "demo"
[controlnets.elsewhere]
source = "./elsewhere"
hint = "canny"
"""


@pytest.fixture
def bench(tmp_path):
    (tmp_path / "models.toml").write_text(CATALOG)
    redis = fakeredis.FakeRedis(decode_responses=True)
    return ApiBench(redis, tmp_path, models_catalog=tmp_path / "models.toml")


def stored(bench):
    folder = bench.settings.data_dir / "storage"
    return sorted(str(path.relative_to(folder)) for path in folder.glob("inputs/*/*") if path.is_file())


def spec_of(bench, uid):
    return bench.backlog.read(uid, account=bench.credentials.account).submission.spec


def nets(*wanted):
    return {"controlnets": [{"name": "edges", "image": INLINE, **more} for more in wanted]}


@pytest.mark.parametrize("image", [INLINE, f"data:image/png;base64,{INLINE}"])
def test_a_picture_that_comes_along_is_stored_and_not_in_redis(bench, image):
    uid = bench.submit(**nets({"name": "e", "image": image, "scale": 0.5, "start": 0.1, "end": 0.9}))

    (key,) = stored(bench)
    assert spec_of(bench, uid).controlnets == (ControlNet("edges", key, 0.5, 0.1, 0.9),)
    assert key.endswith("/controlnets.0.image.png")
    assert Image.open(io.BytesIO(bench.parts.storage.get(key).data)).size == (64, 64)
    assert INLINE not in str(bench.redis.get(f"{{dr}}:s:{uid}"))


def test_one_picture_for_several_fields_is_stored_once(bench):
    uid = bench.submit(image=INLINE, **nets({}, {}, {"image": OTHER, "preprocess": False}))

    spec = spec_of(bench, uid)
    assert len(stored(bench)) == 2
    assert spec.controlnets[0].image == spec.controlnets[1].image == spec.image
    assert spec.controlnets[2].image not in {None, spec.image}
    assert [net.preprocess for net in spec.controlnets] == [True, True, False]


def test_a_picture_to_be_fetched_waits_for_a_courier(bench):
    uid = bench.submit(**nets({"image": URL}))

    assert spec_of(bench, uid).remote_inputs() == {"controlnets.0.image": URL}
    assert bench.redis.zcard("{dr}:q:ingest/fetch:1:1") == 1


def test_a_link_of_ours_is_read_from_the_storage(bench):
    bench.parts.storage.put("results/x/1/0.png", png("blue"), content_type="image/png")
    link = bench.parts.storage.link("results/x/1/0.png", ttl_s=60).url
    uid = bench.submit(**nets({"image": link}))

    assert spec_of(bench, uid).remote_inputs() == {}
    assert len(stored(bench)) == 1


def test_a_form_brings_files(bench):
    asked = [{"name": "edges"}, {"name": "edges", "image": URL, "scale": 2}]
    fields = {"prompt": "x", "controlnets": json.dumps(asked), "controlnets.0.image": (io.BytesIO(png()), "a.png")}
    answer = bench.client.post("/v1/jobs", data=fields, headers=bench.headers, content_type="multipart/form-data")

    assert answer.status_code == 202, answer.text
    (key,) = stored(bench)
    assert spec_of(bench, answer.json["uid"]).controlnets == (
        ControlNet("edges", key),
        ControlNet("edges", URL, scale=2.0),
    )


@pytest.mark.parametrize("name", ["controlnets.1.image", "controlnets.x.image", "controlnets.0.name"])
def test_a_file_for_no_controlnet_is_refused(bench, name):
    fields = {"prompt": "x", "controlnets": json.dumps([{"name": "edges"}]), name: (io.BytesIO(png()), "a.png")}
    answer = bench.client.post("/v1/jobs", data=fields, headers=bench.headers, content_type="multipart/form-data")

    assert answer.status_code == 400
    assert name in answer.text
    assert stored(bench) == []


@pytest.mark.parametrize(
    ("fields", "field", "message"),
    [
        ({"controlnets": {}}, "controlnets", "a list"),
        ({"controlnets": ["edges"]}, "controlnets", "an object"),
        ({"controlnets": [{"name": "edges"}]}, "controlnets", "0.image: is required"),
        ({"controlnets": [{"image": INLINE}]}, "controlnets", "0.name: is required"),
        (nets({"weight": 1}), "controlnets", "an object of name"),
        (nets({}, {"scale": "1"}), "controlnets", "1.scale: must be a number"),
        (nets({"scale": 2.01}), "controlnets", "scale must lie between 0 and 2"),
        (nets({"scale": -0.01}), "controlnets", "scale must lie between 0 and 2"),
        (nets({"start": -0.1}), "controlnets", "start must lie between 0 and 1"),
        (nets({"end": 1.1}), "controlnets", "end must lie between 0 and 1"),
        (nets({"start": 0.6, "end": 0.5}), "controlnets", "start must not come after end"),
        (nets({"preprocess": "yes"}), "controlnets", "0.preprocess: must be true or false"),
        (nets({"name": 7}), "controlnets", "0.name: must be a string"),
        (nets({"name": "nobody"}), "controlnets", "no ControlNet 'nobody'"),
        (nets({"name": "elsewhere"}), "controlnets", "is made for sd1"),
        (nets({"name": "depth"}), "controlnets", "depth: a depth hint cannot be made here"),
        (nets(*[{}] * 5), "controlnets", "at most 4"),
        (nets({"image": "no base64!"}), "controlnets", "0.image: is no valid base64"),
        (nets({"image": INLINE[:60]}), "controlnets.0.image", ""),
        (nets({}, {"image": base64.b64encode(b"GIF89a" + bytes(40)).decode()}), "controlnets.1.image", "picture"),
        (nets({"image": "http://127.0.0.1/a.png"}), "controlnets.0.image", ""),
        ({"guess_mode": 1}, "guess_mode", "true or false"),
    ],
)
def test_what_cannot_be_is_refused_by_name(bench, fields, field, message):
    answer = bench.post("/v1/jobs", {"prompt": "x", **fields})

    assert (answer.status_code, answer.json["field"]) == (400, field), answer.text
    assert message in answer.json["detail"]
    assert bench.job_count() == 0
    assert stored(bench) == []


@pytest.mark.parametrize(
    "edge", [{"scale": 0}, {"scale": 2}, {"start": 0, "end": 1}, {"start": 1, "end": 1}, {"scale": None, "end": None}]
)
def test_what_is_just_within_bounds_is_taken(bench, edge):
    assert spec_of(bench, bench.submit(**nets(edge))).controlnets[0].name == "edges"


def test_a_hint_that_comes_ready_made_needs_no_making(bench):
    uid = bench.submit(**nets({"name": "depth", "preprocess": False}), guess_mode=True)
    assert spec_of(bench, uid).controlnets[0].name == "depth"
    assert spec_of(bench, uid).guess_mode


def test_erasing_a_job_erases_them(bench):
    uid = bench.submit(**nets({}, {"image": OTHER}))
    assert len(stored(bench)) == 2
    bench.post(f"/v1/jobs/{uid}/cancel")
    assert bench.delete(f"/v1/jobs/{uid}").status_code == 204
    assert stored(bench) == []


def test_what_is_asked_is_told(bench):
    uid = bench.submit(**nets({"scale": 0.5}))
    (told,) = bench.get(f"/v1/jobs/{uid}").json["parameters"]["controlnets"]
    assert (told["name"], told["scale"]) == ("edges", 0.5)


def test_jobs_share_a_call_whatever_pictures_their_controlnets_draw_after():
    def spec(**changes):
        return JobSpec(prompt="x", controlnets=(ControlNet(**{"name": "a", "image": URL, **changes}),))

    key = spec().batch_key()
    assert key == spec(image="inputs/x").batch_key() == spec(preprocess=False).batch_key()
    others = [spec(name="b"), spec(scale=0.5), spec(start=0.1), spec(end=0.9), spec().evolve(guess_mode=True)]
    assert len({key, JobSpec(prompt="x").batch_key(), *(other.batch_key() for other in others)}) == 7
    assert JobSpec.from_dict(json.loads(json.dumps(spec().to_dict()))) == spec()
