"""OctoAI's document, field by field."""

import base64
import io
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from PIL import Image

from shared.dialects import octoai
from shared.dialects.base import Call, Ticket
from shared.dialects.octoai_request import is_async, parse, parse_controlnet
from shared.dialects.octoai_tokens import least_tokens
from shared.dialects.samplers import OCTOAI, OCTOAI_PREMIUM
from shared.errors import (
    BacklogFull,
    BacklogUnavailable,
    BodyTooLarge,
    DarkroomError,
    InsufficientCredits,
    InvalidField,
    JobNotFound,
    TooManyWaiting,
)
from shared.job import Job, Status
from shared.spec import ControlNet, JobSpec, Lora
from shared.styles import STYLES
from tests.apibench import png
from tests.dialects import gold
from tests.dialects.gold import PRICES

SD = "/generate/sd"
GOLDEN = sorted((Path(__file__).parent / "golden" / "octoai").glob("*.json"))
PICTURE = base64.b64encode(png(size=(8, 8))).decode()
MASK = base64.b64encode(png("white", size=(8, 8))).decode()
IMAGE = {"init_image": PICTURE}
MASKED = {**IMAGE, "mask_image": MASK}
NET = {"controlnet": "octoai:canny_sd15", "controlnet_image": PICTURE}

#: field -> what else is sent, JobSpec's field, what it is when omitted, {good value: what it means}, bad values
ROWS = {
    "prompt": ({}, "prompt", ..., ["x", "x" * 10_000, "x " * 75], ["", " ", 7, [], "x" * 10_001, "x " * 76]),
    "negative_prompt": ({}, "negative_prompt", "", ["", "x " * 500, "x" * 10_000], [7, True, {}, "x" * 10_001]),
    "sampler": ({}, "scheduler", "DDIMScheduler", {}, ["ddim", "Euler", "DDIMScheduler", 1, ""]),
    "cfg_scale": ({}, "guidance_scale", 12, [1e-9, 1, 7.5, 50], [0, -1, 50.01, "7", True, []]),
    "image_encoding": ({}, "output_format", "jpeg", ["jpeg", "png"], ["webp", "JPEG", "jpg", 1, ""]),
    "num_images": ({}, "num_images", 1, [1, 16, 2.0], [0, 17, 1.5, "2", True]),
    "seed": ({}, "seed", None, [1, 2**32 - 1, 7.0], [0, 2**32, -1, 1.5, "7", True, {}, [], [0], [2**32], [True]]),
    "steps": ({}, "num_inference_steps", 30, [1, 200, 20.0], [0, 201, 20.5, "20", False, 10**400]),
    "init_image": (
        {},
        "image",
        None,
        {},
        ["", "https://example.com/a.png", "not base64!", 7, ["x"], "data:image/png;base64,"],
    ),
    "strength": (IMAGE, "strength", 0.8, [1e-9, 0.5, 1], [0, -0.1, 1.01, "0.5", True]),
    "height": ({}, "height", 512, [128, 512, 768.0, 1536], [64, 127, 129, 192.5, 1537, 1600, "512", True]),
    "width": ({}, "width", 512, [128, 512, 1344, 1536], [64, 127, 129, 1537, 1600, 0, -512, "512"]),
    "checkpoint": ({}, "model", "default", ["octoai:crystal-clear", "x" * 255], [7, {}, "x" * 256]),
    "loras": (
        {},
        "loras",
        (),
        {},
        [
            *("octoai:add-detail", ["a"], {"a": 5.01}, {"a": -5.01}, {"a": "1"}, {"a": True}, {"": 1}, {" ": 1}),
            *(dict.fromkeys("abcdefghi", 1), {"x" * 256: 1}),
        ],
    ),
    "textual_inversions": ({}, "textual_inversions", (), {}, ["a", ["a"], {"a": 1}, {"a": ""}, {"": "x"}]),
    "vae": ({}, "vae", None, ["my-vae"], [7, "", "x" * 256]),
    "mask_image": (IMAGE, "mask_image", None, {}, ["", "https://example.com/a.png", 7]),
    "outpainting": (MASKED, "outpainting", False, [True, False], ["true", 1, "yes"]),
    "inpaint_full_res": (MASKED, "inpaint_full_res", False, [True, False], ["true", 0]),
    "inpaint_full_res_padding": (
        {**MASKED, "inpaint_full_res": True},
        "inpaint_full_res_padding",
        32,
        [0, 256],
        [-1, 257, 1.5, "32"],
    ),
    "clip_skip": ({}, "clip_skip", None, [0, 11], [-1, 12, "1", 1.5]),
    "style_preset": ({}, "style_preset", None, list(STYLES), ["Anime", "GTA", "", 1]),
    "enable_safety": ({}, "safety", "blank", {}, ["true", 1, 0]),
    "log_prompt": ({}, None, None, [True, False], ["false", 0]),
    "transfer_images": ({}, None, None, [{}], [{"a": ["x"]}, [], "x"]),
    "controlnet": ({"controlnet_image": PICTURE}, "controlnets", (), {}, [7, "", "x" * 256]),
    "controlnet_image": ({"controlnet": "a"}, None, ..., {}, [None, 7, "https://example.com/a.png"]),
    "controlnet_conditioning_scale": (NET, None, None, [0, 2], [-0.1, 2.1, "1"]),
    "controlnet_early_stop": (NET, None, None, [0, 1], [-0.1, 1.1, "1"]),
    "controlnet_preprocess": (NET, None, None, [True, False], ["yes", 1]),
}


