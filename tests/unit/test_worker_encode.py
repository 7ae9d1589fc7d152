"""Pictures to files: what they hold, and that equal pictures make equal bytes."""

import io
import json

import pytest
from PIL import Image

from shared.job import Submission
from shared.spec import JobSpec
from worker import parameters
from worker.encode import MAX_JPEG_EXIF_BYTES, Caption, encode

SPEC = JobSpec(prompt="a red circle, très bien 圆", negative_prompt="blue", seed=41, num_images=2, model="demo")
SCHEDULER = {"scheduler": "DPMSolverMultistepScheduler", "use_karras_sigmas": True, "algorithm_type": "sde-dpmsolver++"}


def caption(spec=SPEC, seed=41):
    image = parameters.of_image(parameters.effective(spec, SCHEDULER), seed=seed)
    return Caption(text=parameters.as_text(image, model_hash="abc123"), json=parameters.as_json(image))


def picture():
    return Image.radial_gradient("L").convert("RGB").resize((64, 48))


def opened(encoded):
    image = Image.open(io.BytesIO(encoded.data))
    image.load()
    return image


def test_png_keeps_every_pixel_and_tells_its_parameters():
    encoded = encode(picture(), SPEC, caption())
    image = opened(encoded)
    assert (encoded.content_type, encoded.extension, image.format) == ("image/png", "png", "PNG")
    assert image.tobytes() == picture().tobytes()
    assert image.text["parameters"] == (
        "a red circle, très bien 圆\n"
        "Negative prompt: blue\n"
        "Steps: 30, Sampler: DPM++ 2M SDE Karras, CFG scale: 7.5, Seed: 41, Size: 512x512, "
        "Model hash: abc123, Model: demo"
    )
    assert json.loads(image.text["darkroom"]) == {
        "prompt": "a red circle, très bien 圆",
        "negative_prompt": "blue",
        "model": "demo",
        "width": 512,
        "height": 512,
        "num_inference_steps": 30,
        "guidance_scale": 7.5,
        "seed": 41,
        **SCHEDULER,
    }


@pytest.mark.parametrize("output_format", ["png", "jpeg", "webp"])
def test_equal_pictures_make_equal_bytes(output_format):
    spec = SPEC.evolve(output_format=output_format)
    assert encode(picture(), spec, caption()).data == encode(picture(), spec, caption()).data


@pytest.mark.parametrize(("output_format", "mime"), [("jpeg", "image/jpeg"), ("webp", "image/webp")])
def test_jpeg_and_webp_tell_their_parameters_in_exif(output_format, mime):
    encoded = encode(picture(), SPEC.evolve(output_format=output_format), caption())
    comment = opened(encoded).getexif().get_ifd(0x8769)[0x9286]
    assert encoded.content_type == mime
    assert comment.startswith(b"UNICODE\0")
    assert comment[8:].decode("utf-16-be") == caption().text


@pytest.mark.parametrize("output_format", ["png", "jpeg", "webp"])
def test_parameters_can_be_left_out(output_format):
    spec = SPEC.evolve(output_format=output_format, embed_parameters=False)
    image = opened(encode(picture(), spec, caption()))
    assert not dict(image.getexif())
    assert "parameters" not in image.info
    assert "darkroom" not in image.info


def test_a_jpeg_goes_without_what_does_not_fit_its_header():
    spec = SPEC.evolve(prompt="\U0001f600" * 10_000, negative_prompt="\U0001f600" * 10_000, output_format="jpeg")
    assert len(caption(spec).text.encode("utf-16-be")) > MAX_JPEG_EXIF_BYTES
    assert not dict(opened(encode(picture(), spec, caption(spec))).getexif())


def test_quality_counts_where_it_has_an_effect():
    sizes = [len(encode(picture(), SPEC.evolve(output_format="jpeg", quality=q), caption()).data) for q in (20, 95)]
    assert sizes[0] < sizes[1]
    assert "quality" in parameters.effective(SPEC.evolve(output_format="webp"), SCHEDULER)
    assert "quality" not in parameters.effective(SPEC, SCHEDULER)


@pytest.mark.parametrize("guidance", [0, 0.5, 1])
def test_without_guidance_the_negative_prompt_is_absent(guidance):
    found = parameters.effective(SPEC.evolve(guidance_scale=guidance), SCHEDULER)
    assert found["guidance_scale"] == 1.0
    assert "negative_prompt" not in found


def test_equal_pictures_of_different_jobs_tell_the_same():
    second_of_two = parameters.of_image(parameters.effective(SPEC, SCHEDULER), seed=42)
    alone = parameters.of_image(parameters.effective(SPEC.evolve(seed=42, num_images=1), SCHEDULER), seed=42)
    assert second_of_two == alone


def test_a_list_of_seeds_is_recorded_as_one():
    assert parameters.effective(SPEC.evolve(seed=(5, 3)), SCHEDULER)["seed"] == [5, 3]
    assert parameters.effective(SPEC, SCHEDULER)["seed"] == 41


def test_a_file_tells_nothing_of_its_job():
    submission = Submission(spec=SPEC, track_id="order-4711", webhook_url="https://example.com/hook")
    data = encode(picture(), submission.spec, caption()).data
    assert b"4711" not in data
    assert b"example.com" not in data
