"""Whatever the OpenAPI document lets a client send, and what it does not: no 5xx, and no answer it does not tell.

schemathesis makes the requests out of the document, at each bound and beyond it, and judges the answers by it. A worker
draws small pictures at once, so that what a call gives is judged too.
"""

import logging
import re
from copy import deepcopy

import pytest
import requests
import schemathesis
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import Status, events, from_schema

from tests.dialects import rig

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
)
#: The same routes under other paths.
ALIASES = (
    r"^/api/(v1/enterprise/(images|realtime|image_editing)|v3|v4|v5|v6)/|^/api/v[34]/dreambooth"
    r"|^/generate/controlnet-sd$|^/v1(beta|alpha)/"
)
#: Bodies of so many fields that going to the bounds of each takes minutes. Their readers' own tests do so too.
LARGE = (
    r"^/v1/(jobs|batches)$|/(text2img|img2img|inpaint|controlnet|textToImage|imageToImage)$|^/generate/|/ai/|/v1/gen"
)
#: schemathesis reads a stream's schema as that of its events, which OpenAPI has from 3.2 on.
STREAM = "GET /v1/jobs/{uid}/events"


class TinyWorker(rig.StubWorker):
    """Draws a picture of one size, whatever is asked for."""

    def size(self, _spec):
        return 8, 8


@pytest.fixture(scope="module")
def served(valkey_server, tmp_path_factory):
    """The API's address and a key's headers."""
    with pytest.MonkeyPatch.context() as patch, valkey_server.client(socket_timeout=30) as redis:
        patch.setattr("api.events.BLOCK_MS", 50)
        redis.flushall()
        folder = tmp_path_factory.mktemp("api")
        service = rig.service(redis, folder, kind=TinyWorker, sync_wait_s=60.0, short_wait_s=0.0)
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        with service as (bench, _), rig.listening(bench) as url:
            yield url, bench.headers


@pytest.fixture
def document(served):
    return requests.get(f"{served[0]}/openapi.json", timeout=30).json()


def part(document, *, only="", but="$^"):
    """Return the document with the paths that fit `only` and not `but`; schemathesis' own filters are alternatives."""
    paths = document["paths"].items()
    return {
        **document,
        "paths": {path: told for path, told in paths if re.search(only, path) and not re.search(but, path)},
    }


def run(document, served, *, examples, bounds):
    """Return how many requests were made, and what was wrong with their answers."""
    url, headers = served
    config = SchemathesisConfig.from_dict(
        {
            "base-url": url,
            "headers": headers,
            "cache": {"enabled": False},
            "checks": {"enabled": False, **{name: {"enabled": True} for name in CHECKS}},
            "operations": [{"include-name": STREAM, "checks": {"response_schema_conformance": {"enabled": False}}}],
            "generation": {
                "max-examples": examples,
                "deterministic": True,
                "no-shrink": True,
                "database": "none",
                "with-security-parameters": False,  # what opens nothing is judged elsewhere
            },
            "phases": {
                "examples": {"enabled": True},
                "coverage": {"enabled": bounds, "unexpected-methods": []},
                "fuzzing": {"enabled": examples > 0},
                "stateful": {"enabled": False},
            },
        }
    )
    schema = schemathesis.openapi.from_dict(document, config=config)
    requests_made, wrong = 0, []
    for event in from_schema(schema).execute():
        assert not isinstance(event, events.NonFatalError | events.FatalError), event
        if isinstance(event, events.ScenarioFinished):
            requests_made += len(event.recorder.interactions)
            wrong += _failures(event.recorder)
    return requests_made, wrong


def _failures(recorder):
    for case, found in recorder.checks.items():
        request = recorder.interactions[case].request
        for check in found:
            if check.status is Status.FAILURE:
                told = check.failure_info.failure
                yield f"{request.method} {request.uri} {request.body!r}\n{told.title}\n{told.message}"


def test_every_call_is_answered_as_the_document_says(document, served):
    made, wrong = run(part(document, but=ALIASES), served, examples=3, bounds=False)

    assert not wrong, "\n\n".join(wrong)
    assert made > 150


def test_the_smaller_calls_are_answered_so_at_their_bounds(document, served):
    made, wrong = run(part(document, but=f"{ALIASES}|{LARGE}"), served, examples=0, bounds=True)

    assert not wrong, "\n\n".join(wrong)
    assert made > 500


def test_an_answer_that_the_document_does_not_tell_is_noticed(document, served):
    poorer = deepcopy(part(document, only="^/api/v1/public/config"))
    del poorer["paths"]["/api/v1/public/config/{engine}"]["get"]["responses"]["404"]

    _, wrong = run(poorer, served, examples=0, bounds=True)

    assert any("Undocumented status code" in each for each in wrong)
