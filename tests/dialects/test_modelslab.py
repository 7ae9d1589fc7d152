"""ModelsLab over HTTP: its paths, its answers, its errors, and the small calls."""

import base64
import io
import json
import time
from urllib.parse import parse_qs, urlsplit

import pytest
from PIL import Image
from redis.exceptions import ConnectionError as RedisConnectionError

from shared import errors
from shared.backlog import Batches
from shared.celery_app import SilentBell
from shared.dialects import PROVIDERS, Links
from shared.dialects.modelslab import COMMUNITY, ENTERPRISE, render_error
from shared.dialects.modelslab_answers import webhook
from shared.dialects.modelslab_server import IMAGE_TYPES
from shared.errors import BacklogFull, JobGone, TooManyWaiting
from shared.job import Status
from tests import services
from tests.apibench import png
from tests.dialects import rig
from worker.retention import Retention

BASE = "/api/v1/enterprise"
INLINE = base64.b64encode(png("blue")).decode()
SMALL = {"prompt": "a red circle", "width": "64", "height": "64", "seed": 7}
META = [
    *("prompt", "model_id", "scheduler", "safetychecker", "negative_prompt", "W", "H", "guidance_scale", "init_image"),
    *("steps", "n_samples", "strength", "multi_lingual", "full_url", "upscale", "seed", "outdir", "file_prefix"),
]
PROCESSING = [
    *("status", "tip", "eta", "messege", "message", "webhook_status", "fetch_result", "id", "output", "meta"),
]


def send(bench, path, **fields):
    return bench.client.post(path, json={"key": bench.credentials.key, **fields})


def draw(bench, kind="text2img", **fields):
    return send(bench, f"{BASE}/{kind}", **{**SMALL, **fields})


def error(answer, status, message):
    assert (answer.status_code, answer.json["status"]) == (status, "error"), answer.text
    assert message in answer.json["message"]
    assert set(answer.json) == {"status", "message"}


def short_wait(bench, seconds):
    bench.parts.settings = bench.settings.evolve(short_wait_s=seconds)


def local(url):
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}"


def open_link(bench, url):
    answer = bench.client.get(local(url))
    assert answer.status_code == 200, answer.text
    return Image.open(io.BytesIO(answer.data))


@pytest.mark.parametrize("prefix", [*ENTERPRISE, *COMMUNITY])
def test_every_path_draws_and_is_asked_again(bench, prefix):
    paths = {"text2img": {}, "img2img": {"init_image": INLINE}, "inpaint": {"init_image": INLINE, "mask_image": INLINE}}
    for kind, images in paths.items():
        drawn = send(bench, f"{prefix}/{kind}", **SMALL, **images)
        assert (drawn.status_code, drawn.json["status"]) == (200, "success"), drawn.text
        assert ("proxy_links" in drawn.json) == (prefix in COMMUNITY)
        for answer in (
            send(bench, f"{prefix}/fetch/{drawn.json['id']}"),
            send(bench, f"{prefix}/fetch", request_id=str(drawn.json["id"])),
            send(bench, f"{prefix}/fetch", request_id=drawn.json["id"]),
        ):
            assert (answer.status_code, answer.json["id"]) == (200, drawn.json["id"])
            assert answer.json["status"] == "success"
            assert answer.json["meta"]["seed"] == 7
    refused = send(bench, f"{prefix}/controlnet", **SMALL, init_image=INLINE, controlnet_model="nobody")
    error(refused, 400, "controlnet_model: there is no ControlNet 'nobody'")


@pytest.mark.parametrize("path", ["/api/v3/dreambooth", "/api/v4/dreambooth"])
def test_dreambooth_is_text_to_image(bench, path):
    assert send(bench, path, **SMALL).json["status"] == "success"
    assert "demo" in {model["model_id"] for model in send(bench, f"{path}/model_list").json}


