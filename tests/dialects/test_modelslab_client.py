"""ModelsLab's own Python client, driving a running server."""

import base64
import io
import json
import warnings
from pathlib import Path

import pytest
import requests
from PIL import Image

from tests import services
from tests.apibench import png
from tests.dialects import rig

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it is written for pydantic 1
    from modelslab_py.core.apis.community import Community
    from modelslab_py.core.apis.image_editing import Image_editing
    from modelslab_py.core.apis.realtime import Realtime
    from modelslab_py.core.client import Client
    from modelslab_py.schemas.community import ControlNet, Image2Image, Inpainting, Text2Image
    from modelslab_py.schemas.image_editing import InpaintingSchema
    from modelslab_py.schemas.realtime import (
        RealtimeImage2ImageSchema,
        RealtimeInpaintingSchema,
        RealtimeText2ImageSchema,
    )

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
GOLDEN = Path(__file__).parent / "golden" / "modelslab"
SIZE = {"width": 64, "height": 64, "samples": 1}


@pytest.fixture
def service(valkey, tmp_path):
    options = {"sync_wait_s": 30.0, "short_wait_s": 20.0, "outbound_allow": rig.LOOPBACK}
    with rig.service(valkey, tmp_path, **options) as (bench, worker), rig.ingest(bench, valkey):
        yield bench, worker


@pytest.fixture
def url(bench):
    with rig.listening(bench) as address:
        yield address


@pytest.fixture
def receiver():
    with services.receiver() as server:
        yield server


def serving(receiver, *colours):
    receiver.replies += [services.Reply(headers={"Content-Type": "image/png"}, body=png(colour)) for colour in colours]
    return f"{receiver.url}/a.png"


def community(bench, url, *, enterprise=True, key=None, kind=Community):
    client = Client(api_key=key or bench.credentials.key, fetch_retry=100, fetch_timeout=0.05)
    client.base_url = f"{url}/api/"
    return kind(client=client, enterprise=enterprise)


def picture(link):
    answer = requests.get(link, timeout=30)
    answer.raise_for_status()
    return Image.open(io.BytesIO(answer.content))


@pytest.mark.parametrize("enterprise", [True, False])
def test_text_to_image(bench, worker, url, enterprise):
    api = community(bench, url, enterprise=enterprise)

    answer = api.text_to_image(
        Text2Image(prompt="a red circle", model_id="demo", seed=7, scheduler="DDIMScheduler", **SIZE)
    )

    assert answer["status"] == "success"
    assert answer["output"][0].startswith(url)
    assert picture(answer["output"][0]).size == (64, 64)
    assert (worker.specs[0].seed, worker.specs[0].scheduler) == (7, "DDIMScheduler")
    assert answer["meta"]["seed"] == 7
    assert api.fetch(str(answer["id"]))["output"][0].startswith(url)


@pytest.mark.parametrize("enterprise", [True, False])
def test_image_to_image_with_a_url(bench, worker, url, receiver, enterprise):
    schema = Image2Image(prompt="a red circle", init_image=serving(receiver, "blue"), strength=0.7, **SIZE)

    answer = community(bench, url, enterprise=enterprise).image_to_image(schema)

    assert answer["status"] == "success"
    assert picture(answer["output"][0]).size == (64, 64)
    assert picture(answer["meta"]["init_image"]).getpixel((0, 0)) == (0, 0, 255)
    assert [request.path for request in receiver.requests] == ["/a.png"]
    assert (worker.specs[0].task, worker.specs[0].strength) == ("image_to_image", 0.7)


@pytest.mark.parametrize("enterprise", [True, False])
def test_its_realtime_calls(bench, worker, url, receiver, enterprise):
    api = community(bench, url, enterprise=enterprise, kind=Realtime)
    image = {"init_image": serving(receiver, "blue", "blue"), "strength": 0.7, **SIZE}
    white = base64.b64encode(png("white")).decode()

    answers = [
        api.text_to_image(RealtimeText2ImageSchema(prompt="a red circle", seed=7, **SIZE)),
        api.image_to_image(RealtimeImage2ImageSchema(prompt="a red circle", **image)),
        api.inpainting(RealtimeInpaintingSchema(prompt="a red circle", mask_image=white, base64=False, **image)),
    ]

    assert [answer["status"] for answer in answers] == ["success"] * 3
    assert [spec.task for spec in worker.specs] == ["text_to_image", "image_to_image", "inpaint"]
    assert api.fetch(str(answers[0]["id"]))["output"][0].startswith(url)


