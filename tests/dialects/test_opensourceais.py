"""OpenSourceAIs over HTTP: the login, the config, the backlog and every documented error, on a real Valkey."""

import io
import json
import re
from ipaddress import ip_network
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from PIL import Image
from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from shared.dialects import opensourceais
from shared.errors import JobGone, TaskNotAvailable
from shared.job import Submission
from shared.spec import JobSpec
from tests.apibench import png
from tests.dialects import rig
from tests.dialects.gold import PRICES
from tests.services import Reply, free_port, receiver, wait_until

LOGIN, DEMO = "/api/v1/public/client/login", "/api/v1/public/client/demo"
CLIENT, SUBMIT = "/api/v1/private/client", "/api/v1/private/client/ai/diffusion"
CONFIG = "/api/v1/public/config/diffusion"
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
GOLDEN = Path(__file__).parent / "golden/opensourceais"


def log_in(bench, credentials=None):
    made = credentials or bench.credentials
    answer = bench.client.post(LOGIN, json={"token": made.client_token, "secret": made.secret})
    assert answer.status_code == 201, answer.text
    return {"Authorization": f"Bearer {answer.json['data']['authToken']}"}


def submit(bench, headers=None, **fields):
    return bench.client.post(SUBMIT, json={"word": "a fox", **fields}, headers=headers or bench.headers)


def poll(bench, uid, headers=None):
    return bench.client.get(f"/api/v1/private/client/request/{uid}", headers=headers or bench.headers)


def ended(bench, uid, headers=None):
    return wait_until(lambda: (data := poll(bench, uid, headers).json["data"]).get("ended_at") and data, timeout_s=20)


def refused(answer, status, text, name="statusText"):
    assert answer.status_code == status, answer.text
    assert answer.content_type == "application/json"
    assert answer.json == {"data": None, "status": status, name: text}


def test_the_config_is_the_documents_byte_for_byte(bench):
    answer = bench.client.get(CONFIG)

    assert (answer.status_code, answer.content_type) == (200, "application/json")
    assert answer.data == (GOLDEN / "config.json").read_bytes()
    assert list(answer.json["data"]) == [
        *("engine", "version", "name", "description", "isFree", "requiresGPU", "aParam"),
    ]


def test_another_engine_has_no_config(bench):
    refused(bench.client.get("/api/v1/public/config/gfpgan"), 404, "There is no such AI engine.")


def test_a_login_opens_the_private_routes_for_three_days(bench):
    made = bench.credentials
    answer = bench.client.post(LOGIN, json={"token": made.client_token, "secret": made.secret})

    assert answer.status_code == 201
    data = answer.json["data"]
    assert (data["token"], data["duration"]) == (made.client_token, "72h")
    headers = {"Authorization": f"Bearer {data['authToken']}"}
    known = bench.client.get(CLIENT, headers=headers)
    assert known.status_code == 200
    assert known.json["data"]["token"] == made.client_token
    assert known.json["data"]["user"]["username"] == "alice"
    assert submit(bench, headers).status_code == 201


def test_a_login_may_come_as_a_form(bench):
    made = bench.credentials
    answer = bench.client.post(LOGIN, data={"token": made.client_token, "secret": made.secret})
    assert answer.status_code == 201


def test_an_api_key_works_too_and_names_its_client(bench):
    answer = bench.client.get(CLIENT, headers=bench.headers)
    assert answer.json["data"]["token"] == bench.credentials.client_token
    assert answer.json["data"]["user"] == {
        "uid": bench.credentials.account,
        "username": "alice",
        "plan": "paid",
        "isFree": False,
        "credits": None,
    }


@pytest.mark.parametrize(
    ("body", "status", "name", "text"),
    [
        ({"secret": "x"}, 400, "statusText", "Token required"),
        ({"token": "", "secret": "x"}, 400, "statusText", "Token required"),
        ({"token": 7, "secret": "x"}, 400, "statusText", "Token required"),
        ({}, 400, "statusText", "Token required"),
        ({"token": "nobody", "secret": "x"}, 404, "message", "Could not find client"),
        ({"token": "\ud800", "secret": "x"}, 404, "message", "Could not find client"),
        ({"token": None}, 400, "statusText", "Token required"),
    ],
)
def test_logins_that_fail(bench, body, status, name, text):
    refused(bench.client.post(LOGIN, json=body), status, text, name)


@pytest.mark.parametrize("secret", ["wrong", None, 7, "\ud800"])
def test_a_wrong_secret(bench, secret):
    body = {"token": bench.credentials.client_token, "secret": secret}
    refused(bench.client.post(LOGIN, json=body), 401, "Invalid secret", "message")


