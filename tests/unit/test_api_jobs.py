"""Reading, listing, cancelling and erasing jobs; fetching images; models and health."""

import fakeredis
import pytest

from shared.job import Status
from tests.apibench import ApiBench, png

FAILURE = {"code": "out_of_memory", "message": "The device has too little memory.", "retryable": False}


@pytest.fixture
def bench(tmp_path):
    made = ApiBench(fakeredis.FakeRedis(decode_responses=True), tmp_path)
    yield made
    made.parts.hub.close()


def test_a_queued_job(bench):
    uid = bench.submit(seed=7, track_id="order-1")

    answer = bench.get(f"/v1/jobs/{uid}")

    assert answer.status_code == 200
    assert answer.headers["Retry-After"] == "1"
    job = answer.json
    assert (job["uid"], job["status"], job["track_id"]) == (uid, "queued", "order-1")
    assert job["position"] == 0
    assert job["parameters"]["seed"] == 7
    assert job["outputs"] == []
    assert job["started_at"] is None
    assert job["error"] is None


def test_a_finished_job_links_to_its_images(bench):
    uid = bench.submit(seed=7, num_images=2)
    bench.draw()

    answer = bench.get(f"/v1/jobs/{uid}")

    assert "Retry-After" not in answer.headers
    job = answer.json
    assert job["status"] == "succeeded"
    assert [output["seed"] for output in job["outputs"]] == [7, 8]
    for output in job["outputs"]:
        assert output["url"].startswith("http://localhost/media/results/")
        assert str(uid) not in output["url"]
        assert output["expires_at"].endswith("Z")
        opened = bench.client.get(output["url"])  # without a key
        assert (opened.status_code, opened.mimetype, opened.data) == (200, "image/png", png())
        assert opened.headers["X-Content-Type-Options"] == "nosniff"
        assert opened.headers["Cache-Control"].startswith("private")


def test_links_follow_the_host_the_caller_used(bench):
    uid = bench.submit()
    bench.draw()

    job = bench.client.get(f"/v1/jobs/{uid}", base_url="https://pictures.example:8443", headers=bench.headers).json

    assert job["links"]["self"] == f"https://pictures.example:8443/v1/jobs/{uid}"
    assert job["outputs"][0]["url"].startswith("https://pictures.example:8443/media/")


def test_links_bear_the_public_url(tmp_path):
    redis = fakeredis.FakeRedis(decode_responses=True)
    bench = ApiBench(redis, tmp_path, public_url="https://pictures.example/api")
    uid = bench.submit()
    bench.draw()

    job = bench.get(f"/v1/jobs/{uid}").json

    assert job["links"]["self"] == f"https://pictures.example/api/v1/jobs/{uid}"
    assert job["outputs"][0]["url"].startswith("https://pictures.example/api/media/")


def test_a_failed_job_says_why(bench):
    uid = bench.submit()
    bench.draw(Status.FAILED, FAILURE)

    job = bench.get(f"/v1/jobs/{uid}").json

    assert (job["status"], job["error"]) == ("failed", FAILURE)


def test_an_unchanged_job_is_not_sent_again(bench):
    uid = bench.submit()
    etag = bench.get(f"/v1/jobs/{uid}").headers["ETag"]

    same = bench.get(f"/v1/jobs/{uid}", **{"If-None-Match": etag})
    bench.begin()
    changed = bench.get(f"/v1/jobs/{uid}", **{"If-None-Match": etag})

    assert (same.status_code, same.data, same.headers["ETag"]) == (304, b"", etag)
    assert "Content-Type" not in same.headers
    assert changed.status_code == 200
    assert changed.headers["ETag"] != etag


def test_a_job_is_sent_again_before_its_links_expire(bench, monkeypatch):
    uid = bench.submit()
    bench.draw()
    etag = bench.get(f"/v1/jobs/{uid}").headers["ETag"]
    then = __import__("time").time() + bench.settings.link_ttl_s / 2

    monkeypatch.setattr("api.native.time.time", lambda: then)

    assert bench.get(f"/v1/jobs/{uid}", **{"If-None-Match": etag}).status_code == 200