def call(fields, **headers) -> Call:
    return Call(method="POST", headers=headers, body=json.dumps(fields).encode())


def order(**fields):
    return parse(call({"prompt": "a red circle", **fields}), gold.ACCOUNT)


def spec(**fields) -> JobSpec:
    return order(**fields).submission.spec


def told(error: DarkroomError):
    """Return an error's answer as the client reads it: status, and the one field at fault or None."""
    reply = octoai.render_error(error, call({}))
    if reply.status != 422:
        assert "detail" not in reply.body
        assert isinstance(reply.body["message"], str)
        return reply.status, None
    (fault,) = reply.body["detail"]
    assert set(fault) == {"loc", "msg", "type"}
    return reply.status, fault["loc"]


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_golden(path):
    gold.check(octoai.DIALECT, path)


@pytest.mark.parametrize("field", ROWS)
def test_rows_of_the_table(field):
    others, canonical, default, good, bad = ROWS[field]
    if canonical and default is not ...:
        for omitted in ({}, {field: None}):
            assert getattr(spec(**others, **omitted), canonical) == default
    for value in good:
        drawn = spec(**{**others, field: value})
        if canonical and isinstance(good, list):
            assert getattr(drawn, canonical) == value
    for value in bad:
        with pytest.raises(InvalidField) as caught:
            order(**{**others, field: value})
        assert told(caught.value) == (422, ["body", field]), value


def test_every_row_is_known_and_the_rest_is_named():
    sent = dict.fromkeys(ROWS) | {"prompt": "x"}
    assert order(**sent, **dict.fromkeys(("prompt_2", "use_refiner", "nonsense"), 1)).submission.ignored == (
        "prompt_2",
        "use_refiner",
        "nonsense",
    )


#: What the schema cannot say: that a prompt has few tokens and more than spaces, and that text is base64.
BEYOND_SCHEMA = ("prompt", "init_image", "mask_image", "controlnet_image")


@pytest.mark.parametrize("field", ROWS)
def test_the_schema_says_the_same(field):
    (route,) = (route for route in octoai.DIALECT.routes if route.path == SD)
    known = Draft202012Validator(route.schema["properties"][field])
    _, _, default, good, bad = ROWS[field]
    for value in good:
        assert known.is_valid(value), value
    for value in bad:
        # A name of spaces is told from one of letters by the reader alone.
        assert field in BEYOND_SCHEMA or value == {" ": 1} or not known.is_valid(value), value
    if isinstance(default, str | int | bool) and "default" in known.schema and field != "enable_safety":
        assert known.schema["default"] in {default, "DDIM"}


def test_the_schema_has_every_row():
    for route in octoai.DIALECT.routes[:3]:
        assert set(route.schema["properties"]) == set(ROWS)
        Draft202012Validator.check_schema(route.schema)


@pytest.mark.parametrize("name", OCTOAI)
def test_samplers(name):
    drawn = order(sampler=name, steps=20)
    for field, value in OCTOAI[name].items():
        assert getattr(drawn.submission.spec, field) == value
    premium = name in OCTOAI_PREMIUM
    assert PRICES.of(drawn.submission) == 100 * (1 + premium)


