"""OctoAI's own client and the document's own command line, against a server that listens on a port."""

import base64
import io
import os
import subprocess
from pathlib import Path

import httpx
import pytest
from octoai.client import OctoAI
from octoai.core.api_error import ApiError
from octoai.environment import OctoAIEnvironment
from octoai.image_gen.errors import UnprocessableEntityError
from octoai.util import to_file
from PIL import Image

from shared.spec import Lora
from tests.apibench import png
from tests.dialects import rig

#: The document's example, as printed there but for its prompt signs.
CURL = Path(__file__).parent / "golden" / "octoai" / "seed_curl.sh"
PICTURE = base64.b64encode(png(size=(96, 96))).decode()
MASK = base64.b64encode(png("white", size=(96, 96))).decode()
SMALL = {"prompt": "cat", "width": 128, "height": 128, "steps": 5}


@pytest.fixture
def address(bench):
    with rig.listening(bench) as address:
        yield address


@pytest.fixture
def client(bench, address):
    with httpx.Client(timeout=30) as http:
        yield octoai_client(address, bench.credentials.key, http)


def octoai_client(address, key, http):
    environment = OctoAIEnvironment(default=address, image_gen=address, text_gen=address)
    return OctoAI(api_key=key, environment=environment, httpx_client=http)


def opened(image):
    return Image.open(io.BytesIO(base64.b64decode(image.image_b64, validate=True)))


def test_the_client_draws_from_a_prompt(client, worker, tmp_path):
    answer = client.image_gen.generate_sd(**SMALL, seed=42, num_images=2, image_encoding="png")

    assert [image.seed for image in answer.images] == [42, 43]
    assert [opened(image).size for image in answer.images] == [(128, 128)] * 2
    assert not any(image.removed_for_safety for image in answer.images)
    assert answer.prediction_time_ms == 250
    assert worker.specs[0].guidance_scale == 12
    to_file(answer.images[0], str(tmp_path / "cat.png"))
    with Image.open(tmp_path / "cat.png") as stored:
        assert stored.format == "PNG"


def test_the_client_draws_from_images(client, worker):
    for fields, task in (
        ({}, "image_to_image"),
        ({"mask_image": MASK}, "inpaint"),
        ({"mask_image": MASK, "outpainting": True}, "outpaint"),
    ):
        assert client.image_gen.generate_sd(**SMALL, init_image=PICTURE, **fields).images
        assert worker.specs[-1].task == task


def test_the_client_sends_assets_and_lists_of_seeds(client, worker):
    answer = client.image_gen.generate_sd(
        **SMALL, checkpoint="octoai:crystal-clear", loras={"octoai:add-detail": 0.5}, seed=[5, None], num_images=2
    )
    assert answer.images[0].seed == 5
    assert worker.specs[0].loras == (Lora("detail", 0.5),)


@pytest.mark.parametrize(
    ("fields", "field"), [({"steps": 0}, "steps"), ({"sampler": "X"}, "sampler"), ({"loras": {"x": 9}}, "loras")]
)
def test_the_client_reads_what_is_wrong_with_a_field(client, fields, field):
    with pytest.raises(UnprocessableEntityError) as caught:
        client.image_gen.generate_sd(**{**SMALL, **fields})
    (fault,) = caught.value.body.detail
    assert fault.loc == ["body", field]
    assert fault.msg


def test_the_client_reads_other_errors(client, bench, address, worker):
    with httpx.Client() as http, pytest.raises(ApiError) as caught:
        octoai_client(address, "wrong", http).image_gen.generate_sd(**SMALL)
    assert (caught.value.status_code, set(caught.value.body)) == (401, {"message"})

    bench.parts.accounts.create_key("alice", credits_=0)
    with pytest.raises(ApiError) as caught:
        client.image_gen.generate_sd(**SMALL)
    assert caught.value.status_code == 402
    bench.parts.accounts.create_key("alice", credits_=1)

    worker.fail = {"code": "generation_failed", "message": "The pipeline failed.", "retryable": False}
    with pytest.raises(ApiError) as caught:
        client.image_gen.generate_sd(**SMALL)
    assert (caught.value.status_code, caught.value.body) == (500, {"message": "The pipeline failed."})


def test_the_client_asks_for_a_controlnet_that_is_not_there(client):
    with pytest.raises(UnprocessableEntityError) as caught:
        client.image_gen.generate_controlnet_sd15(**SMALL, controlnet="nobody:nothing", controlnet_image=PICTURE)
    assert caught.value.body.detail[0].loc == ["body", "controlnet"]


def test_the_documents_command_line(bench, address, worker, tmp_path):
    """Nothing is repaired but the address and the key."""
    (tmp_path / "jq").write_text(_JQ)
    (tmp_path / "jq").chmod(0o755)
    command = CURL.read_text().replace("https://image.octoai.run", address)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "OCTOAI_TOKEN": bench.credentials.key}
    subprocess.run(["bash", "-c", command], env=environment, cwd=tmp_path, check=True, timeout=60)

    with Image.open(tmp_path / "result.jpg") as picture:
        assert (picture.format, picture.size) == ("JPEG", (1344, 768))
    (spec,) = worker.specs
    assert (spec.num_images, spec.guidance_scale, spec.model) == (4, 7.5, "demo")


#: Not every machine has jq; the example needs but this of it.
_JQ = """#!/usr/bin/env python3
import json, sys
assert sys.argv[1:] == ["-r", ".images[0].image_b64"]
print(json.load(sys.stdin)["images"][0]["image_b64"])
"""