@pytest.mark.parametrize("path", ["", "/events", "/images/0", "/cancel"])
def test_another_accounts_job_does_not_exist(bench, path):
    uid = bench.submit()
    stranger = bench.key_of("mallory")
    method = "POST" if path == "/cancel" else "GET"

    answer = bench.client.open(f"/v1/jobs/{uid}{path}", method=method, headers=stranger)

    assert (answer.status_code, answer.json["code"]) == (404, "job_not_found")
    assert bench.client.delete(f"/v1/jobs/{uid}", headers=stranger).status_code == 404
    assert bench.client.get("/v1/jobs", headers=stranger).json == {"data": [], "next_cursor": None}


@pytest.mark.parametrize("uid", [0, 1, 10**30])
def test_no_such_job(bench, uid):
    answer = bench.get(f"/v1/jobs/{uid}")

    assert (answer.status_code, answer.json["code"]) == (404, "job_not_found")


@pytest.mark.parametrize("wait", ["-1", "61", "soon", "1.5", ""])
def test_a_wait_has_bounds(bench, wait):
    answer = bench.get(f"/v1/jobs/{bench.submit()}?wait={wait}")

    assert (answer.status_code, answer.json["field"]) == (400, "wait")


def test_cancelling_ends_a_job_and_may_be_repeated(bench):
    uid = bench.submit()

    for _ in range(2):
        answer = bench.post(f"/v1/jobs/{uid}/cancel")
        assert (answer.status_code, answer.json["status"]) == (200, "cancelled")


def test_a_finished_job_is_erased_with_its_files(bench, tmp_path):
    uid = bench.submit()
    bench.draw()
    url = bench.get(f"/v1/jobs/{uid}").json["outputs"][0]["url"]

    answer = bench.delete(f"/v1/jobs/{uid}")

    assert (answer.status_code, answer.data) == (204, b"")
    assert bench.get(f"/v1/jobs/{uid}").status_code == 404
    assert bench.client.get(url).status_code == 404
    assert not list(tmp_path.rglob("*.png"))


def test_an_unfinished_job_is_not_erased(bench):
    uid = bench.submit()

    answer = bench.delete(f"/v1/jobs/{uid}")

    assert (answer.status_code, answer.json["code"]) == (409, "not_finished")
    assert bench.get(f"/v1/jobs/{uid}").status_code == 200


def test_jobs_are_listed_in_pages(bench):
    uids = [bench.submit() for _ in range(5)]
    seen, cursor = [], ""
    for _ in range(10):
        page = bench.get(f"/v1/jobs?limit=2{cursor}").json
        seen += [job["uid"] for job in page["data"]]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"

    assert seen == uids[::-1]


def test_jobs_are_found_by_status_and_reference(bench):
    cancelled, text, number = bench.submit(), bench.submit(track_id="7"), bench.submit(track_id=7)
    bench.post(f"/v1/jobs/{cancelled}/cancel")

    def found(query):
        return [job["uid"] for job in bench.get(f"/v1/jobs?{query}").json["data"]]

    assert found("status=cancelled") == [cancelled]
    assert found("status=queued") == [number, text]
    assert found("track_id=7") == [number, text]
    assert found("track_id=7&limit=1") == [number]
    assert found("track_id=nope") == []
    page = bench.get("/v1/jobs?track_id=7&limit=1").json
    assert found(f"track_id=7&cursor={page['next_cursor']}") == [text]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("status=done", "status"),
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("cursor=abc", "cursor"),
        ("stauts=queued", "stauts"),
        ("track_id=" + "a" * 256, "track_id"),
    ],
)
def test_a_wrong_query_is_refused_by_name(bench, query, field):
    answer = bench.get(f"/v1/jobs?{query}")

    assert (answer.status_code, answer.json["field"]) == (400, field)


