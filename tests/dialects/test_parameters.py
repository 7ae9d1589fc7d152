"""What a parameter is said to mean (`parameters.toml`, docs/parameters.md) is what it changes, and nothing else is."""

import base64
import json
from dataclasses import fields

import pytest

from shared.dialects import PROVIDERS
from shared.dialects.base import Call, Submit
from shared.spec import JobSpec
from tests.apibench import png
from tests.dialects.gold import ACCOUNT, find
from tests.reference import parameters
from tests.reference.parameters import EFFECTS, TABLE

DIALECTS = {dialect.manual.title: dialect for dialect in PROVIDERS.values()}
SPEC_FIELDS = {field.name for field in fields(JobSpec)}
URL = "https://example.com/a.png"
PICTURE, OTHER = png(size=(512, 512)), png("white", size=(512, 512))
INLINE, OTHER_INLINE = (base64.b64encode(picture).decode() for picture in (PICTURE, OTHER))
MASK = {"init_image": INLINE, "mask_image": INLINE}

#: What must be sent for a parameter to count.
WITH = {
    ("OpenSourceAIs", "strength"): {"url_upload": URL},
    ("ModelsLab", "use_karras_sigmas"): {"scheduler": "LMSDiscreteScheduler"},
    ("ModelsLab", "algorithm_type"): {"scheduler": "DPMSolverMultistepScheduler"},
    ("ModelsLab", "lora_strength"): {"lora_model": "a"},
    ("ModelsLab", "strength"): {"init_image": URL},
    ("ModelsLab", "mask_image"): {"init_image": URL},
    ("OctoAI", "strength"): {"init_image": INLINE},
    ("OctoAI", "mask_image"): {"init_image": INLINE},
    **{("OctoAI", name): MASK for name in ("outpainting", "inpaint_full_res")},
    ("OctoAI", "inpaint_full_res_padding"): {**MASK, "inpaint_full_res": True},
    **{
        ("OctoAI", name): {"controlnet": "a", "controlnet_image": INLINE}
        for name in ("controlnet", "controlnet_image", "controlnet_conditioning_scale", "controlnet_early_stop")
    },
    ("OctoAI", "controlnet_preprocess"): {"controlnet": "a", "controlnet_image": INLINE},
    ("Stability", "step_schedule_start"): {"init_image_mode": "STEP_SCHEDULE"},
    ("Stability", "init_image_mode"): {"image_strength": "0.9"},
    ("ModelsLab", "control_image"): {"control_image": INLINE},
    ("ModelsLab", "controlnet_type"): {"controlnet_model": None, "controlnet_type": "canny"},
}
#: What is sent of a parameter, where its row does not tell.
SENT = {
    ("OpenSourceAIs", "url_upload"): URL,
    ("ModelsLab", "safety_checker"): "no",
    ("ModelsLab", "safety_checker_type"): "blur",
    ("ModelsLab", "lora_strength"): "0.5",
    ("ModelsLab", "algorithm_type"): "sde-dpmsolver++",
    ("ModelsLab", "clip_skip"): 2,
    ("OctoAI", "clip_skip"): 1,
    ("OctoAI", "controlnet_conditioning_scale"): 0.5,
    ("OctoAI", "inpaint_full_res_padding"): 64,
    ("OctoAI", "loras"): {"a": 0.5},
    ("OctoAI", "textual_inversions"): {"a": "trigger"},
    ("OctoAI", "cfg_scale"): 3,
    ("OctoAI", "strength"): 0.5,
    **{("Stability", name): 576 for name in ("width", "height")},
    ("Stability", "mask_source"): "MASK_IMAGE_BLACK",
    ("Stability", "text_prompts"): [{"text": "another"}],
    ("Stability", "text_prompts[0][weight]"): "0.5",
}
#: What goes along with a field: a sampler's options, the strength and the size of whatever has an image.
ALONG = {
    "scheduler": {"use_karras_sigmas", "algorithm_type"},
    "image": {"strength", "width", "height"},
    "mask_image": {"strength", "image"},
    "clip_guidance_preset": {"scheduler", "use_karras_sigmas", "algorithm_type"},
    "prompt": {"prompt_weighting", "negative_prompt"},
    "enhance_prompt": {"negative_prompt"},
}


