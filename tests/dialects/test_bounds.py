"""Each bound that the providers' documents state, in each call that has it: taken at the bound, refused beyond it.

The cases are made of `parameters.toml`, which was written down by hand from those documents.
"""

import base64
import io
import json
import re
import tomllib
from pathlib import Path

import pytest
from PIL import Image

from shared.dialects import PROVIDERS
from shared.dialects.base import Call, Submit
from shared.errors import DarkroomError
from tests.dialects import gold


def half_transparent(side=512):
    """Return a picture that serves as image and as mask, in whatever way a mask is told."""
    picture, out = Image.new("RGBA", (side, side), "white"), io.BytesIO()
    picture.paste((0, 0, 0, 0), (0, 0, side, side // 2))
    picture.save(out, "PNG")
    return out.getvalue()


TABLE = tomllib.loads(Path(__file__).with_name("parameters.toml").read_text())
DIALECTS = {dialect.manual.title: dialect for dialect in PROVIDERS.values()}
ROWS = [
    (title, path, field, row)
    for title, paths in TABLE["operations"].items()
    for field, row in TABLE[title].items()
    for path in row.get("at", paths)
]
PICTURE = half_transparent()
ENCODED = base64.b64encode(PICTURE).decode()
FILES = {"init_image", "image", "mask", "mask_image"}
#: What a row is not about, where a request cannot do without.
NEEDED = {
    "OpenSourceAIs": {"word": "a fox"},
    "aithriving": {"prompt": "a fox", "width": 320, "height": 320},
    "ModelsLab": {"prompt": "a fox", "init_image": ENCODED, "mask_image": ENCODED, "controlnet_model": "canny"},
    "OctoAI": {
        "prompt": "a fox",
        "init_image": ENCODED,
        "mask_image": ENCODED,
        "controlnet": "canny",
        "controlnet_image": ENCODED,
    },
    "Stability": {"text_prompts": [{"text": "a fox"}], "mask_source": "MASK_IMAGE_WHITE"},
}
LEAST_PIXELS = 262_144
SIDES = {"width": "height", "height": "width"}
TEXT_TO_IMAGE = "text-to-image"
#: Words that are refused in one situation: these schedulers need an image to start from.
NEED_AN_IMAGE = {"DDIMInverseScheduler"}


def route_of(title, path):
    return next(route for route in DIALECTS[title].routes if isinstance(route, Submit) and spelled(route.path) == path)


def spelled(path):
    return path.replace("<", "{").replace(">", "}")


def is_form(title, path):
    return (title == "aithriving" and "textToImage" not in path) or (title == "Stability" and TEXT_TO_IMAGE not in path)


def request_of(title, path, **fields):
    """Return a request of a call's least fields and these."""
    args = {name: {"engine": "diffusion"}.get(name, "x") for name in re.findall(r"{(\w+)}", path)}
    args |= {"engine": "demo"} if title == "Stability" else {}
    values = {**NEEDED[title], **fields}
    if not is_form(title, path):
        return Call(method="POST", args=args, body=json.dumps(values).encode())
    texts = 2 if "text_prompts[0][weight]" in fields else 1  # one at least must weigh more than nothing
    prompts = {f"text_prompts[{n}][text]": "a fox" for n in range(texts)} if title == "Stability" else {}
    form = prompts | {name: str(value) for name, value in values.items() if not isinstance(value, list)}
    return Call(method="POST", args=args, form=form, files=dict.fromkeys(FILES, PICTURE))


def companions(title, path, field, value):
    """Return the other side of a picture, where the two are bounded together."""
    if title != "Stability" or field not in SIDES or not isinstance(value, int) or value <= 0:
        return {}
    return {SIDES[field]: next(side for side in range(128, 2049, 64) if side * value >= LEAST_PIXELS or side == 2048)}


def read(title, path, field, value):
    fields = {field: value, **companions(title, path, field, value)}
    return route_of(title, path).parse(request_of(title, path, **fields), gold.ACCOUNT)


def taken(title, path, field, value):
    assert read(title, path, field, value).submission.to_json(), value


def refused(title, path, field, value):
    with pytest.raises(DarkroomError) as caught:
        read(title, path, field, value)
    reply = DIALECTS[title].render_error(caught.value, request_of(title, path))
    assert field.partition("[")[0] in json.dumps(reply.body), (value, reply.body)  # of a list's entry, the list


def some(predicate):
    """Return the rows of a kind, as parameters of a test."""
    rows = [each for each in ROWS if predicate(each[3])]
    assert rows
    return pytest.mark.parametrize(
        ("title", "path", "field", "row"), rows, ids=[f"{path}-{field}" for _, path, field, _ in rows]
    )


@some(lambda row: "range" in row)
def test_ranges(title, path, field, row):
    least, most = row["range"]
    step = row.get("multiple", 1) if row["type"] == "integer" else 0.01
    for value in (least, most):
        taken(title, path, field, value)
    for value in (least - step, most + step):
        refused(title, path, field, value)


@some(lambda row: "above" in row)
def test_ranges_without_their_least(title, path, field, row):
    for value in (row["above"] + 0.01, row["most"]):
        taken(title, path, field, value)
    for value in (row["above"], row["above"] - 0.01, row["most"] + 0.01):
        refused(title, path, field, value)


@some(lambda row: "multiple" in row)
def test_multiples(title, path, field, row):
    (least, most), step = row["range"], row["multiple"]
    taken(title, path, field, least + step)
    for value in (least + 1, least + step - 1, most - 1):
        refused(title, path, field, value)


@some(lambda row: "length" in row)
def test_lengths(title, path, field, row):
    least, most = row["length"]
    for length in (least, most):
        taken(title, path, field, "x" * length)
    for length in (least - 1, most + 1):
        refused(title, path, field, "x" * length)


@some(lambda row: "words" in row)
def test_words(title, path, field, row):
    words = TABLE["words"][row["words"][1:]] if isinstance(row["words"], str) else row["words"]
    has_image = "init_image" in route_of(title, path).schema["properties"]
    for word in words:
        (taken if has_image or word not in NEED_AN_IMAGE else refused)(title, path, field, word)
    for word in ("nonsense", 7):
        refused(title, path, field, word)


@some(lambda row: row["type"] == "boolean")
def test_booleans(title, path, field, row):
    for value in (True, False):
        taken(title, path, field, value)
    for value in ("perhaps", 7):
        refused(title, path, field, value)


@some(lambda row: row["type"] in {"integer", "number"})
def test_numbers(title, path, field, row):
    for value in ("many", True, "NaN", []):
        if not (is_form(title, path) and value == []):  # forms have no lists
            refused(title, path, field, value)
    if row["type"] == "integer":
        refused(title, path, field, row.get("range", [1])[0] + 0.5)
