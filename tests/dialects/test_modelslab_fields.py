"""ModelsLab's fields, one by one: defaults, bounds, what may be a string, and what is refused by which name."""

import base64
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.dialects.base import Call, Reply
from shared.dialects.modelslab import parse, render_error
from shared.dialects.modelslab_fields import BOUNDS, DEFAULTS, FLAGS, SCHEDULER_NAMES, UNBUILT, Kind
from shared.dialects.modelslab_schema import schema
from shared.errors import DarkroomError, InvalidField
from shared.spec import ControlNet, Lora
from tests.apibench import png
from tests.dialects.gold import ACCOUNT

URL = "https://example.com/a.png"
INLINE = base64.b64encode(png()).decode()
IMAGES = {
    Kind.TEXT: {},
    Kind.IMAGE: {"init_image": URL},
    Kind.INPAINT: {"init_image": URL, "mask_image": f"{URL}?mask"},
    Kind.CONTROLNET: {"init_image": URL, "controlnet_model": "canny"},
}


def order(kind=Kind.IMAGE, **fields):
    body = {"key": "k", "prompt": "a red circle", **IMAGES[kind], **fields}
    return parse(Call(method="POST", body=json.dumps(body).encode()), ACCOUNT, kind=kind)


def spec(kind=Kind.IMAGE, **fields):
    return order(kind, **fields).submission.spec


def refused(field, kind=Kind.IMAGE, **fields):
    """Return the message of a refusal, which must be a 400 that begins with the field's name."""
    with pytest.raises(InvalidField) as caught:
        order(kind, **fields)
    reply = render_error(caught.value, Call(method="POST"))
    assert reply.status == 400
    assert set(reply.body) == {"status", "message"}
    assert reply.body["status"] == "error"
    assert reply.body["message"].startswith(field), reply.body
    return reply.body["message"]


#: field, JobSpec's field, what it is when left out, (accepted, canonical) pairs, refused values
ROWS = [
    ("model_id", "model", "default", [("demo", "demo"), ("midjourney-v4-painta",) * 2], [7, ["demo"], "x" * 256]),
    (
        "prompt",
        "prompt",
        "a red circle",
        [("x", "x"), ("x" * 10_000,) * 2],
        [None, "", "  ", "x" * 10_001, 7, "\ud800"],
    ),
    ("negative_prompt", "negative_prompt", "", [("x", "x"), (None, ""), ("", "")], ["x" * 10_001, 7, ["x"]]),
    (
        "width",
        "width",
        512,
        [("64", 64), (1024, 1024), (512.0, 512)],
        [56, 63, 65, 1025, 1032, "x", True, 512.5, "1e999"],
    ),
    ("height", "height", 512, [("64", 64), (1024, 1024), (" 320 ", 320)], [56, 63, 65, 1025, 1032, "x", False, [512]]),
    ("samples", "num_images", 1, [("1", 1), (4, 4)], [0, 5, -1, "one", 1.5, "NaN"]),
    ("num_inference_steps", "num_inference_steps", 20, [("1", 1), (50, 50), ("20.0", 20)], [0, 51, 20.5, "many", {}]),
    ("guidance_scale", "guidance_scale", 7.5, [(1, 1), ("20", 20), (7.5, 7.5)], [0, 0.99, 20.01, "high", "inf"]),
    ("strength", "strength", 0.7, [(0, 0), ("1", 1), (0.5, 0.5)], [-0.01, 1.01, "all", True]),
    ("clip_skip", "clip_skip", None, [(1, 0), ("2", 1), (8, 7), (None, None)], [0, 9, 1.5, "last"]),
    ("seed", "seed", None, [(0, 0), ("7", 7), (2**32 - 1,) * 2, (None, None), ("", None)], [-1, 2**32, 1.5, 10**400]),
    ("enhance_prompt", "enhance_prompt", True, [("no", False), (False, False), ("YES", True)], ["maybe", 2, []]),
    ("tomesd", "tomesd", True, [("no", False), (True, True), (None, True)], ["maybe", 2, {}]),
    ("safety_checker", "safety", "sensitive_content_text", [("no", "off"), (False, "off")], ["maybe", 2]),
    (
        "safety_checker_type",
        "safety",
        "sensitive_content_text",
        [(name, name) for name in ("blur", "sensitive_content_text", "pixelate", "black")],
        ["blank", "Blur", 1],
    ),
    ("vae", "vae", None, [("x", "x"), (None, None), ("", None)], [7, "x" * 256]),
    (
        "lora_model",
        "loras",
        (),
        [("a", (Lora("a"),)), ("a, b", (Lora("a"), Lora("b"))), (",".join("abcdefgh"), tuple(map(Lora, "abcdefgh")))],
        ["a,,b", ",", "a,b,c,d,e,f,g,h,i", 7, ["a"]],
    ),
    ("embeddings_model", "textual_inversions", (), [("a, b", (("a", "a"), ("b", "b")))], ["a,,b", 7]),
    ("scheduler", "scheduler", None, [(name, name) for name in SCHEDULER_NAMES], ["ddim", "DPMSolverSDEScheduler", 1]),
]


