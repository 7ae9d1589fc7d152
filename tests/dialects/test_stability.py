"""Stability's first version, field by field."""

import base64
import io
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from PIL import Image

from shared.dialects import stability
from shared.dialects.base import Call
from shared.dialects.samplers import STABILITY
from shared.dialects.stability import parse_image_to_image, parse_masking, parse_text_to_image
from shared.dialects.stability_images import MAX_PIXELS, MIN_PIXELS, alpha_mask, inverted, size_like
from shared.errors import (
    BacklogFull,
    BacklogUnavailable,
    DarkroomError,
    Forbidden,
    InsufficientCredits,
    InvalidField,
    MalformedBody,
    MissingField,
    TaskNotAvailable,
    TooManyWaiting,
    Unauthorized,
)
from shared.inputs import Inline
from shared.job import Status
from shared.spec import CLIP_GUIDANCE_PRESETS, JobSpec
from shared.styles import STYLES
from shared.weighting import parse as parse_weights
from tests.apibench import png
from tests.dialects import gold
from tests.dialects.gold import PRICES

GOLDEN = sorted((Path(__file__).parent / "golden" / "stability").glob("*.json"))
TEXT, IMAGE, MASKING = (
    f"/v1/generation/demo/{path}" for path in ("text-to-image", "image-to-image", "image-to-image/masking")
)
PROMPTS = {"text_prompts": [{"text": "a red circle"}]}
FORM = {"text_prompts[0][text]": "a red circle"}

#: field -> JobSpec's field, what it is when omitted, good values, bad values; of every call
ROWS = {
    "cfg_scale": ("guidance_scale", 7, [0, 7.5, 35], [-0.1, 35.1, "x", True]),
    "clip_guidance_preset": ("clip_guidance_preset", "NONE", list(CLIP_GUIDANCE_PRESETS), ["none", "FAST", 1]),
    "sampler": ("scheduler", "DPMSolverMultistepScheduler", [], ["k_euler", "Euler", 1]),
    "samples": ("num_images", 1, [1, 10], [0, 11, 1.5]),
    "seed": ("seed", None, [1, 2**32 - 1], [-1, 2**32, 1.5]),
    "steps": ("num_inference_steps", 50, [10, 150], [9, 151, 20.5]),
    "style_preset": ("style_preset", None, list(STYLES), ["Anime", "", 1]),
}
#: text-to-image alone, with the other side
SIDES = {
    "width": ("width", 512, [128, 512, 1024, 2048], [0, 64, 127, 513, 8256], "height"),
    "height": ("height", 512, [128, 512, 1024, 2048], [0, 64, 127, 513, 8256], "width"),
}
#: image-to-image alone
STRENGTHS = {
    "image_strength": (["0", "0.35", "1"], ["-0.1", "1.1", "x"]),
    "init_image_mode": (["IMAGE_STRENGTH", "STEP_SCHEDULE"], ["image_strength", "STEP"]),
    "step_schedule_start": (["0", "1"], ["-0.1", "1.1"]),
    "step_schedule_end": (["0", "1"], ["-0.1", "1.1"]),
}


def call(fields=None, *, form=None, files=None, accept="application/json") -> Call:
    return Call(
        method="POST",
        args={"engine": "demo"},
        headers={"accept": accept},
        body=b"" if fields is None else json.dumps(fields).encode(),
        form=form or {},
        files=files or {},
    )


def spec(**fields) -> JobSpec:
    return parse_text_to_image(call({**PROMPTS, **fields}), gold.ACCOUNT).submission.spec


def image_spec(size=(512, 512), read=parse_image_to_image, files=None, **fields) -> JobSpec:
    files = files or {"init_image": png(size=size)}
    return read(call(form={**FORM, **fields}, files=files), gold.ACCOUNT).submission.spec


def refused(field, read) -> None:
    with pytest.raises(InvalidField) as caught:
        read()
    reply = stability.render_error(caught.value, call())
    assert (reply.status, set(reply.body), reply.body["name"]) == (400, {"id", "name", "message"}, "bad_request")
    assert reply.body["message"].startswith(field)


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_golden(path):
    gold.check(stability.DIALECT, path)


@pytest.mark.parametrize("field", ROWS)
def test_rows_of_the_table(field):
    canonical, default, good, bad = ROWS[field]
    assert getattr(spec(), canonical) == getattr(spec(**{field: None}), canonical) == default
    assert getattr(image_spec(), canonical) == default
    for value in good:
        assert getattr(spec(**{field: value}), canonical) == value
        assert getattr(image_spec(**{field: str(value)}), canonical) == value
    for value in bad:
        refused(field, lambda value=value: spec(**{field: value}))