def test_the_documented_samplers_are_there():
    regular = "DDIM,DDPM,DPM_PLUS_PLUS_2M_KARRAS,DPM_SINGLE,DPM_SOLVER_MULTISTEP,K_EULER,K_EULER_ANCESTRAL,PNDM,UNI_PC"
    premium = "DPM_2,DPM_2_ANCESTRAL,DPM_PLUS_PLUS_SDE_KARRAS,HEUN,KLMS"
    more = "LMS,K_HEUN,DPM_PLUS_PLUS_2M_SDE,DPM_PLUS_PLUS_2M_SDE_KARRAS,DPM_2_KARRAS,DPM_2_ANCESTRAL_KARRAS,LCM"
    assert set(OCTOAI) == set(f"{regular},{premium},{more}".split(","))
    assert set(premium.split(",")) <= OCTOAI_PREMIUM
    assert not OCTOAI_PREMIUM & set(regular.split(","))


def test_lcm_runs_fifty_steps_at_most():
    assert spec(sampler="LCM", steps=50).num_inference_steps == 50
    with pytest.raises(InvalidField) as caught:
        order(sampler="LCM", steps=51)
    assert told(caught.value) == (422, ["body", "steps"])


@pytest.mark.parametrize(
    "size",
    [(512, 512), (640, 512), (768, 512), (512, 704), (512, 768), (576, 768), (640, 768), (576, 1024), (1024, 576)],
)
def test_the_documented_sizes(size):
    drawn = spec(width=size[0], height=size[1])
    assert (drawn.width, drawn.height) == size


def test_seeds_in_a_list():
    assert (spec(seed=[3, None, 1]).seed, spec(seed=[3, None, 1]).num_images) == ((3, None, 1), 3)
    assert spec(seed=[3, 4], num_images=2).num_images == 2
    assert spec(seed=[1] * 16).num_images == 16
    assert spec(seed=7, num_images=2).with_seeds().image_seeds() == (7, 8)
    for fields in ({"seed": [1] * 17}, {"seed": [1, 2], "num_images": 3}, {"seed": [1], "num_images": 2}):
        with pytest.raises(InvalidField) as caught:
            order(**fields)
        assert told(caught.value) == (422, ["body", "seed"])


def test_what_an_image_makes_of_a_job():
    assert spec(**IMAGE).task == "image_to_image"
    assert (spec(**IMAGE).strength, spec(**MASKED).strength, spec(**MASKED, strength=0.5).strength) == (0.8, 1.0, 0.5)
    assert spec(**MASKED).task == "inpaint"
    assert spec(**MASKED, outpainting=True).task == "outpaint"
    assert order(**MASKED).inputs == {"image": base64.b64decode(PICTURE), "mask_image": base64.b64decode(MASK)}
    assert order(init_image=f"data:image/png;base64,{PICTURE}").inputs["image"] == base64.b64decode(PICTURE)


def test_fields_of_another_situation_have_no_effect():
    plain = spec()
    assert spec(strength=0.5, inpaint_full_res=True, inpaint_full_res_padding=8, outpainting=False) == plain
    assert spec(controlnet_image=PICTURE, controlnet_conditioning_scale=2, controlnet_early_stop=0.1) == plain
    assert spec(**MASKED, inpaint_full_res_padding=8) == spec(**MASKED)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"mask_image": MASK}, "mask_image"),
        ({"outpainting": True}, "outpainting"),
        ({**IMAGE, "outpainting": True}, "outpainting"),
        ({"controlnet": "a"}, "controlnet_image"),
    ],
)
def test_what_needs_an_image_says_so(fields, field):
    with pytest.raises(InvalidField) as caught:
        order(**fields)
    assert told(caught.value) == (422, ["body", field])


def test_assets():
    assert spec(loras={"a": 5, "b": -5, "c": None}).loras == (Lora("a", 5), Lora("b", -5), Lora("c", 1))
    assert len(spec(loras=dict.fromkeys("abcdefgh")).loras) == 8
    assert spec(textual_inversions={"a": "tok", "b": None}).textual_inversions == (("a", "tok"), ("b", "b"))
    assert spec(enable_safety=False).safety == "off"


