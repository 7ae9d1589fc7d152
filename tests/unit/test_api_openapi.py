"""The OpenAPI document: valid, complete, and true of what is answered."""

import fakeredis
import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from shared.dialects import PROVIDERS
from shared.errors import DarkroomError, JobError
from shared.job import Status
from shared.spec import BOUNDS, JobSpec
from tests.apibench import ApiBench

#: The tags of the dialects, which have tests of their own.
FOREIGN = {dialect.manual.title for dialect in PROVIDERS.values()}
ROUTES = {
    ("/v1/jobs", "post"),
    ("/v1/jobs", "get"),
    ("/v1/jobs/{uid}", "get"),
    ("/v1/jobs/{uid}", "delete"),
    ("/v1/jobs/{uid}/events", "get"),
    ("/v1/jobs/{uid}/images/{index}", "get"),
    ("/v1/jobs/{uid}/cancel", "post"),
    ("/v1/jobs/{uid}/retry", "post"),
    ("/v1/account", "get"),
    ("/v1/keys", "get"),
    ("/v1/keys/{prefix}", "delete"),
    ("/v1/batches", "post"),
    ("/v1/batches", "get"),
    ("/v1/batches/{batch_id}", "get"),
    ("/v1/batches/{batch_id}/jobs", "get"),
    ("/v1/batches/{batch_id}/results", "get"),
    *((f"/v1/batches/{{batch_id}}/{action}", "post") for action in ("pause", "resume", "cancel", "retry")),
    ("/v1/models", "get"),
    ("/v1/assets", "get"),
    ("/v1/jobs/{uid}/deliveries", "get"),
    ("/v1/jobs/{uid}/redeliver", "post"),
    ("/v1/batches/{batch_id}/deliveries", "get"),
    ("/v1/batches/{batch_id}/redeliver", "post"),
    ("/v1/webhooks/deliveries", "get"),
    ("/v1/webhooks/dead", "get"),
    ("/v1/webhooks/disabled", "get"),
    ("/v1/webhooks/enable", "post"),
}


@pytest.fixture
def bench(tmp_path):
    made = ApiBench(fakeredis.FakeRedis(decode_responses=True), tmp_path)
    yield made
    made.parts.hub.close()


@pytest.fixture(scope="module")
def document(tmp_path_factory):
    made = ApiBench(fakeredis.FakeRedis(decode_responses=True), tmp_path_factory.mktemp("document"))
    yield made.client.get("/openapi.json").json
    made.parts.hub.close()


def test_it_is_written_when_it_is_first_asked_for(bench):
    def paths():
        return bench.app.extensions["flask-smorest"]["apis"][""]["ext_obj"].spec.to_dict()["paths"]

    assert paths() == {}
    first = bench.client.get("/openapi.json").json
    assert first["paths"].keys() == paths().keys() > {"/v1/jobs"}
    assert bench.client.get("/openapi.json").json == first


def test_it_is_valid(document):
    assert document["openapi"].startswith("3.1")
    validate(document)


def test_it_knows_every_route(document):
    known = {
        (path, method)
        for path, item in document["paths"].items()
        for method in item
        if method in ("get", "post", "put", "delete", "patch") and item[method]["tags"][0] not in FOREIGN
    }

    assert known == ROUTES


@pytest.mark.parametrize("name", BOUNDS)
def test_it_shows_every_bound(document, name):
    bounds, shown = BOUNDS[name], document["components"]["schemas"]["JobRequest"]["properties"][name]
    shown = next((each for each in shown.get("anyOf", ()) if "minimum" in each), shown)

    if "prompt" in name:
        assert (shown.get("minLength", 0), shown["maxLength"]) == (bounds.minimum, bounds.maximum)
    else:
        assert (shown["minimum"], shown["maximum"]) == (bounds.minimum, bounds.maximum)
        assert shown.get("multipleOf", 1) == bounds.multiple_of


