"""The main job, end to end: a prompt becomes a picture, and a signed webhook says so."""

import io
import json

from PIL import Image
from standardwebhooks.webhooks import Webhook

from tests import services, stack

SMALL = {"num_inference_steps": 3, "width": 192, "height": 128}


def test_from_prompt_to_picture_and_webhook(darkroom):
    with services.receiver() as receiver:
        fields = {"seed": 9, "num_images": 2, "webhook_url": receiver.url + "/hook", "track_id": 1234}
        uid = darkroom.submit(**SMALL, **fields)
        job = darkroom.finished(uid)
        (request,) = receiver.wait_for(1)

    assert job["status"] == "succeeded"
    assert [output["seed"] for output in job["outputs"]] == [9, 10]
    for output in job["outputs"]:
        answer = darkroom.session.get(output["url"], timeout=30)  # the link needs no key
        assert answer.status_code == 200
        assert str(uid) not in output["url"]
        picture = Image.open(io.BytesIO(answer.content))
        assert (picture.format, picture.size) == ("PNG", (192, 128))

    credentials = json.loads((darkroom.data_dir / "credentials.json").read_text())["account"]
    told = Webhook(credentials["webhook_secret"]).verify(request.body, request.headers)
    assert (told["uid"], told["status"], told["track_id"]) == (uid, "succeeded", 1234)
    assert str(uid) not in request.headers["webhook-id"]


def test_the_same_request_gives_the_same_pixels_alone_and_among_others(darkroom):
    alone = darkroom.submit(seed=3, **SMALL)
    darkroom.finished(alone)
    among = [darkroom.submit(prompt=f"a {i}", seed=i, **SMALL) for i in range(3)]
    among.insert(1, darkroom.submit(seed=3, **SMALL))
    for uid in among:
        assert darkroom.finished(uid)["status"] == "succeeded"
    assert darkroom.image(alone) == darkroom.image(among[1])  # byte for byte, its parameters included
    assert darkroom.image(alone) != darkroom.image(among[0])


def test_a_running_job_is_cancelled_within_a_step(darkroom):
    uid = darkroom.submit(num_inference_steps=200, width=384, height=384)
    services.wait_until(lambda: darkroom.job(uid)["progress"]["step"] > 0, timeout_s=stack.JOB_S, what="a step")
    answer = darkroom.call("POST", f"/v1/jobs/{uid}/cancel")
    assert answer.json()["status"] == "cancelled"
    assert darkroom.finished(darkroom.submit(**SMALL))["status"] == "succeeded"
    assert darkroom.job(uid)["status"] == "cancelled"


def test_an_image_by_url_is_fetched_and_redrawn(darkroom):
    picture = io.BytesIO()
    Image.new("RGB", (300, 200), "orange").save(picture, "PNG")
    with services.receiver() as server:
        server.replies.append(services.Reply(headers={"Content-Type": "image/png"}, body=picture.getvalue()))
        kept = darkroom.submit(image=f"{server.url}/a.png", strength=0, width=128, height=128)
        job = darkroom.finished(kept)
    assert job["status"] == "succeeded", job
    pixels = Image.open(io.BytesIO(darkroom.image(kept))).convert("RGB")
    assert pixels.size == (128, 128)
    assert pixels.getpixel((64, 64)) == (255, 165, 0)  # strength 0 gives the picture back


def test_an_image_in_a_form_is_painted_where_the_mask_is_white(darkroom):
    picture, mask = io.BytesIO(), io.BytesIO()
    Image.new("RGB", (128, 128), "orange").save(picture, "PNG")
    half = Image.new("L", (128, 128), 0)
    half.paste(255, (64, 0, 128, 128))
    half.save(mask, "PNG")
    files = {"image": ("a.png", picture.getvalue()), "mask_image": ("m.png", mask.getvalue())}
    data = {"prompt": "a blue square", "width": 128, "height": 128, "num_inference_steps": 3, "seed": 1}
    answer = darkroom.call("POST", "/v1/jobs", data=data, files=files)
    assert answer.status_code == 202, answer.text
    uid = answer.json()["uid"]
    assert darkroom.finished(uid)["status"] == "succeeded"
    pixels = Image.open(io.BytesIO(darkroom.image(uid))).convert("RGB")
    assert pixels.getpixel((16, 64)) == (255, 165, 0)
    assert pixels.getpixel((112, 64)) != (255, 165, 0)


def test_an_image_that_leads_inward_fails_by_name(darkroom):
    answer = darkroom.call("POST", "/v1/jobs", json={"prompt": "x", "image": "http://10.0.0.1/a.png"})
    assert (answer.status_code, answer.json()["field"]) == (400, "image")


def test_previews_are_listed_while_a_job_runs(darkroom):
    uid = darkroom.submit(num_inference_steps=60, width=256, height=256, preview_every=5, seed=4)
    services.wait_until(lambda: darkroom.job(uid)["previews"], timeout_s=stack.JOB_S, what="a preview")
    job = darkroom.finished(uid)
    assert job["status"] == "succeeded"
    assert [preview["step"] for preview in job["previews"]] == sorted(range(5, 61, 5))
    first = darkroom.session.get(job["previews"][0]["url"], timeout=30)
    assert Image.open(io.BytesIO(first.content)).size == (256, 256)