@pytest.mark.parametrize(
    "path",
    [
        *("/api/v6/realtime/text2img", "/api/v6/realtime/img2img", "/api/v6/realtime/inpaint"),
        *("/api/v1/enterprise/realtime/text2img", "/api/v5/text2img"),
    ],
)
def test_what_programs_in_the_wild_send_where(bench, worker, path):
    """`realtime` is where most programs draw; they send booleans, and fields of other calls."""
    images = {"init_image": INLINE, "mask_image": INLINE}
    flags = {"safety_checker": False, "base64": False, "temp": False, "instant_response": False}

    answer = send(bench, path, **{**SMALL, **images, **flags, "samples": 1, "seed": None, "webhook": None})

    assert (answer.status_code, answer.json["status"]) == (200, "success"), answer.text
    assert answer.headers["Darkroom-Ignored"] == "instant_response"
    assert (worker.specs[0].task == "text_to_image") == path.endswith("text2img")


def test_the_documented_answer_key_by_key(bench, worker):
    answer = draw(
        bench, "img2img", prompt="papercraft", init_image=INLINE, scheduler="DDPMScheduler", safety_checker="yes"
    )

    body = json.loads(answer.text)
    assert list(body) == ["status", "generationTime", "id", "output", "meta"]
    assert list(body["meta"]) == META
    assert (type(body["generationTime"]), type(body["id"])) == (float, int)
    (spec,) = worker.specs
    meta = body["meta"]
    assert (meta["model_id"], meta["scheduler"], meta["safetychecker"]) == ("demo", "DDPMScheduler", "yes")
    assert (meta["W"], meta["H"], meta["steps"], meta["n_samples"]) == (64, 64, 20, 1)
    assert (meta["guidance_scale"], meta["strength"], meta["seed"]) == (7.5, 0.7, 7)
    assert (meta["multi_lingual"], meta["full_url"], meta["upscale"], meta["outdir"]) == ("no", "no", "no", "out")
    assert meta["prompt"].startswith("papercraft, ")
    assert spec.enhance_prompt
    assert open_link(bench, meta["init_image"]).getpixel((0, 0)) == (0, 0, 255)
    (link,) = body["output"]
    assert open_link(bench, link).size == (64, 64)
    assert parse_qs(urlsplit(link).query)["filename"] == [f"{meta['file_prefix']}-0.png"]


def test_text_to_image_has_no_init_image_to_tell_of(bench):
    meta = json.loads(draw(bench).text)["meta"]
    assert list(meta) == [name for name in META if name not in {"init_image", "strength"}]


def test_meta_tells_the_prompts_as_used(bench):
    used = draw(bench, prompt="a cat", negative_prompt="dog").json["meta"]
    assert used["prompt"].startswith("a cat, ")
    assert used["negative_prompt"].startswith("dog, ")
    plain = draw(bench, prompt="a cat", negative_prompt=None, enhance_prompt="no", safety_checker="no").json["meta"]
    assert (plain["prompt"], plain["negative_prompt"], plain["safetychecker"]) == ("a cat", "", "no")


def test_several_samples_have_seeds_and_names_in_a_row(bench):
    answer = draw(bench, samples="4").json
    names = [parse_qs(urlsplit(link).query)["filename"][0] for link in answer["output"]]
    assert names == [f"{answer['meta']['file_prefix']}-{index}.png" for index in range(4)]
    assert len({open_link(bench, link).getpixel((0, 0)) for link in answer["output"]}) == 4


def test_a_null_seed_is_drawn_and_told(bench):
    seeds = {draw(bench, seed=None).json["meta"]["seed"] for _ in range(3)}
    assert len(seeds) == 3


def test_what_takes_longer_is_answered_with_processing(bench, worker):
    short_wait(bench, 0.05)
    worker.open.clear()
    answer = draw(bench, "img2img", init_image=INLINE)

    body = json.loads(answer.text)
    assert answer.status_code == 200
    assert list(body) == PROCESSING
    assert (body["status"], body["output"], body["webhook_status"]) == ("processing", [], "")
    assert body["messege"] == body["message"] != ""
    assert body["eta"] > 0
    assert body["fetch_result"] == f"http://localhost{BASE}/fetch/{body['id']}"
    assert list(body["meta"]) == META
    assert body["meta"]["seed"] == 7
    assert list(json.loads(send(bench, local(body["fetch_result"])).text)) == PROCESSING

    worker.open.set()
    done = services.wait_until(
        lambda: (found := send(bench, local(body["fetch_result"])).json)["status"] == "success" and found
    )
    assert done["id"] == body["id"]
    assert open_link(bench, done["output"][0]).size == (64, 64)


