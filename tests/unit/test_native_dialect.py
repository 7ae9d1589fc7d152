import json

import pytest

from shared.dialects import PROVIDERS, WEBHOOKS, Links
from shared.dialects.native import render_job, render_webhook, rfc3339
from shared.job import Artifact, Job, Result, Status, Submission
from shared.spec import JobSpec
from shared.storage import SignedLink


class FakeStorage:
    """Signs nothing; says what it was asked."""

    def link(self, key: str, *, ttl_s: int, filename: str | None = None) -> SignedLink:
        return SignedLink(f"https://store.example/{key}?as={filename}&for={ttl_s}", 1_700_003_600_000)


@pytest.fixture
def links() -> Links:
    return Links(base_url="https://api.example", storage=FakeStorage(), ttl_s=3600)


def job(**changes) -> Job:
    given = {
        "uid": 1_700_000_000_123,
        "handle": "a" * 32,
        "account": "7",
        "status": Status.QUEUED,
        "submission": Submission(spec=JobSpec(prompt="a fox", seed=5, num_inference_steps=20), track_id="t-1"),
        "created_ms": 1_700_000_000_123,
        "position": 3,
        "waits_for": None,
        "eta_s": None,
    }
    return Job(**{**given, **changes})


def succeeded(**changes) -> Job:
    artifact = Artifact(
        key=f"results/{'a' * 32}/1/0.png", seed=5, width=512, height=512, content_type="image/png", bytes=9
    )
    result = Result(
        artifacts=(artifact,),
        parameters={"prompt": "a fox", "seed": [5]},
        timings={"generate": 1.23456, "store": 0.01},
    )
    given = {
        "status": Status.SUCCEEDED,
        "attempts": 1,
        "position": None,
        "waits_for": None,
        "eta_s": None,
        "started_ms": 1_700_000_001_123,
        "finished_ms": 1_700_000_003_623,
        "step": 19,
        "steps": 20,
        "result": result,
    }
    return job(**{**given, **changes})


def test_a_queued_job_shows_what_was_asked_and_where_it_stands(links):
    rendered = render_job(job(), links)

    assert rendered["uid"] == 1_700_000_000_123
    assert rendered["status"] == "queued"
    assert rendered["position"] == 3
    assert rendered["created_at"] == "2023-11-14T22:13:20.123Z"
    assert rendered["started_at"] is None
    assert rendered["parameters"]["prompt"] == "a fox"
    assert rendered["parameters"]["seed"] == 5
    assert rendered["parameters"]["width"] == 512
    assert "scheduler" not in rendered["parameters"]
    assert rendered["progress"] == {"step": 0, "steps": 20, "fraction": 0.0}
    assert rendered["outputs"] == []
    assert rendered["timings"] == {}
    assert rendered["error"] is None
    assert rendered["links"] == {
        "self": "https://api.example/v1/jobs/1700000000123",
        "events": "https://api.example/v1/jobs/1700000000123/events",
        "cancel": "https://api.example/v1/jobs/1700000000123/cancel",
    }


def test_a_running_job_shows_its_progress_and_how_long_it_waited(links):
    running = job(status=Status.RUNNING, started_ms=1_700_000_001_123, step=5, steps=20, attempts=1)

    rendered = render_job(running, links)

    assert rendered["progress"] == {"step": 5, "steps": 20, "fraction": 0.25}
    assert rendered["position"] is None
    assert rendered["timings"] == {"queued": 1.0}


def test_a_succeeded_job_shows_its_images_and_effective_parameters(links):
    rendered = render_job(succeeded(), links)

    assert rendered["outputs"] == [
        {
            "index": 0,
            "url": f"https://store.example/results/{'a' * 32}/1/0.png?as={'a' * 32}-0.png&for=3600",
            "seed": 5,
            "width": 512,
            "height": 512,
            "content_type": "image/png",
            "flagged": False,
            "expires_at": "2023-11-14T23:13:20.000Z",
        }
    ]
    assert rendered["parameters"] == {"prompt": "a fox", "seed": [5]}
    assert rendered["progress"]["fraction"] == 1.0
    assert rendered["timings"] == {"queued": 1.0, "generate": 1.235, "store": 0.01, "total": 3.5}


def test_links_to_images_never_hold_the_uid(links):
    output = render_job(succeeded(), links)["outputs"][0]

    assert "1700000000123" not in output["url"]


@pytest.mark.parametrize("given", [{}, {"retryable": True}])
def test_an_error_says_whether_trying_again_may_help(links, given):
    error = {"code": "out_of_memory", "message": "The device has too little memory for this job.", **given}
    failed = succeeded(status=Status.FAILED, result=Result(error=error))

    rendered = render_job(failed, links)

    assert rendered["error"] == {
        "code": "out_of_memory",
        "message": "The device has too little memory for this job.",
        "retryable": bool(given),
    }
    assert rendered["outputs"] == []
    assert rendered["progress"]["fraction"] == 0.95


@pytest.mark.parametrize("track_id", ["7", 7, None, "ключ"])
def test_the_webhook_gives_the_track_id_back_with_its_type(links, track_id):
    submission = Submission(spec=JobSpec(prompt="a fox", seed=5), track_id=track_id)

    body = json.loads(json.dumps(render_webhook(succeeded(submission=submission), links)))

    assert body["track_id"] == track_id
    assert type(body["track_id"]) is type(track_id)


def test_the_webhook_tells_the_outcome(links):
    body = render_webhook(succeeded(), links)

    assert set(body) == {
        "uid", "status", "track_id", "created_at", "started_at", "finished_at", "outputs", "timings", "error"
    }  # fmt: skip
    assert body["uid"] == 1_700_000_000_123
    assert body["status"] == "succeeded"
    assert body["outputs"] == render_job(succeeded(), links)["outputs"]


def test_a_list_of_seeds_stays_a_list(links):
    submission = Submission(spec=JobSpec(prompt="a fox", seed=(5, 9), num_images=2))

    assert render_job(job(submission=submission), links)["parameters"]["seed"] == [5, 9]


def test_times_keep_their_milliseconds():
    assert rfc3339(1_700_000_000_007) == "2023-11-14T22:13:20.007Z"
    assert rfc3339(None) is None


def test_every_dialect_is_listed_under_its_own_name():
    assert all(name == dialect.name for name, dialect in PROVIDERS.items())
    assert Submission(spec=JobSpec(prompt="x")).dialect in WEBHOOKS
