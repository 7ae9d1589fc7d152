"""aithriving's two documents, field by field."""

import base64
import io
import json

import pytest
from PIL import Image

from shared.job import Submission
from shared.spec import CLIP_GUIDANCE_PRESETS, JobSpec
from shared.styles import STYLES
from tests.apibench import png
from tests.dialects.gold import PRICES

TEXT, IMAGE, INPAINT = "/api/generate/basic/textToImage", "/api/generate/basic/imageToImage", "/api/edit/inpaint"
PLAIN = {"prompt": "A lighthouse on a cliff", "width": 320, "height": 320}
SAMPLERS = (
    *("DDIM", "DDPM", "K_DPMPP_2M", "K_DPM_2", "K_DPM_2_ANCESTRAL", "K_EULER", "K_EULER_ANCESTRAL"),
    *("K_HEUN", "K_LMS", "K_DPMPP_2S_ANCESTRAL"),
)


def raw(bench, header="Authorization"):
    return {header: bench.credentials.key}


def text(bench, headers=None, **fields):
    """Send as the documented client does: JSON without a Content-Type."""
    body = json.dumps({**PLAIN, **fields})
    return bench.client.post(TEXT, data=body, headers=headers or raw(bench))


def image(bench, path=IMAGE, size=(320, 384), file="init_image", files=None, **fields):
    data = {"prompt": "black hair", **{k: str(v) for k, v in fields.items()}}
    data |= {
        name: (io.BytesIO(content), f"{name}.png")
        for name, content in ({file: png(size=size)} if files is None else files).items()
    }
    return bench.client.post(path, data=data, headers=raw(bench))


def failed(answer, field):
    assert answer.status_code == 200
    assert answer.json["code"] == -1
    assert answer.json["data"] is None
    assert field in answer.json["message"]


def picture(answer):
    assert answer.json["code"] == 0, answer.json
    assert answer.json["message"] == "success"
    return Image.open(io.BytesIO(base64.b64decode(answer.json["data"]["image"], validate=True)))


def test_the_documented_request_gives_a_picture_and_its_seed(bench, worker):
    answer = text(bench, cfg_scale=7, height=1024, width=1024, steps=20)

    assert picture(answer).size == (1024, 1024)
    assert picture(answer).format == "PNG"
    (spec,) = worker.specs
    assert answer.json["data"]["seed"] == spec.seed
    assert (spec.prompt, spec.guidance_scale, spec.num_inference_steps) == ("A lighthouse on a cliff", 7, 20)


def test_what_is_omitted_is_as_documented(bench, worker):
    picture(text(bench))
    (spec,) = worker.specs
    assert (spec.guidance_scale, spec.num_inference_steps, spec.style_preset, spec.num_images) == (7, 30, None, 1)
    assert (spec.scheduler, spec.use_karras_sigmas) == ("DPMSolverMultistepScheduler", False)
    assert spec.prompt_weighting == "none"


@pytest.mark.parametrize("header", ["Authorization", "Authentication"])
@pytest.mark.parametrize("prefix", ["", "Bearer "])
def test_both_header_names_are_taken(bench, header, prefix):
    picture(text(bench, headers={header: prefix + bench.credentials.key}))


def test_a_wrong_key_is_a_failure(bench):
    failed(text(bench, headers={"Authorization": "wrong"}), "key")
    failed(text(bench, headers={"Accept": "application/json"}), "key")


@pytest.mark.parametrize(
    ("field", "good", "bad"),
    [
        ("width", [320, 1536, "384"], [319, "", 256, 350, 1600, "x", None, True, 320.5]),
        ("height", [320, 1536, 384.0], [0, 1537, -64, []]),
        ("cfg_scale", [0, 35, 7.5, "7"], [-0.1, 35.1, "seven", "NaN"]),
        ("steps", [10, 50, "20"], [9, 51, 20.5]),
        ("seed", [0, 1, 2**32 - 1, "7"], [-1, 2**32, 1.5]),
        ("prompt", ["x", "x" * 2000], ["", " ", "x" * 2001, None, 7]),
        ("sampler", SAMPLERS, ["k_euler", "Euler", 1]),
        ("style_preset", STYLES, ["Anime", "", 1]),
        ("clip_guidance_preset", CLIP_GUIDANCE_PRESETS, ["none", "FAST", 1]),
    ],
)
def test_bounds(bench, worker, field, good, bad):
    for value in good:
        sizes = {"width": 320, "height": 320}
        assert text(bench, **{**sizes, field: value}).json["code"] == 0, value
    drawn = len(worker.specs)
    for value in bad:
        failed(text(bench, **{field: value}), field)
    assert len(worker.specs) == drawn


