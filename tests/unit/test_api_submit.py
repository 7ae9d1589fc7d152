"""`POST /v1/jobs`: what is taken, and what is refused with nothing enqueued."""

import json

import fakeredis
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.job import DEFAULT_WEBHOOK_EVENTS
from shared.settings import Settings
from tests.apibench import ApiBench

DECLINED = {
    "loras": [],
    "textual_inversions": {},
    "controlnets": [],
}
#: Names that no catalog of these tests has.
UNKNOWN = {
    "loras": [{"name": "x"}],
    "vae": "x",
    "textual_inversions": {"x": "y"},
}
#: field -> values that are refused with code `invalid_value`
WRONG = {
    "prompt": [1, True, ["a"], {"a": 1}, "bad \ud800 text"],
    "negative_prompt": [1, False, []],
    "model": ["no-such-model", 5],
    "width": ["512", 63, 2056, 513, 512.5, True, [512], 1e300, float("1e400")],
    "height": ["512", 0, -8, 2049, 100],
    "num_inference_steps": [0, 201, "30", 1.5, False],
    "guidance_scale": [-0.1, 50.1, "7.5", True, [7]],
    "scheduler": ["NoSuchScheduler", 1],
    "use_karras_sigmas": ["true", 1, 0],
    "algorithm_type": ["nope", 1],
    "seed": [-1, 2**32, "7", 1.5, True, [1, 2], ["a"], [True], {}],
    "num_images": [0, 17, "1", 1.5],
    "output_format": ["gif", 1],
    "quality": [0, 101, "95"],
    "embed_parameters": ["yes", 1],
    "clip_guidance_preset": ["none", "FAST", 1],
    "safety": ["none", "on", True],
    "webhook_url": [5, "https://example.com/" + "a" * 2048],
    "webhook_events": ["succeeded", [], ["nope"], [1], [None]],
    "track_id": [1.5, True, ["a"], {}, "a" * 256, 2**63, "\udfff"],
}


@pytest.fixture
def bench(tmp_path):
    made = ApiBench(fakeredis.FakeRedis(decode_responses=True), tmp_path)
    yield made
    made.parts.hub.close()


def test_a_prompt_is_enough(bench):
    answer = bench.post("/v1/jobs", {"prompt": "a red circle"})

    assert answer.status_code == 202
    body = answer.json
    uid = body["uid"]
    assert list(body) == ["uid", "status", "track_id", "created_at", "links"]
    assert body["status"] == "queued"
    assert body["track_id"] is None
    assert body["created_at"].endswith("Z")
    assert body["links"] == {
        "self": f"http://localhost/v1/jobs/{uid}",
        "events": f"http://localhost/v1/jobs/{uid}/events",
        "cancel": f"http://localhost/v1/jobs/{uid}/cancel",
    }
    assert answer.headers["Location"] == body["links"]["self"]
    assert "Idempotency-Replayed" not in answer.headers


def test_everything_given_is_kept(bench):
    fields = {
        "prompt": "a red circle",
        "negative_prompt": "blur",
        "model": "sd-v1-4.ckpt",
        "width": 128,
        "height": 64.0,
        "num_inference_steps": 20.0,
        "guidance_scale": 5,
        "scheduler": "EulerDiscreteScheduler",
        "use_karras_sigmas": True,
        "algorithm_type": "dpmsolver++",
        "seed": [7, None],
        "num_images": 2,
        "output_format": "webp",
        "quality": 80,
        "embed_parameters": False,
        "webhook_url": "https://example.com/hook",
        "webhook_events": ["failed", "succeeded", "failed"],
        "track_id": "order-1",
    }

    uid = bench.submit(**fields)

    submission = bench.backlog.read(uid, account=bench.credentials.account).submission
    kept = ("webhook_url", "track_id", "webhook_events", "model", "seed")
    for name in fields.keys() - set(kept):
        assert getattr(submission.spec, name) == fields[name], name
    assert isinstance(submission.spec.height, int)
    assert submission.spec.model == "demo"  # the alias is resolved
    assert submission.spec.seed[0] == 7
    assert 0 <= submission.spec.seed[1] < 2**32
    assert submission.webhook_url == "https://example.com/hook"
    assert submission.webhook_events == ("failed", "succeeded")


def test_null_means_omitted(bench):
    uid = bench.submit(width=None, seed=None, model=None, webhook_url=None, webhook_events=None, image=None)

    submission = bench.backlog.read(uid, account=bench.credentials.account).submission
    assert submission.spec.width == 512
    assert isinstance(submission.spec.seed, int)
    assert submission.webhook_events == DEFAULT_WEBHOOK_EVENTS