def test_the_schemas_say_the_same():
    text, image, masking = (route.schema["properties"] for route in stability.DIALECT.routes[:3])
    assert set(text) == {"text_prompts", *SIDES, *ROWS}
    assert set(image) == {"text_prompts[0][text]", "text_prompts[0][weight]", "init_image", *ROWS, *STRENGTHS}
    assert set(masking) == set(image) - set(STRENGTHS) | {"mask_source", "mask_image"}
    for field, (_, _, good, bad, *_) in {**ROWS, **SIDES}.items():
        known = Draft202012Validator(text[field])
        assert all(known.is_valid(value) for value in good), field
        assert not any(known.is_valid(value) for value in bad), field
    for route in stability.DIALECT.routes[:3]:
        Draft202012Validator.check_schema(route.schema)


@pytest.mark.parametrize("field", SIDES)
def test_sides(field):
    canonical, default, good, bad, other = SIDES[field]
    assert getattr(spec(), canonical) == default
    for value in good:
        fitting = {128: 2048, 512: 512, 1024: 1024, 2048: 128}[value]
        assert getattr(spec(**{field: value, other: fitting}), canonical) == value
    for value in bad:
        refused(field, lambda value=value: spec(**{field: value}))


def test_pixels():
    assert spec(width=1024, height=1024).width == 1024
    for width, height in ((512, 448), (1088, 1024), (128, 128), (2048, 576)):
        refused("height", lambda width=width, height=height: spec(width=width, height=height))


@pytest.mark.parametrize("name", STABILITY)
def test_samplers(name):
    for field, value in STABILITY[name].items():
        assert getattr(spec(sampler=name), field) == value


def test_a_sampler_is_chosen_where_none_is_named():
    assert spec(clip_guidance_preset="SLOW").scheduler == "DPMPP2SAncestralScheduler"


def test_prompts():
    assert spec().prompt == "a red circle"
    assert spec(text_prompts=[{"text": "x" * 2000, "weight": None}]).prompt == "x" * 2000
    two = spec(text_prompts=[{"text": "a (b)"}, {"text": "c", "weight": "1"}, {"text": "d", "weight": -1}])
    assert (two.prompt, two.negative_prompt, two.prompt_weighting) == ("a (b), c", "d", "none")
    for bad in (
        *(None, [], "x", {}, [1], [{}], [{"text": ""}], [{"text": 1}], [{"text": "x" * 2001}], [{"text": "x"}] * 101),
        *([{"text": "x", "weight": bad}] for bad in (0, -1, 11, "x", True)),
    ):
        refused("text_prompts", lambda bad=bad: spec(text_prompts=bad))


def test_weights_are_kept_and_brackets_stay_text():
    texts = [("a (red) circle", 0.5), ("back\\slash [x]:2", 2.0), ("plain:1.5", 1.0), ("zero", 0.0), ("bad", -1.5)]
    found = spec(text_prompts=[{"text": text, "weight": weight} for text, weight in texts])
    assert found.prompt_weighting == "a1111"
    read = [(f.text.removeprefix(", "), f.weight) for f in parse_weights(found.prompt, "a1111")]
    assert [pair for pair in read if pair[0].strip(", ")] == texts[:3]
    assert [tuple(f) for f in parse_weights(found.negative_prompt, "a1111")] == [("bad", 1.5)]


def test_forms_spell_lists():
    form = {"text_prompts[1][text]": "b", "text_prompts[1][weight]": "-1", "text_prompts[7][text]": "c"}
    found = image_spec(**form)
    assert (found.prompt, found.negative_prompt) == ("a red circle, c", "b")


@pytest.mark.parametrize("field", STRENGTHS)
def test_rows_of_image_to_image(field):
    good, bad = STRENGTHS[field]
    for value in good:
        assert image_spec(**{field: value})
    for value in bad:
        refused(field, lambda value=value: image_spec(**{field: value}))


def test_strength():
    assert image_spec().strength == pytest.approx(0.65)
    assert image_spec(image_strength="1").strength == 0
    assert image_spec(init_image_mode="STEP_SCHEDULE", image_strength="1").strength == 0.65
    assert image_spec(init_image_mode="STEP_SCHEDULE", step_schedule_start="0.3", step_schedule_end="1").strength == 0.3
    refused("step_schedule_end", lambda: image_spec(init_image_mode="STEP_SCHEDULE", step_schedule_end="0.5"))
    assert image_spec(step_schedule_end="0.5").strength == pytest.approx(0.65)


@pytest.mark.parametrize(
    "size", [(1, 1), (64, 64), (300, 200), (512, 512), (1000, 1000), (1024, 1024), (3000, 2000), (1, 900), (4000, 50)]
)
def test_the_size_is_the_images_own_brought_into_bounds(size):
    sides = size_like(Inline(png(size=size)), field="init_image")
    assert set(sides) == {"width", "height"}
    assert MIN_PIXELS <= sides["width"] * sides["height"] <= MAX_PIXELS
    assert all(128 <= side <= 2048 and side % 64 == 0 for side in sides.values())
    if size in {(512, 512), (1024, 1024)}:
        assert tuple(sides.values()) == size