def test_a_controlnet_and_its_picture():
    found = order(**NET, controlnet_conditioning_scale=0.5, controlnet_early_stop=0.25, controlnet_preprocess=False)
    (net,) = found.submission.spec.controlnets
    assert net == ControlNet("octoai:canny_sd15", net.image, scale=0.5, start=0, end=0.25, preprocess=False)
    assert found.inputs["controlnet_image"] == base64.b64decode(PICTURE)
    with pytest.raises(InvalidField) as caught:
        parse_controlnet(call({"prompt": "x"}), gold.ACCOUNT)
    assert told(caught.value) == (422, ["body", "controlnet"])


@pytest.mark.parametrize(
    ("prompt", "least"),
    [
        ("a red circle", 3),
        ("", 0),
        ("(A tall (beautiful:1.5) woman:1.0) (some other prompt with weight:0.8)", 9),
        ("don't", 2),
        ("we'll, you've!!!", 6),
        ("2024", 4),
        ("a_b", 3),
        ("日本語", 1),
        ("(red)(blue)", 2),
        ("\\(x)", 2),
        ("-<|startoftext|>", 2),
    ],
)
def test_the_least_number_of_tokens(prompt, least):
    assert least_tokens(prompt) == least


def test_a_trigger_is_one_token_whatever_its_signs():
    assert least_tokens("a photo of <my-cat>, <MY-CAT>") == 13
    assert least_tokens("a photo of <my-cat>, <MY-CAT>", triggers=["<my-cat>"]) == 6
    seventy = "x " * 70
    assert spec(prompt=f"{seventy}<a-b> <a-b>", textual_inversions={"e": "<a-b>"}).prompt
    with pytest.raises(InvalidField):
        order(prompt=f"{seventy}<a-b> <a-b>")


def test_the_exact_limit_is_left_for_whoever_has_a_tokenizer():
    assert order().submission.option("max_prompt_tokens") == 75
    assert spec(prompt=f"({'x ' * 74}y:1.5)").prompt_weighting == "octoai"


@pytest.mark.parametrize(("value", "meant"), [("1", True), ("true", True), ("", False), (" ", False), ("0", False)])
def test_an_empty_header_means_at_once(value, meant):
    assert is_async(call({}, **{"x-octoai-async": value})) is meant
    assert is_async(call({})) is False


# ---- over HTTP ----


def post(bench, path=SD, headers=None, **fields):
    body = {"prompt": "a red circle", "width": 128, "height": 128, "steps": 5, **fields}
    return bench.client.post(path, json=body, headers=bench.headers if headers is None else headers)


def pictures(answer):
    assert answer.status_code == 200, answer.text
    assert set(answer.json) == {"images", "prediction_time_ms"}
    for image in answer.json["images"]:
        assert set(image) == {"image_b64", "removed_for_safety", "seed", "safety_score"}
        assert image["safety_score"] is None
        assert image["removed_for_safety"] is False
    return [Image.open(io.BytesIO(base64.b64decode(i["image_b64"], validate=True))) for i in answer.json["images"]]


def test_a_prompt_gives_a_jpeg_at_once(bench, worker):
    answer = post(bench)
    (picture,) = pictures(answer)
    assert (picture.format, picture.size) == ("JPEG", (128, 128))
    assert answer.json["prediction_time_ms"] == 250.0
    assert answer.json["images"][0]["seed"] == worker.specs[0].seed
    assert worker.specs[0].model == "demo"


def test_several_pictures_tell_their_own_seeds(bench):
    answer = post(bench, num_images=3, seed=4294967295, image_encoding="png")
    assert [picture.format for picture in pictures(answer)] == ["PNG"] * 3
    assert [image["seed"] for image in answer.json["images"]] == [4294967295, 0, 1]
    answer = post(bench, seed=[9, None, 5])
    first, second, third = (image["seed"] for image in answer.json["images"])
    assert (first, third) == (9, 5)
    assert 0 <= second < 2**32


def test_images_come_in_and_are_judged(bench, worker):
    assert pictures(post(bench, init_image=PICTURE, mask_image=MASK, outpainting=True))
    assert worker.specs[-1].task == "outpaint"
    answer = post(bench, init_image=base64.b64encode(b"GIF89a").decode())
    assert answer.status_code == 422
    assert answer.json["detail"][0]["loc"] == ["body", "init_image"]