def test_the_estimate_grows_with_the_work_and_the_queue(bench, worker):
    short_wait(bench, 0)
    worker.open.clear()
    first = draw(bench).json["eta"]
    assert draw(bench).json["eta"] > first
    worker.open.set()
    services.wait_until(lambda: len(worker.specs) == 2)
    worker.open.clear()
    # No upper bound: once jobs have run, the estimate goes by how long they took here.
    assert draw(bench, samples=4, num_inference_steps=50).json["eta"] >= first * 8


def test_fetch_result_and_links_are_on_the_public_address(valkey, tmp_path):
    with rig.service(valkey, tmp_path, short_wait_s=0.0, public_url="https://pictures.example") as (bench, worker):
        worker.open.clear()
        body = send(bench, "/api/v6/images/text2img", **SMALL).json
        assert body["fetch_result"] == f"https://pictures.example/api/v6/images/fetch/{body['id']}"
        worker.open.set()
        done = services.wait_until(lambda: (f := send(bench, local(body["fetch_result"])).json)["output"] and f)
        assert done["output"][0].startswith("https://pictures.example/media/")
        assert done["proxy_links"] == done["output"]


def test_base64_comes_and_goes(bench):
    body = draw(bench, "img2img", init_image=f"data:image/png;base64,{INLINE}", base64="yes", samples=2).json
    pictures = [Image.open(io.BytesIO(base64.b64decode(text, validate=True))) for text in body["output"]]
    assert [picture.size for picture in pictures] == [(64, 64)] * 2
    assert send(bench, f"{BASE}/fetch/{body['id']}").json["output"] == body["output"]


def test_temp_links_open_for_a_day(bench):
    for temp, seconds in (("yes", 24 * 3600), ("no", bench.settings.link_ttl_s)):
        body = draw(bench, "img2img", init_image=INLINE, temp=temp).json
        for link in (body["output"][0], body["meta"]["init_image"]):
            left = int(parse_qs(urlsplit(link).query)["expires"][0]) - time.time()
            assert left == pytest.approx(seconds, abs=30)


def test_a_temp_job_and_its_files_go_after_a_day(bench):
    ids = {temp: draw(bench, "img2img", init_image=INLINE, temp=temp).json["id"] for temp in ("yes", "no")}
    files = lambda: sum(path.is_file() for path in (bench.settings.data_dir / "storage").rglob("*"))  # noqa: E731
    both = files()
    (kept,) = bench.redis.zrange("{dr}:brief", 0, -1, withscores=True)
    assert kept[0] == str(ids["yes"])
    assert kept[1] / 1000 - time.time() == pytest.approx(24 * 3600, abs=30)
    bench.redis.zincrby("{dr}:brief", -24 * 3600 * 1000, ids["yes"])

    retention = Retention(
        bench.backlog,
        Batches(bench.redis, SilentBell(), bench.backlog),
        bench.parts.storage,
        retention_s=7 * 86400,
        tombstone_s=60,
    )
    assert retention.round() == 1

    assert files() == both / 2
    assert send(bench, f"{BASE}/fetch/{ids['yes']}").status_code == 410
    assert send(bench, f"{BASE}/fetch/{ids['no']}").status_code == 200


def test_a_webhook_is_told_with_its_track_id(bench, worker):
    body = draw(bench, webhook="https://example.com/hook", track_id=12345).json
    assert body["webhook_status"] == ""
    links = Links(base_url="https://api.example", storage=bench.parts.storage, ttl_s=60)
    read = bench.backlog.read
    told = webhook(read(body["id"], account=bench.credentials.account), links)
    assert list(told) == ["status", "id", "output", "generationTime", "track_id", "meta"]
    assert (told["status"], told["track_id"], len(told["output"])) == ("success", 12345, 1)

    worker.fail = {"code": "generation_failed", "message": "The pipeline failed.", "retryable": False}
    failed = draw(bench, webhook="https://example.com/hook", track_id="12345").json
    assert webhook(read(failed["id"], account=bench.credentials.account), links) == {
        "status": "failed",
        "id": failed["id"],
        "message": "The pipeline failed.",
        "track_id": "12345",
    }


