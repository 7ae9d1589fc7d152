"""OpenSourceAIs' parameters, row by row: what is taken, what is refused by name, and what each comes to."""

import json
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.accounts import Account
from shared.dialects.base import Call
from shared.dialects.opensourceais import render_error
from shared.dialects.opensourceais_request import FREE_MOST, SCHEMA, UnknownEngine, parse
from shared.errors import DarkroomError, InvalidField, MalformedBody, PromptTooLong
from shared.job import Submission

PAID = Account("1", "alice", "paid", "default", ())
FREE = replace(PAID, plan="free")
SIDES = (320, 384, 448, 512, 640, 768)
URL = "https://pictures.example/cat.png"
LONG_URL = f"https://pictures.example/{'x' * 4071}"
CONFIG = json.loads((Path(__file__).parent / "golden/opensourceais/config.json").read_text())["data"]["aParam"]


class Row(NamedTuple):
    field: str
    #: JobSpec's name, and its value where the field is omitted.
    name: str
    default: object
    #: sent -> what it comes to
    taken: dict
    refused: list


ROWS = [
    ("word", "prompt", "a fox", {"x": "x", "x" * 10_000: "x" * 10_000, "(a:2)": "(a:2)"}, ["", " ", None, 7, ["x"]]),
    (
        "url_upload",
        "image",
        None,
        {URL: URL, f" {URL} ": URL, LONG_URL: LONG_URL, "HTTPS://a.example/": "HTTPS://a.example/", "": None},
        ["ftp://a.example/", "cat.png", "data:image/png;base64,AA==", 7, LONG_URL + "x", "https://", f"{URL}\ud800"],
    ),
    ("steps", "num_inference_steps", 20, {1: 1, 200: 200, "20": 20, 20.0: 20, "": 20}, [0, 201, 20.5, "x", True, []]),
    ("guidance", "guidance_scale", 7.5, {0.1: 0.1, 12: 12, " 0.7 ": 0.7}, [0, 0.09, 12.01, -1, "NaN", "inf", {}]),
    ("width", "width", 320, {**{side: side for side in SIDES}, "640": 640}, [319, 321, 576, 769]),
    ("height", "height", 320, {side: side for side in SIDES}, [64, 1024, 512.5, "tall"]),
    ("cimg", "num_images", 1, {1: 1, 2: 2, 3: 3, 4: 4, "4": 4}, [0, 5, 1.5, -1]),
    ("saveinterval", "preview_every", None, {1: 1, 2: 2, 20: 20}, [0, 21, 1.5]),
    ("seed", "seed", 1, {1: 1, 1_000_000: 1_000_000, "7": 7, "$random": None}, [0, 1_000_001, -1, "random", 10**400]),
    ("model", "model", "default", {"sd-v1-4.ckpt": "sd-v1-4.ckpt", "": "default"}, [7, "x" * 201]),
]


def call(**fields):
    return Call(method="POST", args={"engine": "diffusion"}, body=json.dumps(fields).encode())


def form(**fields):
    given = {name: str(value) for name, value in fields.items()}
    return Call(method="POST", args={"engine": "diffusion"}, body=b"word=x", form=given)


def spec_of(request, account=PAID):
    return parse(request, account).submission.spec


EVERY_ROW = pytest.mark.parametrize("row", [Row(*row) for row in ROWS], ids=[row[0] for row in ROWS])


@EVERY_ROW
def test_omitted(row):
    assert getattr(spec_of(call(word="a fox")), row.name) == row.default


@EVERY_ROW
def test_null_is_omitted(row):
    if row.field != "word":
        assert getattr(spec_of(call(word="a fox", **{row.field: None})), row.name) == row.default


@EVERY_ROW
@pytest.mark.parametrize("request_of", [call, form])
def test_taken(row, request_of):
    for sent, expected in row.taken.items():
        assert getattr(spec_of(request_of(**{"word": "a fox", row.field: sent})), row.name) == expected, sent


@EVERY_ROW
def test_refused_by_name(row):
    for sent in row.refused:
        with pytest.raises(InvalidField) as caught:
            parse(call(**{"word": "a fox", row.field: sent}), PAID)
        answer = render_error(caught.value, call())
        assert (answer.status, answer.body["status"], answer.body["data"]) == (400, 400, None)
        assert answer.body["statusText"].startswith(f"{row.field}: "), sent
        assert len(answer.body["statusText"]) < 200


@EVERY_ROW
def test_the_schema_says_the_same(row):
    schema = SCHEMA["properties"][row.field]
    schema = schema.get("anyOf", [schema])[0]
    if "minimum" in schema:
        numbers = [value for value in row.taken if isinstance(value, int | float)]
        assert (schema["minimum"], schema["maximum"]) == (min(numbers), max(numbers))
    if "enum" in schema:
        assert tuple(schema["enum"]) == SIDES
    if row.default is not None and row.field not in {"word", "model"}:
        assert schema["default"] == row.default


def test_the_rows_are_all_that_is_known():
    assert {row[0] for row in ROWS} | {"strength", "output"} == set(SCHEMA["properties"])
    assert SCHEMA["required"] == ["word"]


def test_a_prompt_that_is_too_long_is_told_as_such():
    with pytest.raises(PromptTooLong):
        parse(call(word="x" * 10_001), PAID)


def test_brackets_in_the_prompt_are_plain_text_and_pictures_are_png():
    spec = spec_of(call(word="(a:2)"))
    assert (spec.prompt_weighting, spec.output_format) == ("none", "png")