def test_masks_of_each_source():
    half = Image.new("L", (64, 64), 0)
    half.paste(255, (0, 0, 32, 64))
    out = io.BytesIO()
    half.save(out, "PNG")
    mask, files = out.getvalue(), {"init_image": png(), "mask_image": out.getvalue()}
    white = parse_masking(call(form={**FORM, "mask_source": "MASK_IMAGE_WHITE"}, files=files), gold.ACCOUNT)
    black = parse_masking(call(form={**FORM, "mask_source": "MASK_IMAGE_BLACK"}, files=files), gold.ACCOUNT)
    assert white.inputs["mask_image"] == mask
    assert black.submission.spec.task == "inpaint"
    with Image.open(io.BytesIO(black.inputs["mask_image"])) as turned:
        assert (turned.getpixel((0, 0)), turned.getpixel((63, 0))) == (0, 255)
    for source, field in (("", "mask_source"), (None, "mask_source"), ("MASK_IMAGE_WHITE", "mask_image")):
        fields = {} if source is None else {"mask_source": source}
        refused(field, lambda fields=fields: image_spec(read=parse_masking, **fields))
    refused("mask_image", lambda: inverted(Inline(b"GIF89a"), field="mask_image"))


def test_a_mask_of_what_is_transparent():
    picture = Image.new("RGBA", (64, 64), (255, 0, 0, 255))
    picture.paste((0, 0, 0, 0), (0, 0, 32, 64))
    out = io.BytesIO()
    picture.save(out, "PNG")
    with Image.open(io.BytesIO(alpha_mask(Inline(out.getvalue()), field="init_image").data)) as mask:
        assert (mask.getpixel((0, 0)), mask.getpixel((63, 0))) == (255, 0)
    assert image_spec(
        read=parse_masking, files={"init_image": out.getvalue()}, mask_source="INIT_IMAGE_ALPHA"
    ).mask_image
    refused("init_image", lambda: image_spec(read=parse_masking, mask_source="INIT_IMAGE_ALPHA"))


def test_masking_takes_no_strength():
    files = {"init_image": png(), "mask_image": png("white")}
    found = image_spec(read=parse_masking, files=files, mask_source="MASK_IMAGE_WHITE", image_strength="x")
    assert found.strength is None


def test_png_is_one_picture():
    accepted = call({**PROMPTS, "samples": 2}, accept="image/png")
    refused("samples", lambda: parse_text_to_image(accepted, gold.ACCOUNT))
    plain = parse_text_to_image(call({**PROMPTS, "samples": 2}, accept="*/*"), gold.ACCOUNT)
    assert plain.submission.option("png") is None


def test_a_flagged_picture_is_told():
    submission = parse_text_to_image(call({**PROMPTS, "samples": 2, "seed": 7}), gold.ACCOUNT).submission
    reply = stability.render(gold.ended(submission, flagged={1}), gold.View())
    assert submission.spec.safety == "blur"
    assert [artifact["finishReason"] for artifact in reply.body["artifacts"]] == ["SUCCESS", "CONTENT_FILTERED"]


@pytest.mark.parametrize(
    ("error", "status", "name"),
    [
        (InvalidField("guidance_scale", "x"), 400, "bad_request"),
        (MissingField("steps"), 400, "bad_request"),
        (MalformedBody(), 400, "bad_request"),
        (TaskNotAvailable("clip_guidance_preset"), 400, "bad_request"),
        (Unauthorized(), 401, "unauthorized"),
        (InsufficientCredits(), 402, "insufficient_balance"),
        (Forbidden(), 403, "permission_denied"),
        (InvalidField("model", "x"), 404, "not_found"),
        (TooManyWaiting(), 429, "rate_limit_exceeded"),
        (DarkroomError(), 500, "server_error"),
        (BacklogFull(), 503, "service_unavailable"),
        (BacklogUnavailable(), 503, "service_unavailable"),
    ],
)
def test_errors(error, status, name):
    reply = stability.render_error(error, call())
    assert (reply.status, reply.body["name"]) == (status, name)
    assert set(reply.body) == {"id", "name", "message"}


def test_prices():
    submission = parse_text_to_image(call({**PROMPTS, "samples": 3}), gold.ACCOUNT).submission
    assert PRICES.of(submission) == 750


# ---- over HTTP ----


def post(bench, path=TEXT, **headers):
    return bench.client.post(path, json=PROMPTS, headers={**bench.headers, **headers})