def test_inpainting_with_urls_and_base64(bench, worker, url, receiver):
    schema = Inpainting(
        prompt="a red circle",
        init_image=serving(receiver, "blue"),
        mask_image=base64.b64encode(png("white")).decode(),
        base64="yes",
        **SIZE,
    )
    answer = community(bench, url).inpainting(schema)

    assert answer["status"] == "success"
    assert Image.open(io.BytesIO(base64.b64decode(answer["output"][0]))).size == (64, 64)
    assert worker.specs[0].task == "inpaint"


@pytest.mark.parametrize("enterprise", [True, False])
def test_inpainting_where_its_editing_calls_are(bench, worker, url, receiver, enterprise):
    api = community(bench, url, enterprise=enterprise, kind=Image_editing)
    white = base64.b64encode(png("white")).decode()

    answer = api.inpainting(
        InpaintingSchema(prompt="a fox", init_image=serving(receiver, "blue"), mask_image=white, **SIZE)
    )

    assert answer["status"] == "success"
    assert worker.specs[0].task == "inpaint"
    assert api.fetch(str(answer["id"]))["output"][0].startswith(url)


@pytest.mark.parametrize("example", ["seed_body_raw", "seed_fetch"])
def test_the_documented_examples_as_they_are(bench, worker, url, receiver, example):
    """With nothing but address, key and image replaced; the model id is the one the documented answer bears."""
    request = json.loads((GOLDEN / f"{example}.json").read_text())["request"]
    body = {**request["json"], "key": bench.credentials.key, "init_image": serving(receiver, "blue")}

    answer = requests.post(url + request["path"], data=json.dumps(body), headers={"Content-Type": "application/json"})

    assert (answer.status_code, answer.json()["status"]) == (200, "success")
    assert "Darkroom-Ignored" not in answer.headers
    assert picture(answer.json()["output"][0]).size == (512, 512)
    assert worker.specs[0].scheduler == "DDPMScheduler"


def test_a_slow_job_is_fetched_until_it_is_done(bench, worker, url):
    bench.parts.settings = bench.settings.evolve(short_wait_s=0.05)
    worker.open.clear()
    api = community(bench, url)
    answer = api.text_to_image(Text2Image(prompt="a red circle", **SIZE))
    assert (answer["status"], answer["output"]) == ("processing", [])
    assert answer["fetch_result"] == f"{url}/api/v1/enterprise/images/fetch/{answer['id']}"
    asked = requests.post(answer["fetch_result"], json={"key": bench.credentials.key}, timeout=30)
    assert asked.json()["status"] == "processing"

    worker.open.set()

    fetched = api.fetch(str(answer["id"]))
    assert (fetched["status"], fetched["id"]) == ("success", answer["id"])
    assert picture(fetched["output"][0]).size == (64, 64)


def test_what_goes_wrong_is_raised_with_its_message(bench, url, receiver):
    api = community(bench, url)
    with pytest.raises(Exception, match=r"status code 401: .*Invalid API key"):
        community(bench, url, key="wrong").text_to_image(Text2Image(prompt="a red circle"))
    with pytest.raises(Exception, match=r"status code 400: .*samples: must lie between 1 and 4"):
        api.text_to_image(Text2Image(prompt="a red circle", samples=5))
    with pytest.raises(Exception, match=r"status code 400: .*prompt is required"):
        api.text_to_image(Text2Image(prompt=""))
    with pytest.raises(Exception, match=r"status code 400: .*init_image is required"):
        api.image_to_image(Image2Image(prompt="a red circle"))
    with pytest.raises(Exception, match=r"status code 400: .*controlnet_model: "):
        api.controlnet(ControlNet(prompt="a red circle", init_image=f"{receiver.url}/a.png", controlnet_model="nobody"))
    with pytest.raises(Exception, match=r"status code 404: .*no such job"):
        api.fetch("1")


def test_an_image_that_cannot_be_had_fails_its_job(bench, url, receiver):
    receiver.replies.append(services.Reply(status=404))
    answer = community(bench, url).image_to_image(Image2Image(prompt="x", init_image=f"{receiver.url}/a.png", **SIZE))
    assert answer["status"] == "failed"
    assert answer["message"].startswith("init_image: could not be fetched")


def test_the_server_calls(bench, url):
    api = community(bench, url)
    assert api.system_details()["status"] == "ok"
    assert api.clear_queue()["status"] == "success"
    assert api.clear_cache()["status"] == "success"
    for refused in (api.restart, api.update):
        with pytest.raises(Exception, match=r"status code 403: .*whoever runs it"):
            refused()