def test_webhooks_of_jobs_that_were_stopped(bench):
    job = bench.backlog.read(draw(bench).json["id"], account=bench.credentials.account)
    for status in (Status.CANCELLED, Status.EXPIRED):
        told = webhook(job.evolve(status=status), Links(base_url="", storage=bench.parts.storage, ttl_s=60))
        assert (told["status"], told["message"], told["track_id"]) == ("failed", f"The job was {status}.", None)


def test_a_failed_job_is_told_with_status_200(bench, worker):
    worker.fail = {"code": "invalid_value", "message": "image: could not be fetched.", "retryable": False}
    body = draw(bench).json
    assert body == {"status": "failed", "id": body["id"], "message": "init_image: could not be fetched."}
    assert send(bench, f"{BASE}/fetch/{body['id']}").json == body


def test_flagged_pictures_are_told(bench):
    job = bench.backlog.read(draw(bench).json["id"], account=bench.credentials.account)
    result = type(job.result)(artifacts=tuple(type(a)(**{**_fields(a), "flagged": True}) for a in job.result.artifacts))
    view = type("View", (), {"links": Links(base_url="", storage=bench.parts.storage, ttl_s=60)})()
    render = PROVIDERS["modelslab"].routes[0].render
    assert render(job.evolve(result=result), view).body["nsfw_content_detected"] is True
    assert "nsfw_content_detected" not in render(job, view).body


def _fields(artifact):
    return {name: getattr(artifact, name) for name in artifact.__slots__}


# Who asks


def test_the_key_may_be_in_the_body_or_in_a_header(bench):
    for key in (None, ""):
        body = {**SMALL, "key": key}
        assert bench.client.post(f"{BASE}/text2img", json=body, headers=bench.headers).json["status"] == "success"


@pytest.mark.parametrize("key", [None, "", "wrong", 7, ["x"], "\ud800", "ü", {"a": 1}])
def test_a_wrong_key_is_refused_everywhere(bench, key):
    for path in ("text2img", "img2img", "fetch/1", "fetch", "system_details", "upload_image", "restart_server"):
        answer = bench.client.post(f"{BASE}/{path}", json={**SMALL, "key": key, "request_id": 1})
        error(answer, 401, "Invalid API key")
        assert answer.json["message"] == "Invalid API key"


def test_the_key_is_kept_nowhere(bench, worker, valkey):
    worker.fail = {"code": "generation_failed", "message": "no", "retryable": False}
    key = bench.credentials.key
    texts = [
        draw(bench, webhook="https://example.com/hook", track_id="x", frobnicate=1).text,
        draw(bench, width=1).text,
    ]
    texts.append(send(bench, f"{BASE}/fetch/{json.loads(texts[0])['id']}").text)
    assert not [text for text in texts if key in text]
    kept = {"string": valkey.get, "hash": valkey.hgetall, "list": lambda name: valkey.lrange(name, 0, -1)}
    kept |= {"zset": lambda name: valkey.zrange(name, 0, -1), "set": valkey.smembers, "stream": valkey.xrange}
    for name in valkey.scan_iter("*"):
        assert key not in f"{name} {kept[valkey.type(name)](name)}"


# Errors


def test_what_is_required_is_named_as_documented(bench):
    answer = send(bench, f"{BASE}/text2img")
    assert (answer.status_code, answer.json) == (400, {"status": "error", "message": "prompt is required"})
    assert draw(bench, "img2img").json["message"] == "init_image is required"
    assert send(bench, f"{BASE}/fetch").json["message"] == "request_id is required"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model_id": "no-such-model"}, "model_id: there is no model 'no-such-model'"),
        ({"webhook": "http://127.0.0.1/hook"}, "webhook: "),
        ({"webhook": "nonsense"}, "webhook: "),
        ({"samples": 5}, "samples: must lie between 1 and 4, not 5"),
        ({"lora_model": "a"}, "lora_model: "),
        ({"vae": "a"}, "vae: "),
        ({"embeddings_model": "a"}, "embeddings_model: "),
        ({"upscale": "yes"}, "upscale: must be no"),
    ],
)
def test_bad_fields_are_named_as_the_provider_does(bench, worker, fields, message):
    error(draw(bench, **fields), 400, message)
    assert worker.specs == []


