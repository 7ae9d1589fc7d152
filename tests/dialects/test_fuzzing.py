"""Whatever is sent to aithriving's parsers, the native API and batches is read, or refused by one of our errors.

The other dialects' parsers are tried so beside their tables.
"""

import json

import fakeredis
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.dialects.aithriving import DIALECT, parse_image_to_image, parse_inpaint, parse_text_to_image, render_error
from shared.dialects.base import Call, Submit
from shared.errors import DarkroomError
from shared.spec import JobSpec
from tests.apibench import ApiBench, png
from tests.dialects import gold

PICTURE = png()
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(["yes", "320"])
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
)
KNOWN = sorted({name for route in DIALECT.routes if isinstance(route, Submit) for name in route.schema["properties"]})
FIELDS = st.dictionaries(st.sampled_from(KNOWN) | st.text(max_size=5), VALUES, max_size=8)
FORMS = st.dictionaries(st.sampled_from(KNOWN) | st.text(max_size=5), st.text(max_size=12), max_size=8)
FILES = st.dictionaries(
    st.sampled_from(["init_image", "image", "mask"]), st.just(PICTURE) | st.binary(max_size=60), max_size=3
)
NATIVE = sorted(
    {*JobSpec.__dataclass_fields__, "webhook_url", "webhook_events", "track_id", "priority", "run_deadline_s"}
)


def read_or_refused(parse, call):
    try:
        order = parse(call, gold.ACCOUNT)
    except DarkroomError as error:
        reply = render_error(error, call)
        assert (reply.status, reply.body["code"], reply.body["data"]) == (200, -1, None)
        assert reply.body["message"]
    else:
        assert order.submission.to_json().encode()


@settings(max_examples=300)
@given(FIELDS)
def test_aithriving_reads_or_refuses_any_object(fields):
    sized = {"prompt": "x", "width": 320, "height": 320, **fields}
    read_or_refused(parse_text_to_image, Call(method="POST", body=json.dumps(sized).encode()))


@settings(max_examples=100)
@given(st.binary(max_size=40))
def test_aithriving_reads_or_refuses_any_body(body):
    read_or_refused(parse_text_to_image, Call(method="POST", body=body))


@settings(max_examples=200)
@given(FORMS, FILES, st.sampled_from([parse_image_to_image, parse_inpaint]))
def test_aithriving_reads_or_refuses_any_form(form, files, parse):
    pictures = {"init_image": PICTURE, "image": PICTURE, "mask": PICTURE, **files}
    read_or_refused(parse, Call(method="POST", form={"prompt": "x", **form}, files=pictures))


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    made = ApiBench(fakeredis.FakeRedis(decode_responses=True), tmp_path_factory.mktemp("api"))
    yield made
    made.parts.hub.close()


def refused_or_taken(answer):
    assert answer.status_code < 500, answer.text
    if answer.status_code >= 400:
        assert answer.json["code"] not in {"internal_error", "bad_request"}, answer.text


@settings(max_examples=150)
@given(st.dictionaries(st.sampled_from(NATIVE) | st.text(max_size=5), VALUES, max_size=8))
def test_the_native_api_reads_or_refuses_any_object(bench, fields):
    sent = json.dumps({"prompt": "x", **fields})
    refused_or_taken(bench.client.post("/v1/jobs", data=sent, headers=bench.headers, content_type="application/json"))


@settings(max_examples=150)
@given(
    st.binary(max_size=80)
    | st.lists(st.dictionaries(st.sampled_from(NATIVE), VALUES, max_size=4), max_size=3).map(
        lambda lines: "\n".join(map(json.dumps, lines)).encode()
    ),
    st.sampled_from(["application/json", "application/jsonl", "application/x-ndjson", "text/csv"]),
)
def test_batches_read_or_refuse_any_body(bench, body, content_type):
    refused_or_taken(
        bench.client.post("/v1/batches?dry_run=true", data=body, headers=bench.headers, content_type=content_type)
    )