@pytest.mark.parametrize("header", [None, "", "Bearer ", "Bearer wrong", "Bearer a.b.c", "Basic YTpi", "Bearer \u00e9"])
def test_a_client_token_is_required(bench, header):
    headers = {} if header is None else {"Authorization": header}
    for answer in (
        bench.client.post(SUBMIT, json={"word": "x"}, headers=headers),
        bench.client.get(CLIENT, headers=headers),
        bench.client.get("/api/v1/private/client/request/1", headers=headers),
    ):
        refused(answer, 400, "A client token is required")


def test_a_session_that_is_too_old_or_forged_opens_nothing(bench, monkeypatch):
    headers = log_in(bench)
    assert bench.client.get(CLIENT, headers=headers).status_code == 200
    first, rest = headers["Authorization"].split(".", 1)
    forged = {"Authorization": f"{first}x.{rest}"}
    refused(bench.client.get(CLIENT, headers=forged), 400, "A client token is required")
    monkeypatch.setattr("shared.sessions.SESSION_S", -1)
    refused(bench.client.get(CLIENT, headers=headers), 400, "A client token is required")


def test_there_is_no_demo_unless_the_operator_makes_one(bench):
    refused(bench.client.post(DEMO), 403, "Demo clients are not allowed here.")

    made = bench.parts.accounts.create_key("visitors", plan="free", demo=True)
    answer = bench.client.post(DEMO, json={})

    assert answer.status_code == 201
    assert answer.json["data"]["token"] == made.client_token
    headers = {"Authorization": f"Bearer {answer.json['data']['authToken']}"}
    assert bench.client.get(CLIENT, headers=headers).json["data"]["user"]["isFree"] is True
    assert submit(bench, headers, steps=100).status_code == 201
    refused(submit(bench, headers, steps=101), 400, "steps: at most 100 with free access")


def test_a_request_is_taken_drawn_and_answered(bench, worker):
    worker.open.clear()
    answer = submit(bench, log_in(bench), steps=3, seed=7, cimg=2)

    assert answer.status_code == 201
    assert list(answer.json) == ["data"]
    assert set(answer.json["data"]) == {"uid", "created_at"}
    uid = answer.json["data"]["uid"]
    assert isinstance(uid, int)
    assert TIME.fullmatch(answer.json["data"]["created_at"])

    waiting = poll(bench, uid).json["data"]
    assert (waiting["uid_backlog"], waiting["ai_engine"], waiting["response"]) == (uid, "diffusion", [])
    assert not set(waiting) & {"started_at", "ended_at", "error"}
    assert waiting["client_token"] == bench.credentials.client_token
    assert waiting["params"] == {
        "word": "a fox",
        "width": 320,
        "height": 320,
        "model": "sd-v1-4.ckpt",
        "cimg": 2,
        "guidance": 7.5,
        "seed": 7,
        "steps": 3,
        "uid_backlog": uid,
    }

    worker.open.set()
    done = ended(bench, uid)
    assert [one["cycle"] for one in done["response"]] == [0, 1]
    assert TIME.fullmatch(done["started_at"])
    assert TIME.fullmatch(done["ended_at"])
    assert done["cost_in_sec"] in {0, 1}
    assert "error" not in done


def test_pictures_are_behind_their_links_and_saved_as_output_says(bench):
    for output, count, expected in (
        (None, 1, ["output_{uid}.png"]),
        ("$output_uid.ext", 2, ["output_{uid}-0.png", "output_{uid}-1.png"]),
        ("cat.JPG", 1, ["cat.png"]),
        ("..a$b", 1, ["a_b.png"]),
        (".png", 1, ["output.png"]),
        ("...", 1, ["output.png"]),
    ):
        uid = submit(bench, steps=1, cimg=count, output=output).json["data"]["uid"]
        links = [one["filename"] for one in ended(bench, uid)["response"]]
        names = [parse_qs(urlsplit(link).query)["filename"][0] for link in links]
        assert names == [name.format(uid=uid) for name in expected]
        for link, name in zip(links, names, strict=True):
            found = bench.client.get(link.partition("localhost")[2])
            assert found.headers["Content-Disposition"].endswith(f"filename={name}")
            assert Image.open(io.BytesIO(found.data)).size == (320, 320)


def test_a_form_and_an_odd_accept_are_fine(bench, worker):
    answer = bench.client.post(
        SUBMIT, data={"word": "x", "steps": "2"}, headers={**bench.headers, "Accept": "text/plain"}
    )
    assert (answer.status_code, answer.content_type) == (201, "application/json")
    ended(bench, answer.json["data"]["uid"])
    assert (worker.specs[-1].num_inference_steps, worker.specs[-1].seed) == (2, 1)