def test_errors_of_fields_over_http(bench):
    for fields, field in (
        ({"steps": 0}, "steps"),
        ({"checkpoint": "nobody:nothing"}, "checkpoint"),
        ({"prompt": None}, "prompt"),
        ({"loras": {"nobody:nothing": 0.5}}, "loras"),
        ({**NET, "controlnet": "nobody:nothing"}, "controlnet"),
    ):
        answer = post(bench, **fields)
        assert (answer.status_code, [d["loc"] for d in answer.json["detail"]]) == (422, [["body", field]])
    assert post(bench, prompt=None).json["detail"][0] == {
        "loc": ["body", "prompt"],
        "msg": "is required",
        "type": "value_error.missing",
    }


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"\xff", b'{"steps": NaN}', b"[" * 100_000])
def test_a_body_that_is_none(bench, body):
    answer = bench.client.post(SD, data=body, headers=bench.headers)
    assert answer.status_code == 422
    assert answer.json["detail"][0]["loc"] == ["body"]


@pytest.mark.parametrize(
    "headers", [{"Authorization": "Bearer wrong"}, {"Authorization": "Bearer "}, {"Accept": "*/*"}]
)
def test_without_a_key(bench, headers):
    for path in (SD, "/generate/controlnet-sd15", "/generate/controlnet-sd"):
        answer = post(bench, path, headers=headers)
        assert answer.status_code == 401
        assert set(answer.json) == {"message"}


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InsufficientCredits(), 402),
        (JobNotFound(), 404),
        (BodyTooLarge(), 413),
        (TooManyWaiting(), 429),
        (DarkroomError("x"), 500),
        (BacklogFull(), 503),
        (BacklogUnavailable(), 503),
    ],
)
def test_other_errors_are_messages(error, status):
    assert told(error) == (status, None)


def test_credits(bench, worker):
    bench.parts.accounts.create_key("alice", credits_=1)
    account = bench.credentials.account
    assert pictures(post(bench, width=512, height=512, steps=30, sampler="HEUN"))
    assert bench.parts.accounts.balance(account) == 700
    worker.fail = {"code": "generation_failed", "message": "The pipeline failed.", "retryable": False}
    failed = post(bench)
    assert (failed.status_code, failed.json) == (500, {"message": "The pipeline failed."})
    assert bench.parts.accounts.balance(account) == 700
    assert post(bench, width=512, height=512, steps=200).status_code == 402


def test_a_worker_may_find_the_prompt_too_long(bench, worker):
    worker.fail = {"code": "prompt_too_long", "message": "must have at most 75 tokens, not 80", "retryable": False}
    answer = post(bench)
    assert (answer.status_code, answer.json["detail"][0]["loc"]) == (422, ["body", "prompt"])


def test_a_worker_may_name_the_field_at_fault(bench, worker):
    worker.fail = {"code": "invalid_value", "message": "num_inference_steps: must be fewer", "retryable": False}
    (fault,) = post(bench).json["detail"]
    assert (fault["loc"], fault["msg"]) == (["body", "steps"], "must be fewer")


def test_a_job_that_takes_too_long_is_cancelled_and_not_charged(bench, worker):
    bench.parts.accounts.create_key("alice", credits_=1)
    bench.parts.settings = bench.settings.evolve(sync_wait_s=0.05)
    worker.open.clear()
    answer = post(bench)
    assert (answer.status_code, set(answer.json)) == (504, {"message"})
    assert bench.parts.accounts.balance(bench.credentials.account) == 1000


def test_asynchronous(bench, worker):
    worker.open.clear()
    taken = post(bench, seed=7, headers={**bench.headers, "X-OctoAI-Async": "1"})
    assert taken.status_code == 201
    assert set(taken.json) == {"response_id", "poll_url"}
    assert taken.json["poll_url"].endswith(f"/v1/requests/{taken.json['response_id']}")
    # Neither poll nor response needs a key: the id is the key.
    poll = bench.client.get(taken.json["poll_url"])
    assert poll.json == {"status": "pending", "response_url": f"{taken.json['poll_url']}/response"}
    early = bench.client.get(poll.json["response_url"])
    assert (early.status_code, set(early.json)) == (409, {"message"})
    worker.open.set()
    while (poll := bench.client.get(taken.json["poll_url"]).json)["status"] != "completed":
        assert poll["status"] in {"pending", "running"}
    answer = bench.client.get(poll["response_url"])
    assert len(pictures(answer)) == 1
    assert answer.json["images"][0]["seed"] == 7