def test_it_shows_every_default(document):
    properties = document["components"]["schemas"]["JobRequest"]["properties"]
    default = JobSpec(prompt="x")
    as_json = {"textual_inversions": {}}

    for name in set(JobSpec.__dataclass_fields__) - {"prompt"}:
        expected = as_json.get(name, getattr(default, name))
        assert properties[name]["default"] == (list(expected) if isinstance(expected, tuple) else expected), name


def test_what_it_allows_is_taken_and_what_it_forbids_is_not(bench, document):
    schema = {**document["components"]["schemas"]["JobRequest"], "components": document["components"]}
    validator = Draft202012Validator(schema)
    bodies = [
        {"prompt": "x"},
        {"prompt": "x", "width": 64, "seed": [1], "track_id": 7, "tomesd": False, "loras": []},
        {"prompt": "x", "width": None, "webhook_events": ["failed"]},
        {"prompt": ""},
        {"prompt": "x", "width": 65},
        {"prompt": "x", "scheduler": "IPNDMScheduler"},
        {"prompt": "x", "seed": "7"},
        {"prompt": "x", "strength": 2, "image": "https://example.com/a.png"},
        {"prompt": "x", "webhook_events": []},
        {"prompt": "x", "what": 1},
    ]

    for body in bodies:
        assert validator.is_valid(body) == (bench.post("/v1/jobs", body).status_code == 202), body


def test_answers_are_as_it_says(bench, document):
    uid = bench.submit(num_images=2, track_id=7)
    batch = bench.post("/v1/batches", [{"prompt": "x"}] * 2).json["id"]
    checked = [
        ("ReceiptDocument", bench.post("/v1/jobs", {"prompt": "x"})),
        ("JobDocument", bench.get(f"/v1/jobs/{uid}")),
        ("JobPageDocument", bench.get("/v1/jobs?limit=1")),
        ("ModelListDocument", bench.get("/v1/models")),
        ("AssetListDocument", bench.get("/v1/assets")),
        ("BatchDocument", bench.post("/v1/batches", [{"prompt": "x"}])),
        ("BatchPageDocument", bench.get("/v1/batches")),
        ("BatchRowPageDocument", bench.get(f"/v1/batches/{batch}/jobs")),
        ("BatchDocument", bench.post(f"/v1/batches/{batch}/cancel")),
        ("DryRunDocument", bench.post("/v1/batches?dry_run=1", [{"prompt": "x"}, {"prompt": ""}])),
        ("ProblemDocument", bench.post("/v1/batches", [{"prompt": ""}])),
        ("ProblemDocument", bench.get("/v1/jobs/1")),
        ("ProblemDocument", bench.post("/v1/jobs", {"what": 1})),
    ]
    bench.draw()
    checked.append(("JobDocument", bench.get(f"/v1/jobs/{uid}")))
    bench.draw(Status.FAILED, {"code": "worker_lost", "message": "Lost.", "retryable": True})
    checked.append(("JobPageDocument", bench.get("/v1/jobs")))

    for name, answer in checked:
        schemas = document["components"]["schemas"]
        assert set(answer.json) <= set(schemas[name]["properties"]), name
        Draft202012Validator({"$ref": f"#/components/schemas/{name}", "components": document["components"]}).validate(
            answer.json
        )


def test_the_docs_page_needs_nothing_from_elsewhere(bench):
    answer = bench.client.get("/docs")

    assert answer.mimetype == "text/html"
    assert "<script" not in answer.text
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    for path, _ in ROUTES:
        assert path in answer.text
    for name in (*BOUNDS, "webhook_url", "track_id", "controlnets"):
        assert f"<code>{name}</code>" in answer.text


def test_every_problem_type_leads_into_the_docs(bench):
    page = bench.client.get("/docs").text

    def codes(kind):
        return {kind.code}.union(*(codes(child) for child in kind.__subclasses__()))

    abstract = {"bad_request", "service_unavailable", "job_failed"}
    for code in (codes(DarkroomError) | codes(JobError) | {"not_found", "method_not_allowed"}) - abstract:
        assert f'id="{code}"' in page, code


def test_the_bare_address_leads_to_the_docs(bench):
    answer = bench.client.get("/")
    assert (answer.status_code, answer.location) == (302, "/docs")