@pytest.mark.parametrize("url", ["http://127.0.0.1/a.png", "http://169.254.169.254/", "http://localhost/a.png"])
def test_images_from_inside_are_refused(bench, url):
    error(draw(bench, "img2img", init_image=url), 400, "init_image: ")
    error(draw(bench, "img2img", init_image=base64.b64encode(b"GIF89a").decode()), 400, "init_image: ")


@pytest.mark.parametrize("body", [b"{", b"[]", b"null", b"\xff", b'{"a": NaN}', b"[" * 100_000])
def test_a_body_that_is_none(bench, body):
    error(bench.client.post(f"{BASE}/text2img", data=body, content_type="application/json"), 400, "body")


@pytest.mark.parametrize("body", [b"", b" \n"])
def test_an_empty_body_has_no_fields(bench, body):
    sent = {"data": body, "content_type": "application/json"}
    error(bench.client.post(f"{BASE}/text2img", **sent), 401, "Invalid API key")
    error(bench.client.post(f"{BASE}/text2img", headers=bench.headers, **sent), 400, "prompt is required")
    assert bench.client.post(f"{BASE}/system_details", headers=bench.headers, **sent).json["status"] == "ok"


def test_json_is_taken_whatever_it_is_called_and_forms_too(bench):
    body = {**SMALL, "key": bench.credentials.key}
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        answer = bench.client.post(f"{BASE}/text2img", data=json.dumps(body), content_type=kind)
        assert answer.json["status"] == "success"
    assert bench.client.post(f"{BASE}/text2img", data=body).json["status"] == "success"
    answer = bench.client.post(f"{BASE}/text2img", data=body, content_type="multipart/form-data")
    assert answer.json["status"] == "success"


def test_a_body_that_is_too_large(valkey, tmp_path):
    with rig.service(valkey, tmp_path, max_body_bytes=2048) as (bench, _):
        error(draw(bench, prompt="x" * 3000), 413, "too large")


def test_no_credits(bench):
    bench.parts.accounts.create_key("alice", credits_=0)
    error(draw(bench), 402, "credits")
    bench.parts.accounts.create_key("alice", credits_=1)
    assert draw(bench, num_inference_steps=30).json["status"] == "success"
    assert bench.parts.accounts.balance(bench.credentials.account) == 1000 - 3  # a 64th of 150, rounded up


def test_a_plan_may_insist_on_the_safety_checker(bench):
    free = bench.parts.accounts.create_key("bob", plan="free")
    error(draw(bench, key=free.key, safety_checker="no"), 403, "safety checker")
    assert draw(bench, key=free.key).json["status"] == "success"
    assert draw(bench, safety_checker="no").json["status"] == "success"


@pytest.mark.parametrize("id_", ["0", "1", "999999999999999", "99999999999999999999", "abc", "-1", "1.0"])
def test_jobs_that_are_not(bench, id_):
    error(send(bench, f"{BASE}/fetch/{id_}"), 404, "no such job")


@pytest.mark.parametrize("id_", ["abc", 0, -1, 1.5, True, 2**60])
def test_request_ids_that_cannot_be(bench, id_):
    error(send(bench, f"{BASE}/fetch", request_id=id_), 400, "request_id: ")


def test_another_accounts_job(bench):
    other = bench.parts.accounts.create_key("bob")
    error(send(bench, f"{BASE}/fetch/{draw(bench).json['id']}", key=other.key), 404, "no such job")


def test_jobs_past_their_retention(bench, monkeypatch):
    uid = draw(bench, base64="yes").json["id"]
    (picture,) = bench.backlog.read(uid, account=bench.credentials.account).result.artifacts
    bench.parts.storage.delete_prefix(picture.key.rpartition("/")[0])
    error(send(bench, f"{BASE}/fetch/{uid}"), 410, "image")

    def gone(*_args, **_options):
        raise JobGone

    monkeypatch.setattr(bench.backlog, "read", gone)
    error(send(bench, f"{BASE}/fetch/{uid}"), 410, "gone")


@pytest.mark.parametrize(("fault", "status"), [(BacklogFull, 503), (RedisConnectionError, 503), (KeyError, 500)])
def test_faults_of_the_service(bench, monkeypatch, fault, status):
    def fail(*_args, **_options):
        raise fault

    monkeypatch.setattr(bench.backlog, "submit", fail)
    answer = draw(bench)
    error(answer, status, "")
    assert ("Retry-After" in answer.headers) == (status == 503)