@pytest.mark.parametrize("track_id", ["7", 7, "", "a" * 255, -(2**63), 0, "日本 🎨"])
def test_a_track_id_keeps_its_type(bench, track_id):
    answer = bench.post("/v1/jobs", {"prompt": "x", "track_id": track_id})

    assert answer.json["track_id"] == track_id
    read = bench.get(f"/v1/jobs/{answer.json['uid']}").json["track_id"]
    assert (type(read), read) == (type(track_id), track_id)


@pytest.mark.parametrize(("field", "value"), [(f, v) for f, values in WRONG.items() for v in values])
def test_a_wrong_value_is_refused_by_name(bench, field, value):
    body = json.dumps({"prompt": "x", field: value}).replace("Infinity", "1e400")

    answer = bench.client.post("/v1/jobs", data=body, headers=bench.headers, content_type="application/json")

    assert_refused(bench, answer, 400, "invalid_value", field)


@pytest.mark.parametrize("body", [{}, {"prompt": None}, {"prompt": ""}, {"prompt": " \n"}])
def test_a_prompt_is_required(bench, body):
    assert_refused(bench, bench.post("/v1/jobs", body), 400, "missing_field", "prompt")


@pytest.mark.parametrize("field", ["prompt", "negative_prompt"])
def test_a_prompt_has_a_limit(bench, field):
    at_limit = {"prompt": "x", field: "a" * 10_000}
    assert bench.post("/v1/jobs", at_limit).status_code == 202
    bench.redis.flushdb()
    bench = ApiBench(bench.redis, bench.settings.data_dir)

    answer = bench.post("/v1/jobs", {"prompt": "x", field: "a" * 10_001})

    assert_refused(bench, answer, 400, "prompt_too_long", field)


@pytest.mark.parametrize("value", [1, None])
def test_an_unknown_field_is_refused(bench, value):
    assert_refused(bench, bench.post("/v1/jobs", {"prompt": "x", "promt": value}), 400, "unknown_field", "promt")


@pytest.mark.parametrize(("field", "value"), UNKNOWN.items())
def test_what_no_catalog_knows_is_refused(bench, field, value):
    answer = bench.post("/v1/jobs", {"prompt": "x", field: value})

    assert_refused(bench, answer, 400, "invalid_value", field)


def test_assets_may_be_declined(bench):
    assert bench.submit(**DECLINED, vae=None)


@pytest.mark.parametrize("value", [0, 0.0])
def test_zero_does_not_decline_what_false_declines(bench, value):
    answer = bench.post("/v1/jobs", {"prompt": "x", "tomesd": value})

    assert_refused(bench, answer, 400, "invalid_value", "tomesd")


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"width": 2048, "height": 2048}, "width"),
        ({"scheduler": "LCMScheduler", "num_inference_steps": 51}, "num_inference_steps"),
        ({"num_images": 2, "seed": [1, 2, 3]}, "seed"),
    ],
)
def test_what_only_the_whole_job_tells_is_refused_too(bench, fields, field):
    assert_refused(bench, bench.post("/v1/jobs", {"prompt": "x", **fields}), 400, "invalid_value", field)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.com/",
        "example.com",
        "http://127.0.0.1/",
        "http://localhost:9000/",
        "https://u:p@example.com/",
        "",
    ],
)
def test_a_webhook_goes_only_where_it_may(bench, url):
    answer = bench.post("/v1/jobs", {"prompt": "x", "webhook_url": url})

    assert_refused(bench, answer, 400, "outbound_refused", "webhook_url")


def test_a_private_webhook_may_be_allowed(tmp_path):
    allowed = Settings.from_env({"OUTBOUND_ALLOW": "127.0.0.0/8"}).outbound_allow
    bench = ApiBench(fakeredis.FakeRedis(decode_responses=True), tmp_path, outbound_allow=allowed)

    assert bench.submit(webhook_url="http://127.0.0.1:9000/")


def test_all_faults_are_told_at_once(bench):
    answer = bench.post("/v1/jobs", {"prompt": "x", "width": 7, "vae": 1, "seed": [1, -1], "what": 1})

    assert answer.status_code == 400
    told = {(e["field"], e["code"]) for e in answer.json["errors"]}
    assert told == {
        ("width", "invalid_value"),
        ("seed", "invalid_value"),
        ("vae", "invalid_value"),
        ("what", "unknown_field"),
    }
    assert answer.json["field"] == answer.json["errors"][0]["field"]
    assert bench.job_count() == 0