def rows():
    for title in DIALECTS:
        for name, row in TABLE[title].items():
            if row["canonical"] in SPEC_FIELDS:
                yield title, name, row


def value_of(title, name, row):
    """Return a value that means something else than leaving the parameter out."""
    if (title, name) in SENT:
        return SENT[title, name]
    if "words" in row:
        words = TABLE["words"][row["words"][1:]] if isinstance(row["words"], str) else row["words"]
        return next(word for word in reversed(words) if word != row.get("default") and word != "DDIMInverseScheduler")
    if "range" in row:
        low, high = row["range"]
        far = high if row["type"] == "number" or high < 1000 else low + row.get("multiple", 1)
        return far if far != row.get("default") else low
    images = {"image", "mask_image", "controlnets"}
    if row["type"] == "string" and row["canonical"] in images and "image" in name:
        return OTHER_INLINE
    return {"string": "another", "boolean": not row.get("default"), "file": OTHER}[row["type"]]


def base_of(title, path):
    """Return a request of a path with nothing but what is required."""
    sent = {}
    for name, row in TABLE[title].items():
        if path not in row.get("at", TABLE["operations"][title]):
            continue
        if row.get("required") or path in row.get("required_at", ()):
            sent[name] = required(name, row)
    more = {"controlnet": {"controlnet_model": "canny", "init_image": INLINE}, "masking": {"mask_image": PICTURE}}
    return sent | more.get(path.rpartition("/")[2], {})


def required(name, row):
    if row["type"] == "file":
        return PICTURE
    if row["type"] == "array":
        return [{"text": "a fox"}]
    if "words" in row:
        return row["words"][0]
    if "range" in row:
        return 512
    return INLINE if "image" in name else "a fox"


def read(title, path, sent):
    route, args = find(DIALECTS[title], path.replace("{engine}", "diffusion"))
    files = {name: value for name, value in sent.items() if isinstance(value, bytes)}
    if files:
        form = {name: str(value) for name, value in sent.items() if name not in files}
        return route.parse(Call(method="POST", args=args, form=form, files=files), ACCOUNT)
    return route.parse(Call(method="POST", args=args, body=json.dumps(sent).encode()), ACCOUNT)


@pytest.mark.parametrize(("title", "name", "row"), list(rows()), ids=lambda each: str(each)[:40])
def test_a_parameter_changes_what_it_is_said_to_mean(title, name, row):
    path = row.get("at", TABLE["operations"][title])[0]
    if title == "ModelsLab" and name in {"init_image", "strength"}:
        path = "/api/v1/enterprise/img2img"
    base = base_of(title, path) | WITH.get((title, name), {})

    before = read(title, path, base)
    after = read(title, path, base | {name: value_of(title, name, row)})

    one, other = (order.submission.spec for order in (before, after))
    changed = {field for field in SPEC_FIELDS if getattr(one, field) != getattr(other, field)}
    assert row["canonical"] in changed
    assert changed <= {row["canonical"], *ALONG.get(row["canonical"], ())}


def test_every_parameter_that_is_read_has_a_row():
    for title, dialect in DIALECTS.items():
        for route in dialect.routes:
            if isinstance(route, Submit):
                assert set(route.schema["properties"]) <= set(TABLE[title]), route.path


def test_every_meaning_has_a_test_that_is_there():
    meanings = {row["canonical"] for title in DIALECTS for row in TABLE[title].values()}

    assert SPEC_FIELDS | meanings | set(parameters.NATIVE.values()) == set(EFFECTS)
    for tests in EFFECTS.values():
        assert tests
        for test in tests:
            assert parameters.defined(test), test