def test_an_image(bench):
    uid = bench.submit(num_images=2)
    bench.draw()
    handle = bench.backlog.read(uid, account=bench.credentials.account).handle

    answer = bench.get(f"/v1/jobs/{uid}/images/1")

    assert (answer.status_code, answer.mimetype, answer.data) == (200, "image/png", png())
    assert answer.headers["Content-Disposition"] == f"inline; filename={handle}-1.png"
    again = bench.get(f"/v1/jobs/{uid}/images/1", **{"If-None-Match": answer.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")
    assert bench.get(f"/v1/jobs/{uid}/images/2").json["code"] == "image_not_found"


def test_an_image_that_may_still_come(bench):
    uid = bench.submit()

    answer = bench.get(f"/v1/jobs/{uid}/images/0")

    assert (answer.status_code, answer.json["code"]) == (409, "not_finished")
    assert answer.headers["Retry-After"] == "1"
    assert bench.get(f"/v1/jobs/{uid}/images/1").status_code == 404


def test_an_image_that_will_never_come(bench, tmp_path):
    failed = bench.submit()
    bench.draw(Status.FAILED, FAILURE)
    lost = bench.submit()
    bench.draw()
    next(tmp_path.rglob("*.png")).unlink()

    for uid in (failed, lost):
        answer = bench.get(f"/v1/jobs/{uid}/images/0")
        assert (answer.status_code, answer.json["code"]) == (404, "image_not_found")


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        (lambda url: url.replace("signature=", "signature=A"), 403, "link_invalid"),
        (lambda url: url.replace("expires=1", "expires=9"), 403, "link_invalid"),
        (lambda url: url.replace("/0.png", "/1.png"), 403, "link_invalid"),
        (lambda url: url.replace("/results/", "/../results/"), 403, "link_invalid"),
        (lambda url: url.replace("filename=", "filename=evil"), 403, "link_invalid"),
        (lambda url: url.partition("?")[0], 403, "link_invalid"),
        (lambda url: url.partition("expires=")[0] + "expires=soon&signature=x", 403, "link_invalid"),
    ],
)
def test_a_changed_link_opens_nothing(bench, change, status, code):
    uid = bench.submit()
    bench.draw()
    url = bench.get(f"/v1/jobs/{uid}").json["outputs"][0]["url"]

    answer = bench.client.get(change(url))

    assert (answer.status_code, answer.json["code"]) == (status, code)


def test_a_link_expires(bench, monkeypatch):
    uid = bench.submit()
    bench.draw()
    url = bench.get(f"/v1/jobs/{uid}").json["outputs"][0]["url"]
    later = __import__("time").time() + bench.settings.link_ttl_s + 1

    monkeypatch.setattr("shared.storage.disk.time.time", lambda: later)

    assert bench.client.get(url).json["code"] == "link_expired"


def test_models(bench):
    (model,) = (model for model in bench.get("/v1/models").json["data"] if model["name"] == "demo")

    assert model["default"] is True
    assert model["max_pixels"] == 2_359_296
    assert "sd-v1-4.ckpt" in model["aliases"]
    assert "EulerDiscreteScheduler" in model["schedulers"]


def test_health(bench):
    assert bench.client.get("/healthz").json == {"status": "ok"}
    unready = bench.client.get("/readyz")
    assert (unready.status_code, unready.json) == (503, {"status": "unready", "missing": ["worker", "courier"]})

    bench.backlog.hello("courier@bench", "1", pool="ingest", models=["fetch"])
    assert bench.client.get("/readyz").json["missing"] == ["worker"]
    bench.backlog.hello("worker@bench", "1", pool="default", models=["demo"])

    ready = bench.client.get("/readyz")
    assert (ready.status_code, ready.json) == (200, {"status": "ready", "missing": []})