@pytest.mark.parametrize(("field", "name", "default", "good", "bad"), ROWS, ids=[row[0] for row in ROWS])
def test_each_row(field, name, default, good, bad):
    assert getattr(spec(), name) == default
    for value, canonical in good:
        assert getattr(spec(**{field: value}), name) == canonical, value
    for value in bad:
        refused(field, **{field: value})


@pytest.mark.parametrize("name", BOUNDS)
def test_bounds_below_at_and_above(name):
    bounds = BOUNDS[name]
    lora = {"lora_model": "a"} if name == "lora_strength" else {}
    kind = Kind.CONTROLNET if name.startswith("controlnet") else Kind.IMAGE
    for value in (bounds.minimum, bounds.maximum):
        spec(kind, **{name: value, **lora})
    for value in (bounds.minimum - bounds.multiple_of, bounds.maximum + bounds.multiple_of):
        refused(name, kind, **{name: value, **lora})


@pytest.mark.parametrize(("name", "default"), FLAGS.items())
def test_yes_no_and_booleans_are_the_same(name, default):
    orders = [order(Kind.CONTROLNET, **{name: value}) for value in ("yes", "Yes ", True, "true", "1")]
    assert len(set(map(repr, orders))) == 1
    opposite = [order(Kind.CONTROLNET, **{name: value}) for value in ("no", " NO", False, "false", "0")]
    assert len(set(map(repr, opposite))) == 1
    assert repr(order(Kind.CONTROLNET)) == repr(orders[0] if default else opposite[0])
    refused(name, Kind.CONTROLNET, **{name: "perhaps"})


def test_options_are_kept_for_the_answer():
    assert order().submission.options == ()
    given_ = order(base64="yes", temp=True, loadbalancer="yes").submission
    assert given_.options == (("base64", True), ("temp", True), ("any_pool", True), ("kept_s", 24 * 3600))
    assert given_.any_pool
    assert not order(loadbalancer="no").submission.any_pool


@pytest.mark.parametrize(
    ("names", "strengths", "weights"),
    [
        ("a,b", None, [1, 1]),
        ("a,b", "0.7, -0.4", [0.7, -0.4]),
        ("a,b", 0.5, [0.5, 0.5]),
        ("a,b,c", "0.5", [0.5] * 3),
        ("a", "-5", [-5]),
        ("a", 5, [5]),
    ],
)
def test_lora_strengths(names, strengths, weights):
    assert [lora.weight for lora in spec(lora_model=names, lora_strength=strengths).loras] == weights


@pytest.mark.parametrize("strengths", ["1,2", "1,2,3,4", "1,,3", "a", "1,x,1", "5.01", "-5.01", True, [1, 1, 1], "nan"])
def test_lora_strengths_that_do_not_fit(strengths):
    refused("lora_strength", lora_model="a,b,c", lora_strength=strengths)


def test_a_strength_without_a_lora_has_no_effect_but_must_be_one():
    assert spec(lora_strength="0.7,0.4").loras == ()
    refused("lora_strength", lora_strength="strong")