def test_a_random_seed_is_drawn_and_told(bench, worker):
    uids = [submit(bench, seed="$random").json["data"]["uid"] for _ in range(2)]
    seeds = {poll(bench, uid).json["data"]["params"]["seed"] for uid in uids}
    assert len(seeds) == 2


def test_what_is_unknown_is_ignored_and_named(bench):
    answer = submit(bench, zoom=2)
    assert answer.status_code == 201
    assert answer.headers["Darkroom-Ignored"] == "zoom"


def test_bad_parameters_are_named(bench):
    refused(submit(bench, word=""), 400, "word: is required")
    refused(submit(bench, steps=201), 400, "steps: must lie between 1 and 200, not 201")
    refused(submit(bench, seed=1_000_001), 400, "seed: must lie between 1 and 1000000, not 1000001")
    answer = submit(bench, model="nothing")
    assert answer.status_code == 400
    assert answer.json["statusText"].startswith("model: there is no model 'nothing'")
    refused(bench.client.post(SUBMIT, data=b"{", headers=bench.headers), 400, "the body is not valid JSON")
    assert bench.job_count() == 0


def test_what_this_version_does_not_do_is_a_bad_parameter():
    answer = opensourceais.render_error(TaskNotAvailable("preview_every", "is not available"), None)
    assert answer.body == {"data": None, "status": 400, "statusText": "saveinterval: is not available"}


def test_another_engine_takes_no_requests(bench):
    answer = bench.client.post("/api/v1/private/client/ai/gfpgan", json={"word": "x"}, headers=bench.headers)
    refused(answer, 404, "There is no such AI engine.")


@pytest.mark.parametrize("url", ["http://pictures.example/a.png", "https://127.0.0.1/a.png", "http://10.0.0.1/a.png"])
def test_pictures_come_over_https_from_outside(bench, url):
    answer = submit(bench, url_upload=url)
    assert answer.status_code == 400
    assert answer.json["statusText"].startswith("url_upload: ")


def test_a_failure_is_told(bench, worker):
    worker.fail = {"code": "generation_failed", "message": "The pipeline failed.", "retryable": False}
    done = ended(bench, submit(bench).json["data"]["uid"])
    assert done["response"] == []
    assert done["error"] == {"code": "generation_failed", "message": "The pipeline failed."}


def test_a_cancelled_request_is_told_and_costs_no_seconds(bench, worker):
    worker.open.clear()
    uid = submit(bench).json["data"]["uid"]
    bench.post(f"/v1/jobs/{uid}/cancel")
    done = ended(bench, uid)
    assert (done["response"], done["cost_in_sec"], done["error"]["code"]) == ([], 0, "cancelled")


def test_anothers_request_is_denied_and_the_native_api_knows_nothing_of_it(bench):
    uid = submit(bench).json["data"]["uid"]
    bob = bench.key_of("bob")

    refused(poll(bench, uid, bob), 403, "Not your request, access denied")
    for path in (f"/v1/jobs/{uid}", "/v1/jobs/12345"):
        answer = bench.client.get(path, headers=bob)
        seen = {name: value for name, value in answer.json.items() if name != "request_id"}
        assert answer.status_code == 404
        assert seen == {
            "type": "/docs#job_not_found",
            "title": "There is no such job",
            "status": 404,
            "detail": "There is no such job.",
            "code": "job_not_found",
        }


@pytest.mark.parametrize("uid", ["1", "12345", "abc", "-1", "1.5", "9" * 17, "\u0663"])
def test_an_unknown_request(bench, uid):
    refused(poll(bench, uid), 404, "There is no such job.")


def test_a_request_past_its_retention_is_gone(bench, monkeypatch):
    uid = submit(bench).json["data"]["uid"]
    ended(bench, uid)
    job = bench.backlog.read(uid, account=bench.credentials.account)
    bench.backlog.bury(job, tombstone_s=60)
    refused(poll(bench, uid), JobGone.http_status, JobGone().message)
    refused(poll(bench, uid, bench.key_of("bob")), 403, "Not your request, access denied")


def test_a_full_backlog(valkey, tmp_path):
    with rig.service(valkey, tmp_path, backlog_limit=1) as (bench, worker):
        worker.open.clear()
        assert submit(bench).status_code == 201
        answer = submit(bench)
        refused(answer, 409, "Could not add to backlog")
        assert int(answer.headers["Retry-After"]) > 0


