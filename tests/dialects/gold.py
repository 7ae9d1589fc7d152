"""Golden files: a request, and all that a dialect makes of it, as JSON that people can read.

A file holds `request` (method, path, headers, and json or form and files); what follows from it is compared with the
rest of the file, or written to it where WRITE_GOLDEN is set. The job is fixed, so that nothing depends on a clock.
"""

import base64
import json
import os
import re

from shared.accounts import Account
from shared.dialects.base import Call, Dialect, Submit
from shared.dialects.links import Links
from shared.job import Artifact, Job, Result, Status
from shared.ledger import Prices
from shared.settings import Settings
from shared.storage import SignedLink

#: As they are shipped.
PRICES = Prices.load(Settings())

ACCOUNT = Account("1", "alice", "paid", "default", ())
HANDLE = "0123456789abcdef0123456789abcdef"
UID = 1_700_000_000_000
BASE_URL = "https://darkroom.example"


class Shelf:
    """A storage of which only the links are seen."""

    def link(self, key, *, ttl_s, filename=None):
        return SignedLink(f"{BASE_URL}/media/{key}?filename={filename}", UID + 1000 * ttl_s)


class View:
    links = Links(base_url=BASE_URL, storage=Shelf(), ttl_s=3600)

    def image(self, artifact):
        return f"picture {artifact.seed}".encode()


def replay(dialect: Dialect, request: dict) -> dict:
    """Return what the dialect makes of a request: spec, options, price, and the answers when the job has ended."""
    route, args = find(dialect, request["path"])
    call = call_of(request, args)
    order = route.parse(call, ACCOUNT)
    reply = route.render(ended(order.submission), View())
    return {
        "spec": order.submission.spec.to_dict(),
        "inputs": sorted(order.inputs),
        "options": dict(order.submission.options),
        "ignored": list(order.submission.ignored),
        "wait": str(route.wait(call)),
        "price": PRICES.of(order.submission),
        "response": {
            "status": reply.status,
            "headers": dict(reply.headers),
            "content_type": reply.content_type,
            "body": base64.b64encode(reply.body).decode() if isinstance(reply.body, bytes) else reply.body,
        },
        "webhook": dialect.render_webhook(ended(order.submission), View.links),
    }


def check(dialect: Dialect, path) -> None:
    """Compare a golden file with what comes of its request today."""
    golden = json.loads(path.read_text())
    found = json.loads(json.dumps({"request": golden["request"], **replay(dialect, golden["request"])}))
    if os.environ.get("WRITE_GOLDEN"):
        path.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n")
    assert found == json.loads(path.read_text())


def call_of(request: dict, args=()) -> Call:
    """Return a request as the API hands it to a dialect."""
    return Call(
        method=request.get("method", "POST"),
        args=dict(args),
        headers={name.lower(): value for name, value in request.get("headers", {}).items()},
        body=json.dumps(request["json"]).encode() if "json" in request else b"",
        form=request.get("form", {}),
        files={name: base64.b64decode(data) for name, data in request.get("files", {}).items()},
    )


def find(dialect: Dialect, path: str) -> tuple[Submit, dict]:
    """Return the dialect's route of a path, and the path's variable parts."""
    for route in dialect.routes:
        pattern = re.sub(r"<(\w+)>", r"(?P<\1>[^/]+)", route.path)
        if isinstance(route, Submit) and (match := re.fullmatch(pattern, path)):
            return route, match.groupdict()
    raise LookupError(path)


def ended(submission, status=Status.SUCCEEDED, error=None, flagged=()) -> Job:
    """Return a job that has ended, its images seeded 7, 8, … or as asked."""
    spec = submission.spec
    seeds = (7 if spec.seed is None else spec.seed,) if not isinstance(spec.seed, tuple) else spec.seed
    drawn = spec.evolve(seed=seeds[0] if len(seeds) == 1 else tuple(7 if seed is None else seed for seed in seeds))
    artifacts = tuple(
        Artifact(
            key=f"results/{HANDLE}/1/{index}.{spec.output_format}",
            seed=seed,
            width=spec.width,
            height=spec.height,
            content_type=f"image/{spec.output_format}",
            bytes=9,
            flagged=index in flagged,
        )
        for index, seed in enumerate(drawn.image_seeds() if drawn.seed != () else ())
    )
    result = Result(artifacts=artifacts, timings={"generate": 1.25, "store": 0.5})
    return Job(
        uid=UID,
        handle=HANDLE,
        account=ACCOUNT.id,
        status=status,
        submission=submission,
        created_ms=UID,
        started_ms=UID + 100,
        finished_ms=UID + 2000,
        result=result if status is Status.SUCCEEDED else Result(error=error),
    )