def test_text_to_image(bench, worker):
    answer = post(bench)
    assert answer.status_code == 200, answer.text
    (artifact,) = answer.json["artifacts"]
    assert set(artifact) == {"base64", "seed", "finishReason"}
    picture = Image.open(io.BytesIO(base64.b64decode(artifact["base64"], validate=True)))
    assert (picture.format, picture.size) == ("PNG", (512, 512))
    assert (artifact["seed"], artifact["finishReason"]) == (worker.specs[0].seed, "SUCCESS")


def test_accepting_png_gives_the_picture_itself(bench, worker):
    answer = post(bench, Accept="image/png")
    assert (answer.status_code, answer.content_type) == (200, "image/png")
    assert Image.open(io.BytesIO(answer.data)).format == "PNG"
    assert (answer.headers["Seed"], answer.headers["Finish-Reason"]) == (str(worker.specs[0].seed), "SUCCESS")


@pytest.mark.parametrize(
    ("path", "mask"), [(IMAGE, None), (MASKING, "MASK_IMAGE_WHITE"), (MASKING, "MASK_IMAGE_BLACK")]
)
def test_images_in(bench, worker, path, mask):
    form = {**FORM, "steps": "10", "init_image": (io.BytesIO(png(size=(512, 512))), "a.png")}
    if mask:
        form |= {"mask_source": mask, "mask_image": (io.BytesIO(png("white", (512, 512))), "b.png")}
    answer = bench.client.post(path, data=form, headers=bench.headers)
    assert answer.status_code == 200, answer.text
    assert worker.specs[0].task == ("inpaint" if mask else "image_to_image")


def test_errors_over_http(bench, worker):
    for path, headers, status, name in (
        (TEXT, {"Authorization": "Bearer wrong"}, 401, "unauthorized"),
        ("/v1/generation/nothing/text-to-image", bench.headers, 404, "not_found"),
        (IMAGE, bench.headers, 400, "bad_request"),
    ):
        answer = bench.client.post(path, json=PROMPTS, headers=headers)
        assert (answer.status_code, answer.json["name"]) == (status, name)
        assert answer.json["id"] == answer.headers["Darkroom-Request-Id"]
    worker.fail = {"code": "generation_failed", "message": "The pipeline failed.", "retryable": False}
    answer = post(bench)
    assert (answer.status_code, answer.json["name"], answer.json["message"]) == (
        500,
        "server_error",
        "The pipeline failed.",
    )


def test_engines_and_balance(bench):
    engines = bench.get("/v1/engines/list").json
    assert {"id": "demo", "name": "demo", "description": "", "type": "PICTURE"} in engines
    assert bench.get("/v1/user/balance").json == {"credits": 1_000_000}
    bench.parts.accounts.create_key("alice", credits_=2)
    post(bench)
    assert bench.get("/v1/user/balance").json == {"credits": 1.75}
    for path in ("/v1/engines/list", "/v1/user/balance"):
        assert bench.client.get(path).json["name"] == "unauthorized"


def test_the_native_api_keeps_its_own_paths(bench):
    assert bench.get("/v1/models").status_code == 200
    assert bench.get("/v1/jobs").json["data"] == []


def test_what_is_unknown_is_ignored_and_named(bench):
    answer = bench.client.post(TEXT, json={**PROMPTS, "extras": {}, "x": 1}, headers=bench.headers)
    assert answer.headers["Darkroom-Ignored"] == "extras, x"


def test_a_job_that_ended_without_pictures():
    submission = parse_text_to_image(call(PROMPTS), gold.ACCOUNT).submission
    reply = stability.render(gold.ended(submission, Status.CANCELLED), gold.View())
    assert (reply.status, reply.body["message"]) == (500, "The job was cancelled.")


_SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
_JSON = st.recursive(
    _SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
)
_PROMPT_LIST = st.lists(st.fixed_dictionaries({}, optional={"text": _JSON, "weight": _JSON}), max_size=3)
_NAMES = st.sampled_from([*ROWS, *SIDES, *STRENGTHS, "mask_source", "text_prompts[1][text]", "text_prompts[1][weight]"])


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(_NAMES | st.text(max_size=5), _JSON, max_size=6), _PROMPT_LIST | _JSON)
def test_any_object_is_read_or_refused_by_one_of_our_errors(fields, prompts):
    _survives(parse_text_to_image, call({"text_prompts": prompts, **fields}))


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(_NAMES | st.text(max_size=5), st.text(max_size=8), max_size=6), st.booleans())
def test_any_form_is_read_or_refused_by_one_of_our_errors(form, masking):
    files = {"init_image": _TINY, "mask_image": _TINY}
    _survives(parse_masking if masking else parse_image_to_image, call(form={**FORM, **form}, files=files))


def _survives(read, sent) -> None:
    try:
        assert read(sent, gold.ACCOUNT).submission.to_json().encode()
    except DarkroomError as error:
        told = error
    else:
        return
    assert stability.render_error(told, sent).status in {400, 404}


_TINY = png(size=(8, 8))