def test_a_backlog_that_is_away(bench):
    headers = log_in(bench)
    gone = Redis(port=free_port(), decode_responses=True, retry=Retry(NoBackoff(), 0))
    for owner in (bench.parts, bench.backlog, bench.parts.accounts):
        owner._redis = gone

    for given in (headers, bench.headers):
        answer = submit(bench, given)
        refused(answer, 409, "Could not add to backlog")
        assert int(answer.headers["Retry-After"]) > 0
    for answer in (bench.client.get(CLIENT, headers=headers), bench.client.post(DEMO)):
        refused(answer, 503, "The backlog cannot be reached.")
    gone.close()


def test_too_many_waiting(bench, worker):
    worker.open.clear()
    bench.redis.hset(f"{{dr}}:a:{bench.credentials.account}", "max_waiting", 1)
    assert submit(bench).status_code == 201
    answer = submit(bench)
    refused(answer, 429, "The account has as many waiting jobs as its plan allows.")
    assert "Retry-After" in answer.headers


def test_credits_are_taken_by_size_steps_and_pictures(bench):
    bench.parts.accounts.create_key("alice", credits_=1)
    ended(bench, submit(bench, width=512, height=512, steps=30, cimg=2).json["data"]["uid"])
    assert bench.parts.accounts.balance(bench.credentials.account) == 1000 - 300
    refused(submit(bench, steps=200, cimg=4), 402, "The account's credits do not cover this job.")
    assert bench.client.get(CLIENT, headers=bench.headers).json["data"]["user"]["credits"] == 0.7


@pytest.mark.parametrize(
    ("side", "steps", "cimg", "price"), [(512, 30, 1, 150), (320, 20, 4, 160), (768, 200, 1, 2250)]
)
def test_prices(side, steps, cimg, price):
    spec = JobSpec(prompt="x", width=side, height=side, num_inference_steps=steps, num_images=cimg)
    assert PRICES.of(Submission(spec=spec, dialect="opensourceais")) == price


def test_a_native_job_reads_here_and_the_other_way_round(bench):
    uid = bench.submit(width=64, height=64, num_inference_steps=2, seed=9)
    data = ended(bench, uid)
    assert data["params"]["word"] == "a red circle"
    assert (data["params"]["model"], data["params"]["seed"], len(data["response"])) == ("demo", 9, 1)

    uid = submit(bench, steps=2, seed=9).json["data"]["uid"]
    ended(bench, uid)
    native = bench.get(f"/v1/jobs/{uid}").json
    assert (native["status"], native["outputs"][0]["seed"]) == ("succeeded", 9)


class TestWithPictures:
    @pytest.fixture
    def service(self, valkey, tmp_path):
        allow = (ip_network("127.0.0.0/8"),)
        with rig.service(valkey, tmp_path, outbound_allow=allow) as (bench, worker), rig.ingest(bench, valkey):
            yield bench, worker

    @pytest.fixture
    def pictures(self):
        with receiver() as server:
            yield server

    def test_a_picture_by_its_url(self, bench, worker, pictures):
        pictures.replies.append(Reply(headers={"Content-Type": "image/png"}, body=png(size=(32, 48))))
        url = f"{pictures.url}/a.png"

        done = ended(bench, submit(bench, url_upload=url, steps=4).json["data"]["uid"])

        assert len(done["response"]) == 1
        assert (done["params"]["url_upload"], done["params"]["strength"]) == (url, 0.75)
        assert (worker.specs[-1].task, worker.specs[-1].strength) == ("image_to_image", 0.75)

    def test_only_png_and_jpeg_are_taken(self, bench, pictures):
        out = io.BytesIO()
        Image.new("RGB", (8, 8)).save(out, "WEBP")
        pictures.replies.append(Reply(headers={"Content-Type": "image/webp"}, body=out.getvalue()))

        done = ended(bench, submit(bench, url_upload=f"{pictures.url}/a.webp").json["data"]["uid"])

        assert done["error"]["message"] == "url_upload: must be a PNG or JPEG picture; this looks like WEBP"
        assert done["response"] == []

    def test_a_picture_that_is_not_there(self, bench, pictures):
        pictures.replies.append(Reply(status=404))
        done = ended(bench, submit(bench, url_upload=f"{pictures.url}/a.png").json["data"]["uid"])
        assert done["error"]["message"].startswith("url_upload: could not be fetched")


def test_a_field_of_anothers_api_changes_nothing(bench):
    answer = bench.client.post(SUBMIT, json={"word": "x", "prompt": "y"}, headers=bench.headers)
    uid = answer.json["data"]["uid"]
    assert answer.headers["Darkroom-Ignored"] == "prompt"
    assert json.loads(poll(bench, uid).data)["data"]["params"]["word"] == "x"