def test_too_many_jobs(bench, monkeypatch):
    def refuse(*_args, **_options):
        raise TooManyWaiting

    monkeypatch.setattr(bench.backlog, "submit", refuse)
    answer = draw(bench)
    assert answer.status_code == 429
    assert (answer.json["status"], answer.json["retry_after"]) == ("error", int(answer.headers["Retry-After"]))


def test_unknown_fields_are_ignored_and_named(bench):
    answer = draw(bench, frobnicate=1, instant_response=True)
    assert answer.json["status"] == "success"
    assert answer.headers["Darkroom-Ignored"] == "frobnicate, instant_response"


# With the native API, and over pools


def test_one_job_reads_through_both_apis(bench):
    drawn = draw(bench, track_id="x").json
    native = bench.get(f"/v1/jobs/{drawn['id']}").json
    assert (native["status"], native["track_id"], native["outputs"][0]["seed"]) == ("succeeded", "x", 7)

    uid = bench.submit(width=64, height=64, seed=9, num_images=2, style_preset="anime")
    services.wait_until(lambda: bench.get(f"/v1/jobs/{uid}").json["status"] == "succeeded")
    body = send(bench, f"{BASE}/fetch/{uid}").json
    assert (body["status"], len(body["output"]), body["meta"]["seed"]) == ("success", 2, 9)
    assert "anime" in body["meta"]["prompt"]


def test_loadbalancer_lets_another_pool_take_the_job(bench, worker, valkey):
    other = rig.StubWorker(bench, valkey, node="worker@other", pool="other")
    other.start()
    try:
        short_wait(bench, 0)
        services.wait_until(lambda: valkey.zcard("{dr}:idle:other/demo") and valkey.zcard("{dr}:idle:default/demo"))
        worker.open.clear()
        # The account's own pool is as good, while it is idle; from its first job on it is not.
        own = draw(bench, loadbalancer="yes").json["id"]
        assert _lane(valkey, own) == "default/demo"
        waiting = draw(bench, loadbalancer="no").json["id"]
        elsewhere = draw(bench, loadbalancer="yes").json["id"]
        assert (_lane(valkey, waiting), _lane(valkey, elsewhere)) == ("default/demo", "other/demo")
        services.wait_until(lambda: send(bench, f"{BASE}/fetch/{elsewhere}").json["status"] == "success")
        assert send(bench, f"{BASE}/fetch/{waiting}").json["status"] == "processing"
        assert len(other.specs) == 1
        worker.open.set()
        services.wait_until(lambda: send(bench, f"{BASE}/fetch/{waiting}").json["status"] == "success")
    finally:
        other.stop()


def test_loadbalancer_passes_over_paused_pools_and_knows_the_model(bench, worker, valkey):
    worker.open.clear()
    assert bench.backlog.pool_for("demo", own="nowhere") == "default"
    assert bench.backlog.pool_for("another", own="mine") == "mine"
    valkey.hset("{dr}:lane:default", "paused", 1)
    assert bench.backlog.pool_for("demo", own="mine") == "mine"


def test_loadbalancer_counts_for_images_that_are_fetched(valkey, tmp_path):
    with (
        services.receiver() as receiver,
        rig.service(valkey, tmp_path, short_wait_s=20.0, outbound_allow=rig.LOOPBACK) as (bench, worker),
        rig.ingest(bench, valkey),
    ):
        receiver.replies += [services.Reply(headers={"Content-Type": "image/png"}, body=png("green"))] * 2
        other = rig.StubWorker(bench, valkey, node="worker@other", pool="other")
        other.start()
        try:
            services.wait_until(lambda: valkey.zcard("{dr}:idle:other/demo"))
            bench.redis.hset("{dr}:lane:default", "paused", 1)
            body = draw(bench, "img2img", init_image=f"{receiver.url}/a.png", loadbalancer="yes").json
            assert body["status"] == "success"
            assert (len(other.specs), worker.specs) == (1, [])
        finally:
            other.stop()


def _lane(valkey, uid):
    return valkey.hget(f"{{dr}}:j:{uid}", "lane")


# The small calls