@pytest.mark.parametrize(
    ("word", "canonical"),
    [
        (None, None),
        ("none", None),
        ("dpmsolver+++", "dpmsolver++"),
        ("dpmsolver", "dpmsolver"),
        ("dpmsolver++", "dpmsolver++"),
        ("sde-dpmsolver", "sde-dpmsolver"),
        ("sde-dpmsolver++", "sde-dpmsolver++"),
    ],
)
def test_algorithm_types(word, canonical):
    assert spec(algorithm_type=word).algorithm_type == canonical
    assert spec(algorithm_type=word, scheduler="DPMSolverMultistepScheduler").algorithm_type == canonical
    assert spec(algorithm_type=word, scheduler="DDIMScheduler").algorithm_type is None
    refused("algorithm_type", algorithm_type="dpmsolver++++")


def test_karras_counts_only_with_schedulers_that_take_it():
    assert spec(scheduler="DDPMScheduler", use_karras_sigmas="yes").use_karras_sigmas is None
    assert spec(scheduler="HeunDiscreteScheduler").use_karras_sigmas is True
    assert spec(scheduler="HeunDiscreteScheduler", use_karras_sigmas="no").use_karras_sigmas is False
    assert spec().use_karras_sigmas is True


def test_a_scheduler_that_needs_an_image_is_refused_without_one():
    for kind in (Kind.TEXT, Kind.CONTROLNET):
        refused("scheduler", kind, scheduler="DDIMInverseScheduler")


def test_prompts_are_weighted_as_the_providers_own_examples_are():
    assert spec(prompt="((cinematic lighting))").prompt_weighting == "a1111"


@pytest.mark.parametrize("name", UNBUILT)
def test_what_is_not_built_may_only_be_no(name):
    assert spec(**{name: "no"}) == spec(**{name: None}) == spec(**{name: False}) == spec()
    assert "this version" in refused(name, **{name: "yes"})
    refused(name, **{name: True})


@pytest.mark.parametrize(
    ("value", "kept"), [(None, None), ("", None), ("7", "7"), (7, 7), ("x" * 255,) * 2, (10**254, 10**254), (-1, -1)]
)
def test_track_ids_keep_their_type(value, kept):
    found = order(track_id=value).submission.track_id
    assert (found, type(found)) == (kept, type(kept))


@pytest.mark.parametrize("value", ["x" * 256, True, 1.5, [], {}, 10**255, "\udfff"])
def test_what_is_no_track_id(value):
    refused("track_id", track_id=value)


def test_webhooks_are_kept_as_they_come_and_judged_later():
    assert order(webhook=URL).submission.webhook_url == URL
    assert order(webhook="").submission.webhook_url is None
    refused("webhook", webhook=7)
    refused("webhook", webhook="https://example.com/" + "x" * 2048)


def test_images_come_by_url_or_as_base64_whatever_base64_says():
    for flag in ("yes", "no"):
        assert spec(init_image=URL, base64=flag).image == URL
        for text in (INLINE, f"data:image/png;base64,{INLINE}"):
            assert order(init_image=text, base64=flag).inputs["image"] == png()
    refused("init_image", init_image="ftp://example.com/a.png")
    refused("init_image", init_image="no base64!")
    refused("init_image", init_image=[URL])


@pytest.mark.parametrize(
    ("kind", "missing"),
    [
        (Kind.IMAGE, "init_image"),
        (Kind.INPAINT, "init_image"),
        (Kind.INPAINT, "mask_image"),
        (Kind.CONTROLNET, "init_image"),
    ],
)
def test_images_that_a_kind_needs(kind, missing):
    assert refused(missing, kind, **{missing: None}) == f"{missing} is required"
    assert refused(missing, kind, **{missing: ""}) == f"{missing} is required"


def test_what_is_meant_for_another_kind_has_no_effect():
    stray = {"init_image": URL, "mask_image": URL, "strength": 0.5, "controlnet_model": "canny", "guess_mode": "yes"}
    found = order(Kind.TEXT, **stray)
    assert found == order(Kind.TEXT)
    assert found.submission.ignored == ()
    assert spec(Kind.IMAGE, mask_image=URL) == spec(Kind.IMAGE)


def test_inpainting_has_the_same_strength_as_image_to_image():
    found = spec(Kind.INPAINT)
    assert (found.task, found.strength) == ("inpaint", 0.7)