@pytest.mark.parametrize(("sent", "taken"), [(None, 0.75), (0, 0), (1, 1), ("0.5", 0.5), (0.4, 0.4)])
def test_strength_counts_with_an_image(sent, taken):
    assert spec_of(call(word="x", url_upload=URL, strength=sent)).strength == taken


def test_without_an_image_strength_has_no_effect_but_must_be_possible():
    order = parse(call(word="x", strength=0.5), PAID)
    assert order.submission.spec.strength is None
    assert order.submission.option("strength") == 0.5
    assert order.submission.ignored == ()
    for bad in (-0.01, 1.01, "x", True):
        with pytest.raises(InvalidField, match=r"must"):
            parse(call(word="x", strength=bad), PAID)


def test_guidance_is_honoured_with_an_image():
    assert spec_of(call(word="x", url_upload=URL, guidance=3)).guidance_scale == 3


def test_an_image_must_be_png_or_jpeg_and_come_over_https():
    order = parse(call(word="x", url_upload=URL), PAID)
    assert order.https_only
    assert order.submission.option("image_formats") == "PNG JPEG"


@pytest.mark.parametrize("output", ["$output_uid.ext", "a", "a" * 64, "A.b-c_d$", ".png"])
def test_output_names_are_taken(output):
    assert parse(call(word="x", output=output), PAID).submission.option("output") == output


@pytest.mark.parametrize("output", ["a" * 65, "../x", "a b", "ä", "a/b", 7, 'a"b', "a\n"])
def test_other_output_names_are_refused(output):
    with pytest.raises(InvalidField) as caught:
        parse(call(word="x", output=output), PAID)
    assert caught.value.field == "output"


@pytest.mark.parametrize(("field", "most"), FREE_MOST.items())
def test_free_accounts_have_their_limits(field, most):
    above = {"width": 640, "height": 640}.get(field, most + 1)
    parse(call(word="x", **{field: most}), FREE)
    with pytest.raises(InvalidField) as caught:
        parse(call(word="x", **{field: above}), FREE)
    if field != "saveinterval":  # whose limit is everyone's
        assert caught.value.message == f"at most {most} with free access"
        assert render_error(caught.value, call()).body["statusText"] == f"{field}: at most {most} with free access"
        parse(call(word="x", **{field: above}), PAID)


def advertised(name):
    return next(row for row in CONFIG if row["in"] == name)


def test_free_limits_are_those_of_the_config():
    assert {row["in"]: row["freeAccess"]["$max"] for row in CONFIG if "freeAccess" in row} == FREE_MOST


def test_the_config_tells_of_every_field():
    assert [row["in"] for row in CONFIG] == [
        *("word", "url_upload", "steps", "guidance", "strength", "width", "height", "cimg", "saveinterval"),
        *("seed", "model", "output"),
    ]


@pytest.mark.parametrize("row", CONFIG, ids=[row["in"] for row in CONFIG])
def test_whatever_the_config_advertises_is_taken(row):
    values = [row["default"], row["ui"].get("min"), row["ui"].get("max")] if "ui" in row else [row["default"]]
    values += row.get("accept", {}).get("$in", [])
    for value in values:
        parse(call(**{"word": "x", "url_upload": URL, **({} if value is None else {row["in"]: value})}), PAID)


def test_unknown_fields_are_named():
    assert parse(call(zoom=1, word="x", **{"\ud800": 1}), PAID).submission.ignored == ("zoom", "?")


def test_json_under_a_forms_content_type_is_read():
    text = json.dumps({"word": "x", "steps": 3})
    request = Call(method="POST", args={"engine": "diffusion"}, body=text.encode(), form={text: ""})
    assert spec_of(request).num_inference_steps == 3


def test_another_engine_is_not_there():
    with pytest.raises(UnknownEngine):
        parse(replace(call(word="x"), args={"engine": "gfpgan"}), PAID)


NAMES = st.one_of(st.sampled_from([*SCHEMA["properties"], "zoom"]), st.text(max_size=5))
TEXTS = st.text(st.characters(), max_size=20)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS | st.sampled_from([10**400, "$random", URL, "1e9"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)


def read_or_refused(request):
    try:
        submission = parse(request, FREE).submission
    except DarkroomError as error:
        answer = render_error(error, request)
        assert 400 <= answer.status < 500
        json.dumps(answer.body)
    else:
        assert Submission.from_json(submission.to_json().encode().decode()) == submission


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.dictionaries(NAMES, VALUES, max_size=6), st.sampled_from([{}, {"word": "x"}]))
def test_any_json_is_read_or_refused(fields, more):
    read_or_refused(call(**{**fields, **more}))


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.dictionaries(NAMES, TEXTS, max_size=6))
def test_any_form_is_read_or_refused(fields):
    read_or_refused(Call(method="POST", args={"engine": "diffusion"}, body=b"--", form={"word": "x", **fields}))


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=40))
def test_any_body_is_read_or_refused(body):
    read_or_refused(Call(method="POST", args={"engine": "diffusion"}, body=body))


@pytest.mark.parametrize("body", [b"{", b"[]", b"null", b'{"word": NaN}', b"\xff"])
def test_a_body_that_is_none_is_refused(body):
    with pytest.raises(MalformedBody):
        parse(Call(method="POST", args={"engine": "diffusion"}, body=body), PAID)
