"""What each dialect's caller gets where the safety checker flags every picture: the engine itself, over HTTP.

Where a dialect draws from images, nothing is redrawn of them: such pictures are checked like any other.
"""

import base64
import io
import threading

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from api import events
from shared.accounts import Accounts
from shared.catalog import Catalog
from shared.settings import Settings
from tests.apibench import ApiBench
from tests.services import wait_until
from tests.worker_rig import Rig
from worker.demo_model.bundle import build_random_bundle
from worker.engine import Engine
from worker.safety import replaced

#: diffusers' own ways with numpy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning")

SIDE = 512
IMAGE = Image.linear_gradient("L").resize((SIDE, SIDE)).convert("RGB")


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    """An engine whose only model flags whatever it sees."""
    torch.set_num_threads(1)
    folder, data = build_random_bundle(tmp_path_factory.mktemp("models") / "tiny"), tmp_path_factory.mktemp("data")
    file = folder / "safety_checker" / "model.safetensors"
    weights = load_file(file)
    weights["concept_embeds_weights"][:] = -2
    save_file(weights, file)
    (data / "models.toml").write_text(f'[models.demo]\nsource = "{folder}"\n')
    settings = Settings(data_dir=data, device="cpu", models_catalog=data / "models.toml")
    return Engine(settings, Catalog.load(settings))


@pytest.fixture
def bench(valkey, tmp_path, engine, monkeypatch):
    monkeypatch.setattr(events, "BLOCK_MS", 50)  # the reader of events ends with its service, not a second later
    bench = ApiBench(valkey, tmp_path, sync_wait_s=300.0, short_wait_s=300.0)
    rig, stopping = Rig(valkey, engine=engine, storage=bench.parts.storage), threading.Event()

    def draw_on():
        while not stopping.wait(0.02):  # the bell is silent
            rig.runner.turn()

    thread = threading.Thread(target=draw_on)
    thread.start()
    yield bench
    stopping.set()
    thread.join()
    bench.parts.hub.close(wait=True)


def encoded(image=IMAGE):
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def decoded(data):
    return Image.open(io.BytesIO(data)).convert("RGB")


def is_the_image_as(kind, data):
    return decoded(data).tobytes() == replaced(IMAGE, kind).tobytes()


def at(bench, link):
    """Return what lies behind one of our links."""
    return bench.client.get(link.removeprefix("http://localhost")).data


def test_native_tells_which_image_was_flagged(bench):
    image = base64.b64encode(encoded()).decode()
    uid = bench.submit(image=image, strength=0, width=SIDE, height=SIDE, safety="pixelate")
    body = bench.get(f"/v1/jobs/{uid}?wait=60").json
    assert [output["flagged"] for output in body["outputs"]] == [True]
    assert body["parameters"]["safety"] == "pixelate"
    assert is_the_image_as("pixelate", at(bench, body["outputs"][0]["url"]))


def test_native_off_shows_the_picture(bench):
    image = base64.b64encode(encoded()).decode()
    uid = bench.submit(image=image, strength=0, width=SIDE, height=SIDE, safety="off")
    body = bench.get(f"/v1/jobs/{uid}?wait=60").json
    assert [output["flagged"] for output in body["outputs"]] == [False]
    assert decoded(at(bench, body["outputs"][0]["url"])).tobytes() == IMAGE.tobytes()


def test_octoai_removes_the_picture(bench):
    fields = {"prompt": "a fox", "width": 128, "height": 128, "steps": 1, "seed": 7}
    (image,) = bench.post("/generate/sd", fields).json["images"]
    assert image == {"image_b64": None, "removed_for_safety": True, "seed": 7, "safety_score": None}
    (image,) = bench.post("/generate/sd", {**fields, "enable_safety": False}).json["images"]
    assert not image["removed_for_safety"]
    assert decoded(base64.b64decode(image["image_b64"])).size == (128, 128)


def test_stability_blurs_the_picture(bench):
    form = {"text_prompts[0][text]": "a fox", "image_strength": "1", "init_image": (io.BytesIO(encoded()), "a.png")}
    answer = bench.client.post("/v1/generation/demo/image-to-image", data=form, headers=bench.headers)
    (artifact,) = answer.json["artifacts"]
    assert artifact["finishReason"] == "CONTENT_FILTERED"
    assert is_the_image_as("blur", base64.b64decode(artifact["base64"]))


def test_aithriving_fails_and_charges_nothing(bench, valkey):
    account = Accounts(valkey).create_key("alice", credits_=10).account
    form = {"prompt": "a fox", "image_strength": "1", "init_image": (io.BytesIO(encoded()), "a.png")}
    answer = bench.client.post("/api/generate/basic/imageToImage", data=form, headers=bench.headers)
    assert (answer.status_code, answer.json["code"], answer.json["data"]) == (200, -1, None)
    assert "safety checker flagged the picture" in answer.json["message"]
    assert bench.parts.accounts.balance(account) == 10_000
    (job,) = bench.get("/v1/jobs").json["data"]
    assert (job["status"], job["error"]["code"]) == ("failed", "content_filtered")


@pytest.mark.parametrize("kind", ["sensitive_content_text", "blur", "pixelate", "black"])
def test_modelslab_replaces_the_picture_as_asked(bench, kind):
    fields = {
        "key": bench.credentials.key,
        "prompt": "a fox",
        "init_image": base64.b64encode(encoded()).decode(),
        "strength": 0,
        "safety_checker_type": kind,
    }
    answer = bench.client.post("/api/v1/enterprise/img2img", json=fields).json
    assert answer["status"] == "success", answer
    assert answer["nsfw_content_detected"] is True
    assert is_the_image_as(kind, at(bench, answer["output"][0]))
    answer = bench.client.post("/api/v1/enterprise/img2img", json={**fields, "safety_checker": "no"}).json
    assert "nsfw_content_detected" not in answer
    assert decoded(at(bench, answer["output"][0])).tobytes() == IMAGE.tobytes()


def test_opensourceais_gets_a_card(bench):
    fields = {"word": "a fox", "steps": 1, "width": 320, "height": 320}
    made = bench.post("/api/v1/private/client/ai/diffusion", fields).json["data"]

    def ended():
        data = bench.get(f"/api/v1/private/client/request/{made['uid']}").json["data"]
        return data if data.get("ended_at") else None

    (image,) = wait_until(ended, timeout_s=120)["response"]
    card = replaced(Image.new("RGB", (320, 320)), "sensitive_content_text")
    assert decoded(at(bench, image["filename"])).tobytes() == card.tobytes()