def test_controlnets_steer_by_the_init_image_unless_there_is_a_control_image():
    assert spec(Kind.CONTROLNET, controlnet_model="canny, depth").controlnets == (
        ControlNet("canny", URL),
        ControlNet("depth", URL),
    )
    found = spec(Kind.CONTROLNET, control_image=f"{URL}?c", auto_hint="no", controlnet_conditioning_scale="0.5")
    assert found.image == URL
    assert found.strength == 0.7
    assert found.controlnets == (ControlNet("canny", f"{URL}?c", scale=0.5, preprocess=False),)
    alone = spec(Kind.CONTROLNET, init_image=None, control_image=URL)
    assert (alone.image, alone.controlnets) == (None, (ControlNet("canny", URL),))
    painted = spec(Kind.CONTROLNET, mask_image=f"{URL}?m", controlnet_model=None, controlnet_type="inpaint")
    assert (painted.image, painted.mask_image, painted.controlnets[0].name) == (URL, f"{URL}?m", "inpaint")
    inline = order(Kind.CONTROLNET, init_image=INLINE)
    assert inline.inputs == {"init_image": png()}
    assert order(Kind.CONTROLNET, control_image=INLINE).inputs == {"control_image": png()}
    assert not found.guess_mode
    assert spec(Kind.CONTROLNET, guess_mode="yes").guess_mode


def test_controlnets_that_cannot_be():
    assert refused("controlnet_model", Kind.CONTROLNET, controlnet_model=None) == "controlnet_model is required"
    refused("controlnet_model", Kind.CONTROLNET, controlnet_model="a,,b")
    refused("controlnet_model", Kind.CONTROLNET, controlnet_model="a,b,c,d,e")
    refused("controlnet_conditioning_scale", Kind.CONTROLNET, controlnet_conditioning_scale="2.1")
    refused("controlnet_conditioning_scale", Kind.CONTROLNET, controlnet_conditioning_scale="1,1,1")


def test_unknown_fields_are_told():
    assert order(frobnicate=1, zap=None, empty="").submission.ignored == ("frobnicate", "zap", "empty")


@pytest.mark.parametrize("kind", Kind)
def test_the_schema_says_what_the_reader_checks(kind):
    properties = schema(kind)["properties"]
    for name, bounds in BOUNDS.items():
        if name in properties and name != "lora_strength":
            found = properties[name]
            assert (found["minimum"], found["maximum"]) == (bounds.minimum, bounds.maximum)
            assert found.get("default") == DEFAULTS[name]
    assert properties["scheduler"]["enum"] == [*SCHEDULER_NAMES, None]
    body = dict.fromkeys(properties) | {"prompt": "x", **IMAGES[kind]}
    assert order(kind, **body).submission.ignored == ()


def test_every_field_is_in_the_documentation():
    page = (Path(__file__).parents[2] / "docs" / "dialects" / "modelslab.md").read_text()
    names = {name for kind in Kind for name in schema(kind)["properties"]}
    assert [name for name in sorted(names) if f"`{name}`" not in page] == []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
NAMES = sorted({name for kind in Kind for name in schema(kind)["properties"]})
LIKELY = st.sampled_from(
    ["yes", "no", "1", "0.5,0.5", "512", URL, INLINE, "a,b", "none", "DDIMScheduler", "nan", "1e9"]
)


def read(call, kind):
    try:
        return parse(call, ACCOUNT, kind=kind)
    except DarkroomError as error:
        return render_error(error, call)


def check(call, kind):
    found = read(call, kind)
    if isinstance(found, Reply):
        assert (found.status, found.body["status"]) == (400, "error")
    else:
        found.submission.to_json().encode()  # fit to be stored


@settings(max_examples=300, deadline=None)
@given(kind=st.sampled_from(list(Kind)), fields=st.dictionaries(st.sampled_from(NAMES) | st.text(), JSON | LIKELY))
def test_any_object_is_read_or_refused_by_one_of_our_errors(kind, fields):
    call = Call(method="POST", body=json.dumps({"prompt": "x", **IMAGES[kind], **fields}).encode())
    check(call, kind)


@settings(max_examples=100, deadline=None)
@given(fields=st.dictionaries(st.sampled_from(NAMES) | st.text(), st.text() | LIKELY), body=st.binary(max_size=30))
def test_any_form_is_read_or_refused_by_one_of_our_errors(fields, body):
    check(Call(method="POST", form=fields, body=body), Kind.TEXT)
