"""The same job draws the same picture, pixel for pixel, through whichever wire format it came."""

import base64
import io

import numpy as np
import pytest
import requests
from PIL import Image

PROMPT, SEED, STEPS, GUIDANCE = "a red circle on a blue background", 7, 10, 7.5
#: All dialects can ask for this size but Stability, whose least is 512 x 512.
SIDE, STABILITYS_SIDE = 320, 512
#: As nobody asks for another.
JPEG_QUALITY = 95
#: What each dialect calls the same sampler. OpenSourceAIs has no word for one: the model's own is used.
DDIM = {"native": "DDIMScheduler", "modelslab": "DDIMScheduler", "others": "DDIM"}


@pytest.fixture(scope="module")
def natively(darkroom):
    """Return the picture that the native API draws, each asked for once."""
    drawn = {}

    def draw(side=SIDE, scheduler=DDIM["native"], **more):
        known = (side, scheduler, *more.items())
        if known not in drawn:
            named = {"scheduler": scheduler} if scheduler else {}
            drawn[known] = pixels(darkroom.image(finished(darkroom, **asked(side), **named, **more)))
        return drawn[known]

    return draw


def asked(side):
    sizes = {"width": side, "height": side}
    return {"prompt": PROMPT, "seed": SEED, "num_inference_steps": STEPS, "guidance_scale": GUIDANCE, **sizes}


def finished(darkroom, **fields):
    uid = darkroom.submit(**fields)
    assert darkroom.finished(uid)["status"] == "succeeded"
    return uid


def pixels(data):
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def decoded(text):
    return pixels(base64.b64decode(text, validate=True))


def posted(darkroom, path, **body):
    answer = darkroom.call("POST", path, json=body)
    assert answer.ok, answer.text
    return answer.json()


def test_aithriving(darkroom, natively):
    fields = {"prompt": PROMPT, "width": SIDE, "height": SIDE, "seed": SEED, "steps": STEPS, "cfg_scale": GUIDANCE}

    answer = posted(darkroom, "/api/generate/basic/textToImage", **fields, sampler=DDIM["others"])

    assert np.array_equal(decoded(answer["data"]["image"]), natively())


def octoai(darkroom, **more):
    fields = {"prompt": PROMPT, "width": SIDE, "height": SIDE, "seed": SEED, "steps": STEPS, "cfg_scale": GUIDANCE}
    answer = posted(darkroom, "/generate/sd", **fields, sampler=DDIM["others"], **more)
    return base64.b64decode(answer["images"][0]["image_b64"], validate=True)


def test_octoai(darkroom, natively):
    assert np.array_equal(pixels(octoai(darkroom, image_encoding="png")), natively())


def test_octoais_jpeg_is_that_picture_encoded(darkroom, natively):
    encoded = octoai(darkroom, image_encoding="jpeg")

    again = io.BytesIO()
    Image.fromarray(natively()).save(again, "JPEG", quality=JPEG_QUALITY)
    assert np.array_equal(pixels(encoded), pixels(again.getvalue()))


def test_modelslab(darkroom, natively):
    fields = {
        "prompt": PROMPT,
        "width": str(SIDE),
        "height": str(SIDE),
        "seed": SEED,
        "num_inference_steps": str(STEPS),
    }
    plain = {"enhance_prompt": "no", "tomesd": "no", "guidance_scale": GUIDANCE, "scheduler": DDIM["modelslab"]}

    answer = posted(darkroom, "/api/v1/enterprise/text2img", key=darkroom.key, **fields, **plain)

    assert darkroom.finished(answer["id"])["status"] == "succeeded"
    fetched = posted(darkroom, f"/api/v1/enterprise/fetch/{answer['id']}", key=darkroom.key)
    assert np.array_equal(pixels(requests.get(fetched["output"][0], timeout=90).content), natively())


def test_opensourceais(darkroom, natively):
    fields = {"word": PROMPT, "width": SIDE, "height": SIDE, "seed": SEED, "steps": STEPS, "guidance": GUIDANCE}

    uid = posted(darkroom, "/api/v1/private/client/ai/diffusion", **fields)["data"]["uid"]

    assert darkroom.finished(uid)["status"] == "succeeded"
    poll = darkroom.call("GET", f"/api/v1/private/client/request/{uid}").json()["data"]
    drawn = pixels(requests.get(poll["response"][0]["filename"], timeout=90).content)
    assert np.array_equal(drawn, natively(scheduler=None))
    assert not np.array_equal(drawn, natively())  # the comparison tells pictures apart


def test_stability(darkroom, natively):
    sides = {"width": STABILITYS_SIDE, "height": STABILITYS_SIDE}
    fields = {"text_prompts": [{"text": PROMPT}], "seed": SEED, "steps": STEPS, "cfg_scale": GUIDANCE, **sides}

    answer = posted(darkroom, "/v1/generation/demo/text-to-image", **fields, sampler=DDIM["others"])

    assert np.array_equal(decoded(answer["artifacts"][0]["base64"]), natively(side=STABILITYS_SIDE))
