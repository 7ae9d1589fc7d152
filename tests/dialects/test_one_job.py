"""One job is one job: whoever submits it, every interface that reads jobs tells of the same one."""

import io

import fakeredis
import pytest
import requests
from PIL import Image

from api import events
from tests.dialects import rig
from tests.dialects.test_odd_clients import REQUESTS

DIALECTS = ["native", *REQUESTS]
#: Without what a dialect does by default and others cannot say.
PLAIN = {"modelslab": {"enhance_prompt": "no"}, "octoai": {"image_encoding": "png"}}
SUBMIT = {
    "native": ("/v1/jobs", {"prompt": "a red circle", "width": 64, "height": 64}),
    **{name: (path, {**body, **PLAIN.get(name, {})}) for name, (path, body) in REQUESTS.items()},
}


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(events, "BLOCK_MS", 50)
        redis, folder = fakeredis.FakeRedis(decode_responses=True), tmp_path_factory.mktemp("api")
        with rig.service(redis, folder, sync_wait_s=30.0, short_wait_s=20.0) as parts:
            yield parts


@pytest.fixture
def bench(service):
    return service[0]


def submitted(bench, dialect, **more):
    """Submit through a dialect; return the job as the native API has it once it has ended."""
    path, body = SUBMIT[dialect]
    answer = bench.post(path, {**body, **more})
    assert answer.status_code in {200, 201, 202}, answer.text
    newest = bench.get("/v1/jobs?limit=1").json["data"][0]["uid"]
    return bench.get(f"/v1/jobs/{newest}?wait=30").json


def polled(bench, uid):
    return bench.get(f"/api/v1/private/client/request/{uid}")


def fetched(bench, uid):
    return bench.post(f"/api/v1/enterprise/fetch/{uid}", {})


def seen(bench, link):
    """Return the pixels behind a link, which needs no key."""
    data = bench.client.get(link[link.index("/media/") :]).data
    return list(Image.open(io.BytesIO(data)).convert("RGB").resize((1, 1)).get_flattened_data())


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_job_that_succeeded(service, bench, dialect):
    job = submitted(bench, dialect)
    spec = service[1].specs[-1]

    assert (job["status"], job["parameters"]["prompt"]) == ("succeeded", "a red circle")
    (output,) = job["outputs"]
    assert (output["width"], output["height"], output["seed"]) == (spec.width, spec.height, spec.seed)

    poll = polled(bench, job["uid"]).json["data"]
    assert (poll["uid_backlog"], poll["params"]["word"], poll["params"]["seed"]) == (
        job["uid"],
        "a red circle",
        spec.seed,
    )
    assert (poll["params"]["width"], poll["params"]["steps"]) == (spec.width, spec.num_inference_steps)
    assert "ended_at" in poll

    fetch = fetched(bench, job["uid"]).json
    assert (fetch["status"], fetch["id"]) == ("success", job["uid"])
    assert (fetch["meta"]["prompt"], fetch["meta"]["seed"]) == ("a red circle", spec.seed)
    assert (fetch["meta"]["W"], fetch["meta"]["H"]) == (spec.width, spec.height)

    links = [output["url"], poll["response"][0]["filename"], fetch["output"][0]]
    assert seen(bench, links[0]) == seen(bench, links[1]) == seen(bench, links[2]) == [(255, 0, 0)]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_job_that_failed(service, bench, monkeypatch, dialect):
    monkeypatch.setattr(service[1], "fail", {"code": "generation_failed", "message": "It broke.", "retryable": False})
    path, body = SUBMIT[dialect]
    bench.post(path, body)
    newest = bench.get("/v1/jobs?limit=1").json["data"][0]["uid"]
    job = bench.get(f"/v1/jobs/{newest}?wait=30").json

    assert (job["status"], job["error"]["message"], job["outputs"]) == ("failed", "It broke.", [])
    poll = polled(bench, job["uid"]).json["data"]
    assert (poll["response"], poll["error"]) == ([], {"code": "generation_failed", "message": "It broke."})
    fetch = fetched(bench, job["uid"])
    assert (fetch.status_code, fetch.json) == (200, {"status": "failed", "id": job["uid"], "message": "It broke."})


@pytest.mark.parametrize("dialect", ["native", "opensourceais", "modelslab", "octoai"])
def test_a_job_that_waits(service, bench, dialect):
    bench_, worker = service
    worker.open.clear()
    bench.parts.settings = bench.settings.evolve(short_wait_s=0.05)
    try:
        path, body = SUBMIT[dialect]
        headers = {"X-OctoAI-Async": "1"} if dialect == "octoai" else {}
        assert bench_.post(path, body, **headers).status_code in {200, 201, 202}
        (job, *_) = bench.get("/v1/jobs?limit=1").json["data"]

        assert job["status"] == "queued"
        poll = polled(bench, job["uid"]).json["data"]
        assert (poll["response"], "ended_at" in poll) == ([], False)
        assert fetched(bench, job["uid"]).json["status"] == "processing"
        assert bench.post(f"/v1/jobs/{job['uid']}/cancel").json["status"] == "cancelled"
    finally:
        bench.parts.settings = bench.settings
        worker.open.set()

    assert polled(bench, job["uid"]).json["data"]["error"]["code"] == "cancelled"
    assert fetched(bench, job["uid"]).json["status"] == "failed"


def test_octoais_poll_reads_its_own_jobs_natively_too(service, bench):
    path, body = SUBMIT["octoai"]
    with rig.listening(bench) as address:
        asked = requests.post(
            address + path, json=body, headers={**bench.headers, "X-OctoAI-Async": "1"}, timeout=30
        ).json()
        newest = bench.get("/v1/jobs?limit=1").json["data"][0]["uid"]
        assert bench.get(f"/v1/jobs/{newest}?wait=30").json["status"] == "succeeded"
        poll = requests.get(asked["poll_url"], timeout=30).json()
        images = requests.get(poll["response_url"], timeout=30).json()["images"]

    assert poll["status"] == "completed"
    assert [image["seed"] for image in images] == [service[1].specs[-1].seed]