@pytest.mark.parametrize("prefix", ENTERPRISE)
def test_models_are_listed_and_verified(bench, prefix):
    listed = send(bench, f"{prefix}/get_all_models").json
    assert "demo" in {model["model_id"] for model in listed}
    assert send(bench, f"{prefix}/verify_model", model_id="midjourney-v4-painta").json["status"] == "success"
    error(send(bench, f"{prefix}/verify_model", model_id="nothing"), 400, "model_id: there is no model 'nothing'")
    error(send(bench, f"{prefix}/verify_model"), 400, "model_id is required")


def test_the_queue_is_told_and_cleared(bench, worker):
    short_wait(bench, 0)
    other = bench.parts.accounts.create_key("bob")
    worker.open.clear()
    uids = [draw(bench).json["id"] for _ in range(3)]
    theirs = draw(bench, key=other.key).json["id"]
    details = send(bench, f"{BASE}/system_details").json
    models = send(bench, "/api/v4/dreambooth/model_list").json
    assert (details["status"], details["model_count"], details["queue_num"]) == ("ok", len(models), 3)
    assert details["queue_time"] > 0

    assert "3" in send(bench, f"{BASE}/clear_queue").json["message"]
    assert [send(bench, f"{BASE}/fetch/{uid}").json["status"] for uid in uids] == ["failed"] * 3
    assert send(bench, f"{BASE}/fetch/{theirs}", key=other.key).json["status"] == "processing"
    assert send(bench, f"{BASE}/system_details").json["queue_time"] == 0
    assert "0" in send(bench, f"{BASE}/clear_queue").json["message"]


def test_the_cache_is_none_and_the_server_is_the_operators(bench):
    assert "nothing" in send(bench, f"{BASE}/clear_cache").json["message"]
    for name in ("restart_server", "update_server", "update"):
        error(send(bench, f"{BASE}/{name}"), 403, "whoever runs it")


@pytest.mark.parametrize("image_type", [*IMAGE_TYPES, "image/png", "PNG", ".jpg", None])
def test_an_uploaded_image_is_an_init_image(bench, worker, image_type):
    answer = send(bench, f"{BASE}/upload_image", base64_image=INLINE, image_type=image_type)
    assert (answer.status_code, answer.json["status"]) == (200, "success")
    assert answer.json["link"].startswith("http://localhost/media/")
    assert open_link(bench, answer.json["link"]).getpixel((0, 0)) == (0, 0, 255)

    drawn = draw(bench, "img2img", init_image=answer.json["link"]).json
    assert drawn["status"] == "success"
    assert open_link(bench, drawn["meta"]["init_image"]).getpixel((0, 0)) == (0, 0, 255)
    assert worker.specs[-1].image.startswith("inputs/")


def test_an_output_is_an_init_image(bench):
    first = draw(bench).json["output"][0]
    second = draw(bench, "inpaint", init_image=first, mask_image=first).json
    assert open_link(bench, second["meta"]["init_image"]).getpixel((0, 0)) == (255, 0, 0)
    for forged in (first.replace("signature=", "signature=0"), first.replace("/0.png", "/1.png"), f"{first}x"):
        error(draw(bench, "img2img", init_image=forged), 400, "init_image: ")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "base64_image is required"),
        ({"base64_image": "https://example.com/a.png"}, "base64_image: "),
        ({"base64_image": "no base64!"}, "base64_image: "),
        ({"base64_image": base64.b64encode(b"GIF89a").decode()}, "base64_image: "),
        ({"base64_image": INLINE, "image_type": "gif"}, "image_type: "),
        ({"base64_image": INLINE, "image_type": 7}, "image_type: "),
    ],
)
def test_uploads_that_cannot_be(bench, fields, message):
    error(send(bench, f"{BASE}/upload_image", **fields), 400, message)


def test_every_error_of_ours_has_a_status_that_is_documented():
    kinds = [errors.RequestError, errors.ServiceError]
    for kind in kinds:
        kinds += kind.__subclasses__()
    for kind in kinds:
        fault = kind.__new__(kind)
        fault.message, fault.field, fault.retry_after_s = "why", "width", 5
        if kind.__name__ not in {"TimedOut", "WrongMethod"}:  # of calls that wait for the end; of HTTP itself
            assert render_error(fault, None).status in {400, 401, 402, 403, 404, 410, 413, 429, 503}, kind