@pytest.mark.parametrize(
    ("body", "content_type", "status", "code"),
    [
        (b"", "application/json", 400, "malformed_body"),
        (b"{", "application/json", 400, "malformed_body"),
        (b'{"prompt": "x",}', "application/json", 400, "malformed_body"),
        (b"[]", "application/json", 400, "malformed_body"),
        (b'"x"', "application/json", 400, "malformed_body"),
        (b"null", "application/json", 400, "malformed_body"),
        (b'{"prompt": "\xff"}', "application/json", 400, "malformed_body"),
        ('{"prompt": "x"}'.encode("utf-16"), "application/json", 400, "malformed_body"),
        (b'{"prompt": "x", "width": NaN}', "application/json", 400, "malformed_body"),
        (b'{"prompt": "x", "seed": Infinity}', "application/json", 400, "malformed_body"),
        (b'{"prompt": "x", "seed": ' + b"9" * 5000 + b"}", "application/json", 400, "malformed_body"),
        (b"[" * 100_000, "application/json", 400, "malformed_body"),
        (b'{"prompt": "x"}', "application/json; charset=latin-1", 415, "unsupported_media_type"),
        (b'{"prompt": "x"}', "text/plain", 415, "unsupported_media_type"),
        (b"prompt=x", "application/x-www-form-urlencoded", 415, "unsupported_media_type"),
        (b'{"prompt": "x"}', None, 415, "unsupported_media_type"),
    ],
)
def test_a_body_that_is_no_json_object_is_refused(bench, body, content_type, status, code):
    answer = bench.client.post("/v1/jobs", data=body, headers=bench.headers, content_type=content_type)

    assert_refused(bench, answer, status, code, None)


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "application/vnd.api+json"])
def test_json_goes_by_several_names(bench, content_type):
    body = b'\xef\xbb\xbf{"prompt": "one", "prompt": "two"}'  # with a byte order mark; the last of two names wins

    answer = bench.client.post("/v1/jobs", data=body, headers=bench.headers, content_type=content_type)

    assert answer.status_code == 202
    assert bench.get(f"/v1/jobs/{answer.json['uid']}").json["parameters"]["prompt"] == "two"


def test_a_compressed_body_is_refused(bench):
    headers = {**bench.headers, "Content-Encoding": "gzip"}

    answer = bench.client.post("/v1/jobs", data=b"\x1f\x8b", headers=headers, content_type="application/json")

    assert_refused(bench, answer, 415, "unsupported_media_type", None)


def test_an_oversized_body_is_refused(tmp_path):
    bench = ApiBench(fakeredis.FakeRedis(decode_responses=True), tmp_path, max_body_bytes=2048)

    answer = bench.post("/v1/jobs", {"prompt": "x" * 2048})

    assert_refused(bench, answer, 413, "body_too_large", None)


def test_a_repeated_request_gets_the_first_answer(bench):
    request = {"prompt": "a red circle", "track_id": 7}  # the seed is left to chance
    first = bench.post("/v1/jobs", request, **{"Idempotency-Key": "k1"})

    again = bench.post("/v1/jobs", request, **{"Idempotency-Key": "k1"})

    assert again.status_code == 202
    assert again.json == first.json
    assert again.headers["Location"] == first.headers["Location"]
    assert again.headers["Idempotency-Replayed"] == "true"
    assert bench.job_count() == 1


def test_an_idempotency_key_belongs_to_one_request(bench):
    bench.post("/v1/jobs", {"prompt": "a red circle"}, **{"Idempotency-Key": "k1"})

    other = bench.post("/v1/jobs", {"prompt": "a blue circle"}, **{"Idempotency-Key": "k1"})

    assert (other.status_code, other.json["code"]) == (409, "idempotency_conflict")
    assert bench.job_count() == 1


@pytest.mark.parametrize("key", ["", "k" * 256])
def test_an_idempotency_key_has_bounds(bench, key):
    answer = bench.post("/v1/jobs", {"prompt": "x"}, **{"Idempotency-Key": key})

    assert_refused(bench, answer, 400, "invalid_value", "Idempotency-Key")


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.dictionaries(st.sampled_from([*WRONG, *UNKNOWN, "what"]), JSON_VALUES, max_size=4))
def test_whatever_comes_is_taken_or_refused_and_never_our_fault(bench, body):
    before = bench.job_count()

    answer = bench.client.post(
        "/v1/jobs", data=json.dumps({"prompt": "x", **body}), headers=bench.headers, content_type="application/json"
    )

    taken = answer.status_code == 202
    assert taken or answer.status_code in (400, 422), answer.text
    assert taken or answer.json["errors"]
    assert bench.job_count() == before + taken


def assert_refused(bench, answer, status, code, field):
    problem = answer.json
    assert (answer.status_code, problem["code"]) == (status, code), problem
    assert answer.mimetype == "application/problem+json"
    assert problem["status"] == status
    assert problem.get("field") == field
    assert bench.job_count() == 0