def test_seed_zero_is_random_and_told(bench):
    seeds = {text(bench, seed=0).json["data"]["seed"] for _ in range(3)}
    assert len(seeds) == 3
    assert text(bench, seed=7).json["data"]["seed"] == 7


def test_image_strength_is_the_opposite_of_strength(bench, worker):
    for given, canonical in ((0.35, 0.65), (0, 1), (1, 0)):
        picture(image(bench, image_strength=given))
        assert worker.specs[-1].strength == pytest.approx(canonical)
    picture(image(bench))
    assert worker.specs[-1].strength == pytest.approx(0.65)
    failed(image(bench, image_strength=1.01), "image_strength")


def test_the_documented_form_without_a_size_takes_the_pictures_own(bench, worker):
    picture(image(bench, size=(500, 1700), image_strength=0.35, cfg_scale=7, steps=20))
    assert (worker.specs[-1].width, worker.specs[-1].height) == (512, 1536)
    picture(image(bench, width=320, height=640))
    assert (worker.specs[-1].width, worker.specs[-1].height) == (320, 640)


def test_a_picture_is_needed_and_judged(bench):
    failed(image(bench, files={}), "init_image")
    failed(image(bench, files={"init_image": b"GIF89a"}), "init_image")


def test_inpaint_takes_a_mask_and_a_format(bench, worker):
    files = {"image": png(size=(320, 320)), "mask": png("white", size=(320, 320))}
    assert picture(image(bench, INPAINT, files=files, output_format="webp")).format == "WEBP"
    assert worker.specs[-1].task == "inpaint"
    failed(image(bench, INPAINT, files={"image": png()}), "mask")


def test_what_is_unknown_is_ignored_and_named(bench):
    answer = text(bench, frobnicate=1)
    picture(answer)
    assert answer.headers["Darkroom-Ignored"] == "frobnicate"


def test_a_failed_job_is_a_failure_and_costs_nothing(bench, worker):
    bench.parts.accounts.create_key("alice", credits_=1)
    worker.fail = {"code": "generation_failed", "message": "The pipeline failed.", "retryable": False}
    failed(text(bench), "The pipeline failed.")
    assert bench.parts.accounts.balance(bench.credentials.account) == 1000
    worker.fail = None
    picture(text(bench))
    assert bench.parts.accounts.balance(bench.credentials.account) == 600
    picture(text(bench))
    failed(text(bench), "credits")


def test_a_job_that_takes_too_long_is_cancelled_and_not_charged(bench, worker):
    bench.parts.accounts.create_key("alice", credits_=1)
    bench.parts.settings = bench.settings.evolve(sync_wait_s=0.05)
    worker.open.clear()
    failed(text(bench), "too long")
    assert bench.parts.accounts.balance(bench.credentials.account) == 1000
    (job,), _ = bench.backlog.list_jobs(bench.credentials.account)
    assert job.status == "cancelled"


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"\xff"])
def test_a_body_that_is_none_is_a_failure(bench, body):
    failed(bench.client.post(TEXT, data=body, headers=raw(bench)), "body")


@pytest.mark.parametrize(
    ("size", "steps", "price"),
    [((320, 320), 10, 400), ((512, 512), 30, 400), ((1024, 1024), 30, 1600), ((1536, 1536), 50, 2000)],
)
def test_prices(size, steps, price):
    spec = JobSpec(prompt="x", width=size[0], height=size[1], num_inference_steps=steps)
    assert PRICES.of(Submission(spec=spec, dialect="aithriving")) == price
