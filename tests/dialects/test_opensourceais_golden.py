"""OpenSourceAIs' golden files: a request, the job it comes to, and every answer and callback, as JSON."""

import json
import os
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from shared.accounts import Client
from shared.dialects.opensourceais import DIALECT, render_error
from shared.dialects.opensourceais_answers import callbacks, render_created, render_request
from shared.dialects.opensourceais_request import parse
from shared.errors import DarkroomError
from shared.job import Result, Status
from tests.dialects import gold
from tests.dialects.gold import PRICES

FOLDER = Path(__file__).parent / "golden/opensourceais"
NOTIFY, UPLOAD = "https://shop.example/notify", "https://shop.example/upload"
ACCOUNT = replace(gold.ACCOUNT, client=Client("a64f0c1d", notify_url=NOTIFY, upload_url=UPLOAD))
FAILURE = {"code": "generation_failed", "message": "The pipeline failed.", "retryable": False}
REQUESTS = sorted(path for path in FOLDER.glob("*.json") if path.name != "config.json")


def called(job):
    """Return a job's callbacks as they are sent."""
    return [
        {"url": call.url, "file": call.filename, "form": dict(call.fields)}
        if call.picture
        else {"url": call.url, "json": dict(call.fields)}
        for call in callbacks(job, gold.View.links)
    ]


def replay(request):
    route, args = gold.find(DIALECT, request["path"])
    assert route.parse is parse
    call = gold.call_of(request, args)
    try:
        order = parse(call, ACCOUNT)
    except DarkroomError as error:
        return {"refused": asdict(render_error(error, call))}
    done = gold.ended(order.submission)
    failed = gold.ended(order.submission, Status.FAILED, error=FAILURE)
    queued = done.evolve(status=Status.QUEUED, started_ms=None, finished_ms=None, result=Result())
    return {
        "spec": order.submission.spec.to_dict(),
        "options": dict(order.submission.options),
        "ignored": list(order.submission.ignored),
        "price": PRICES.of(order.submission),
        "created": asdict(render_created(done, gold.View())),
        "pending": asdict(render_request(queued, gold.View())),
        "done": asdict(render_request(done, gold.View())),
        "failed": asdict(render_request(failed, gold.View())),
        "callbacks_queued": called(queued),
        "callbacks_running": called(queued.evolve(status=Status.RUNNING)),
        "callbacks": called(done),
        "callbacks_failed": called(failed),
        "webhook": DIALECT.render_webhook(done, gold.View.links),
    }


@pytest.mark.parametrize("path", REQUESTS, ids=lambda path: path.stem)
def test_golden(path):
    golden = json.loads(path.read_text())
    found = json.loads(json.dumps({"request": golden["request"], **replay(golden["request"])}))
    if os.environ.get("WRITE_GOLDEN"):
        path.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n")
    assert found == json.loads(path.read_text())


def test_there_are_golden_files():
    assert len(REQUESTS) >= 6
