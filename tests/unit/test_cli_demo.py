import io
import json
from datetime import UTC, datetime
from pathlib import Path

import click
import pytest
import requests
from rich.console import Console
from standardwebhooks import Webhook

from shared.cli.receiver import Receiver
from shared.cli.story import Story, bar, tell, verify
from shared.stack.stack import Address
from worker.demo_model.bundle import is_shipped

SECRET = "whsec_" + "c2VjcmV0" * 4
JOB = {
    "uid": 7,
    "status": "succeeded",
    "track_id": "mine",
    "finished_at": "2026-01-31T12:00:00.500Z",
    "timings": {"queued": 1.0, "load": 0.5, "generate": 3.5, "encode": 0.1, "store": 0.3, "total": 6.0},
    "outputs": [{"width": 8, "height": 8, "seed": 1, "url": "http://x"}],
}
ADDRESS = Address(api_url="http://a", flower_url="http://f", flower_auth="u:p", metrics_token="t", account={})


def post(url, body, *, secret=SECRET):
    now = datetime.now(UTC)
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(secret).sign("msg_1", now, body),
    }
    return requests.post(url, data=body, headers=headers, timeout=10)


@pytest.fixture
def receiver():
    with Receiver() as receiver:
        yield receiver


def test_a_signed_webhook_is_taken(receiver):
    body = json.dumps({name: JOB[name] for name in ("uid", "status", "track_id")})

    assert post(receiver.url, body).status_code == 204

    assert verify(receiver.wait(5), secret=SECRET, job=JOB)["uid"] == 7


def test_a_webhook_with_another_secrets_signature_is_refused(receiver):
    post(receiver.url, "{}", secret="whsec_" + "b3RoZXIx" * 4)

    with pytest.raises(click.ClickException, match="signature does not hold"):
        verify(receiver.wait(5), secret=SECRET, job=JOB)


def test_a_webhook_about_something_else_is_refused(receiver):
    post(receiver.url, json.dumps({"uid": 7, "status": "succeeded", "track_id": 1}))

    with pytest.raises(click.ClickException, match="track_id is 1, the job's 'mine'"):
        verify(receiver.wait(5), secret=SECRET, job=JOB)


def test_a_wait_ends_when_it_is_cancelled_or_nothing_comes(receiver):
    receiver.cancel()

    assert receiver.wait(5) is None
    assert receiver.wait(0.01) is None


def test_the_timeline_tells_every_stage_and_place(tmp_path):
    webhook_at = datetime(2026, 1, 31, 12, 0, 0, 750_000, tzinfo=UTC).timestamp()
    story = Story(job=JOB, set_up_s=2.0, webhook_at=webhook_at, picture=Path("demo.png"), address=ADDRESS)

    assert story.stages() == {"set-up": 2.0, "queued": 1.0, "generate": 4.0, "store": 0.4, "webhook": 0.25}

    told = io.StringIO()
    tell(Console(file=told, width=100), story, folder=tmp_path)
    for part in ("set-up", "4.000 s", "demo.png (8x8, seed 1)", "track_id mine", str(tmp_path)):
        assert part in told.getvalue()
    # Where the trained weights do not ship, whole, the picture is noise, and whoever looks at it is told so.
    assert ("drew noise" in told.getvalue()) is not is_shipped()


def test_a_bar_is_as_long_as_its_share_and_never_nothing():
    assert bar(1.0) == "█" * 40
    assert bar(0.5) == "█" * 20
    assert bar(0.0) == "▏"