def test_an_asynchronous_failure_is_completed_and_its_answer_says_why(bench, worker):
    worker.fail = {"code": "generation_failed", "message": "The pipeline failed.", "retryable": False}
    taken = post(bench, headers={**bench.headers, "X-OctoAI-Async": "1"})
    while (poll := bench.client.get(taken.json["poll_url"]).json)["status"] != "completed":
        pass
    answer = bench.client.get(poll["response_url"])
    assert (answer.status_code, answer.json) == (500, {"message": "The pipeline failed."})


def test_an_id_that_is_none_or_another_kind_of_job_is_not_found(bench, worker):
    uid = bench.submit()
    native = bench.backlog.read(uid, account=bench.credentials.account)
    pictures(post(bench))
    (sync, *_), _ = bench.backlog.list_jobs(bench.credentials.account)
    guesses = ["x", "0" * 40, f"{'0' * 32}{uid:x}", str(Ticket(uid, native.handle)), str(Ticket(sync.uid, sync.handle))]
    for name in guesses:
        for tail in ("", "/response"):
            answer = bench.client.get(f"/v1/requests/{name}{tail}")
            assert (answer.status_code, set(answer.json)) == (404, {"message"})


def test_how_a_job_ended_without_pictures():
    submission = order().submission
    for status, code in ((Status.CANCELLED, 409), (Status.EXPIRED, 504), (Status.FAILED, 500)):
        reply = octoai.render_result(gold.ended(submission, status), gold.View())
        assert reply.status == code
        assert set(reply.body) == {"message"}


def test_a_picture_that_was_flagged_is_removed():
    submission = order(num_images=2, seed=7).submission
    job: Job = gold.ended(submission, flagged={1})
    assert octoai.render_result(job, gold.View()).body["images"] == [
        {"image_b64": "cGljdHVyZSA3", "removed_for_safety": False, "seed": 7, "safety_score": None},
        {"image_b64": None, "removed_for_safety": True, "seed": 8, "safety_score": None},
    ]


def test_what_is_unknown_is_ignored_and_named(bench):
    answer = post(bench, frobnicate=1, use_refiner=True, log_prompt=False)
    pictures(answer)
    assert answer.headers["Darkroom-Ignored"] == "frobnicate, use_refiner"


def test_the_native_api_reads_the_same_job(bench):
    answer = post(bench, seed=7, num_images=2)
    (job,) = bench.get("/v1/jobs").json["data"]
    assert (job["status"], [output["seed"] for output in job["outputs"]]) == ("succeeded", [7, 8])
    data = bench.client.get(job["outputs"][0]["url"].removeprefix("http://localhost")).data
    assert base64.b64decode(answer.json["images"][0]["image_b64"]) == data


def test_the_documents_example_over_http(bench, worker):
    golden = json.loads(next(path for path in GOLDEN if path.stem == "seed_curl").read_text())
    found = pictures(bench.client.post(SD, json=golden["request"]["json"], headers=bench.headers))
    assert [(picture.format, picture.size) for picture in found] == [("JPEG", (1344, 768))] * 4
    assert worker.specs[0].loras == (Lora("detail", 0.5),)


_SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just(PICTURE)
_JSON = st.recursive(
    _SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
)
_FIELDS = st.sampled_from([*ROWS, "prompt_2", "extra"])


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(_FIELDS | st.text(max_size=5), _JSON, max_size=8), st.booleans())
def test_any_object_is_read_or_refused_by_one_of_our_errors(fields, net):
    read = parse_controlnet if net else parse
    try:
        found = read(call({"prompt": "x", **fields}), gold.ACCOUNT)
    except DarkroomError as refusal:
        error = refusal
    else:
        assert found.submission.to_json().encode()
        return
    assert told(error)[0] == 422


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=40))
def test_any_body_is_read_or_refused_by_one_of_our_errors(body):
    with pytest.raises(DarkroomError):
        parse(Call(method="POST", body=body), gold.ACCOUNT)
