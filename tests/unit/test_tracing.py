"""Traces of requests, jobs and webhooks, kept in memory; and that there are none unless they are asked for."""

import subprocess
import sys
from ipaddress import ip_network
from pathlib import Path

import fakeredis
import pytest

from shared import tracing
from shared.backlog import Batches
from shared.celery_app import SilentBell
from shared.dialects import Links
from shared.errors import ConfigurationError
from shared.job import Status, Submission
from shared.outbox import Outbox
from shared.safe_http import SafeHttp
from shared.settings import Settings
from shared.spec import JobSpec
from shared.tracing import NoTracer
from tests.apibench import NODE, ApiBench
from tests.services import Reply, receiver
from tests.spans import kept
from worker import traces as worker_traces
from worker.courier import Courier

ROOT = Path(__file__).resolve().parents[2]
TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLER = "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{CALLER}-01"
SECRET_WORDS = "a-prompt-of-alices"
#: What imports the rest.
SDK = "shared.tracing.sdk"
LOOPBACK = (ip_network("127.0.0.0/8"),)


@pytest.fixture
def traces():
    with kept() as found:
        yield found


@pytest.fixture
def bench(tmp_path):
    made = ApiBench(fakeredis.FakeRedis(decode_responses=True), tmp_path, outbound_allow=LOOPBACK, short_wait_s=0.0)
    yield made
    made.parts.hub.close()


@pytest.fixture
def courier(bench):
    redis, bell = bench.redis, SilentBell()
    return Courier(
        outbox=Outbox(redis, lease_s=30),
        backlog=bench.backlog,
        batches=Batches(redis, bell, bench.backlog),
        accounts=bench.parts.accounts,
        links=Links(base_url="https://api.example", storage=bench.parts.storage, ttl_s=600),
        http=SafeHttp(allow=LOOPBACK),
    )


def record(bench, uid) -> str:
    return bench.redis.get(f"{{dr}}:s:{uid}")


def claim(bench, jobs=1):
    bench.backlog.hello(NODE, "1", pool="default", models=["demo"])
    return bench.backlog.claim(NODE, max_jobs=jobs, max_images=16).leases


def test_a_request_continues_its_callers_trace_and_the_job_carries_it(bench, traces):
    answer = bench.post("/v1/jobs", {"prompt": SECRET_WORDS}, traceparent=TRACEPARENT)

    request, submit = traces.span("POST /v1/jobs"), traces.span("submit")
    assert (request.trace, request.parent) == (TRACE, CALLER)
    assert (submit.trace, submit.parent) == (TRACE, request.span)
    uid = answer.json["uid"]
    assert {
        "http.request.method": "POST",
        "http.route": "/v1/jobs",
        "http.response.status_code": 202,
        "darkroom.account": "1",
        "darkroom.request_id": answer.headers["Darkroom-Request-Id"],
    }.items() <= request.attributes.items()
    assert {
        "darkroom.uid": uid,
        "darkroom.account": "1",
        "darkroom.dialect": "native",
        "darkroom.model": "demo",
        "darkroom.pool": "default",
        "messaging.destination.name": "default/demo",
    }.items() <= submit.attributes.items()
    assert Submission.from_json(record(bench, uid)).trace == f"00-{TRACE}-{submit.span}-01"


@pytest.mark.parametrize("header", [{}, {"traceparent": "nonsense"}, {"traceparent": f"00-{'0' * 32}-{CALLER}-01"}])
def test_any_other_request_begins_a_trace(bench, traces, header):
    bench.get("/v1/models", **header)
    bench.get("/v1/models", **header)

    first, second = traces.spans()
    assert first.trace != second.trace
    assert TRACE not in {first.trace, second.trace}
    assert (first.parent, second.parent) == ("", "")


def test_what_the_caller_does_not_want_traced_is_not_sent_but_passed_on(bench, traces):
    uid = bench.post("/v1/jobs", {"prompt": "a"}, traceparent=f"00-{TRACE}-{CALLER}-00").json["uid"]

    assert traces.spans() == []
    carried = Submission.from_json(record(bench, uid)).trace
    assert carried.startswith(f"00-{TRACE}-")
    assert carried.endswith("-00")


def test_other_dialects_jobs_are_traced_too(bench, traces):
    body = {"key": bench.credentials.key, "prompt": "a", "width": "64", "height": "64"}
    answer = bench.client.post("/api/v6/images/text2img", json=body, headers={"traceparent": TRACEPARENT})

    assert answer.status_code == 200, answer.text
    assert traces.span("POST /api/v6/images/text2img").attributes["darkroom.account"] == "1"
    assert traces.span("submit").attributes["darkroom.dialect"] == "modelslab"


def test_refusals_are_no_failures_and_faults_are(bench, traces, monkeypatch):
    bench.post("/v1/jobs", {"prompt": "a", "width": 7})
    monkeypatch.setattr(bench.parts.backlog, "read", lambda *_args, **_options: 1 / 0)
    bench.get("/v1/jobs/7")

    refused, failed = traces.spans()
    assert (refused.error, refused.attributes["http.response.status_code"]) == (None, 400)
    assert refused.attributes["error.type"]
    assert (failed.error, failed.attributes["http.response.status_code"]) == ("internal_error", 500)
    assert failed.name == "GET /v1/jobs/<int:uid>"


def test_probes_and_scrapes_are_not_traced(bench, traces):
    for path in ("/healthz", "/readyz", "/metrics"):
        bench.get(path)

    assert traces.spans() == []


def test_a_job_has_waited_once(bench, traces):
    bench.post("/v1/jobs", {"prompt": "a"}, traceparent=TRACEPARENT)
    (lease,) = claim(bench)
    worker_traces.claimed([lease], pool="default")
    bench.backlog.hello(NODE, "2", pool="default", models=["demo"])
    (again,) = bench.backlog.claim(NODE, max_jobs=1, max_images=16).leases
    worker_traces.claimed([again], pool="default")

    wait = traces.span("wait")
    assert again.attempts == 2
    assert (wait.trace, wait.parent) == (TRACE, traces.span("submit").span)
    assert (wait.begun_ns, wait.ended_ns) == (lease.created_ms * 10**6, lease.started_ms * 10**6)


def test_each_job_of_a_batch_has_a_trace_that_begins_with_its_wait(bench, traces):
    bench.post("/v1/batches", [{"prompt": "a"}, {"prompt": "b"}], traceparent=TRACEPARENT)
    leases = claim(bench, jobs=2)
    worker_traces.claimed(leases, pool="default")

    waits = {span.attributes["darkroom.uid"]: span for span in traces.spans("wait")}
    assert len({TRACE, *(span.trace for span in waits.values())}) == 3
    for lease in leases:
        assert lease.submission.trace is None  # a batch of many costs no memory more
        wait = waits[lease.uid]
        assert wait.parent == ""
        assert tracing.of_job(None, lease.handle) == f"00-{wait.trace}-{wait.span}-01"
        assert lease.handle not in repr(traces.spans())  # it opens the job's pictures


def ended(bench, traces, uid):
    """Return the span of a job's end, and check what all of them tell."""
    (end,) = [span for span in traces.spans("end") if span.attributes["darkroom.uid"] == uid]
    state = bench.redis.hgetall(f"{{dr}}:j:{uid}")
    assert (end.begun_ns, end.ended_ns) == (int(state["created"]) * 10**6, int(state["finished"]) * 10**6)
    assert end.attributes["darkroom.pool"] == "default"
    return end


def test_a_job_that_is_cancelled_while_it_waits_has_an_end(bench, traces):
    uid = bench.post("/v1/jobs", {"prompt": "a"}, traceparent=TRACEPARENT).json["uid"]
    bench.post(f"/v1/jobs/{uid}/cancel")
    bench.post(f"/v1/jobs/{uid}/cancel")  # it has ended once

    end = ended(bench, traces, uid)
    assert (end.trace, end.parent, end.error) == (TRACE, traces.span("submit").span, None)
    assert (end.attributes["darkroom.status"], end.attributes["darkroom.attempt"]) == ("cancelled", 0)


def test_of_a_running_job_that_is_cancelled_its_worker_tells(bench, traces):
    uid = bench.post("/v1/jobs", {"prompt": "a"}).json["uid"]
    assert claim(bench)
    bench.post(f"/v1/jobs/{uid}/cancel")

    assert traces.spans("end") == []


def test_a_job_that_was_too_late_has_an_end(bench, traces, monkeypatch):
    monkeypatch.setattr(bench.redis, "info", lambda *_: {"run_id": "fake"})  # fakeredis has none
    uid = bench.post("/v1/jobs", {"prompt": "a", "start_deadline_s": 60}, traceparent=TRACEPARENT).json["uid"]
    bench.redis.zadd("{dr}:deadline", {uid: 1})
    bench.backlog.sweep()

    end = ended(bench, traces, uid)
    assert (end.trace, end.parent, end.error) == (TRACE, traces.span("submit").span, None)
    assert end.attributes["darkroom.status"] == "expired"


def test_a_job_that_was_lost_with_three_workers_has_an_end_that_is_an_error(bench, traces):
    uid = bench.post("/v1/jobs", {"prompt": "a"}, traceparent=TRACEPARENT).json["uid"]
    for incarnation in range(4):
        bench.backlog.hello(NODE, str(incarnation), pool="default", models=["demo"])
        bench.backlog.claim(NODE, max_jobs=1, max_images=16)

    end = ended(bench, traces, uid)
    assert (end.parent, end.error) == (traces.span("submit").span, "worker_lost")
    assert (end.attributes["darkroom.status"], end.attributes["darkroom.attempt"]) == ("failed", 3)


def test_the_trace_of_a_batchs_job_that_was_never_claimed_begins_with_its_end(bench, traces):
    batch = bench.post("/v1/batches", [{"prompt": "a"}]).json["id"]
    (uid,) = bench.redis.lrange(f"{{dr}}:bu:{batch}", 0, -1)
    bench.post(f"/v1/batches/{batch}/cancel")

    end = ended(bench, traces, int(uid))
    assert end.parent == ""
    assert f"00-{end.trace}-{end.span}-01" == tracing.of_job(None, bench.redis.hget(f"{{dr}}:j:{uid}", "handle"))


def test_every_call_of_a_webhook_is_in_the_jobs_trace_and_says_so(bench, traces, courier):
    with receiver() as server:
        server.replies = [Reply(status=500, body=b"out of order"), Reply()]
        url = f"{server.url}/hooks/T0KEN?code=hush"
        uid = bench.post("/v1/jobs", {"prompt": SECRET_WORDS, "webhook_url": url}, traceparent=TRACEPARENT).json["uid"]
        bench.draw()
        for _ in range(2):
            bench.redis.zadd("{dr}:ob", {f"{uid}:1": 1}, xx=True)
            courier.deliver(f"{uid}:1")
        headers = [request.headers["traceparent"] for request in server.requests]

    failed, done = traces.spans("webhook")
    assert headers == [f"00-{TRACE}-{failed.span}-01", f"00-{TRACE}-{done.span}-01"]
    assert {failed.parent, done.parent} == {traces.span("submit").span}
    assert (failed.error, done.error) == ("500", None)
    assert (failed.attributes["darkroom.attempt"], done.attributes["darkroom.attempt"]) == (1, 2)
    assert {
        "server.address": "127.0.0.1",
        "http.response.status_code": 200,
        "darkroom.uid": uid,
        "darkroom.webhook.event": "succeeded",
    }.items() <= done.attributes.items()
    told = repr(traces.spans())
    assert not [word for word in (SECRET_WORDS, "hush", "T0KEN", bench.credentials.key) if word in told]


def test_a_receiver_that_cannot_be_reached_is_told(bench, traces, courier):
    with receiver() as server:
        url = server.url
    uid = bench.submit(webhook_url=url)
    bench.draw()
    courier.deliver(f"{uid}:1")

    assert traces.span("webhook").error == "outbound_failed"


def test_a_batchs_webhook_is_a_trace_of_its_own(bench, traces, courier):
    with receiver() as server:
        body = {"jobs": [{"prompt": "a"}], "webhook_url": server.url}
        number = bench.post("/v1/batches", body, traceparent=TRACEPARENT).json["id"]
        bench.draw()
        courier.deliver(f"{number}:1")
        (request,) = server.requests

    call = traces.span("webhook")
    assert call.attributes["darkroom.batch"] == number
    assert call.trace != TRACE
    assert request.headers["traceparent"].startswith(f"00-{call.trace}-{call.span}-")


def test_while_off_nothing_is_traced_or_kept(bench, courier):
    with receiver() as server:
        uid = bench.post("/v1/jobs", {"prompt": "a", "webhook_url": server.url}, traceparent=TRACEPARENT).json["uid"]
        bench.draw()
        courier.deliver(f"{uid}:1")
        (request,) = server.requests

    assert "trace" not in record(bench, uid)
    assert "traceparent" not in {name.lower() for name in request.headers}
    assert tracing.of_job(TRACEPARENT, "0" * 32) is None


def test_a_traced_job_costs_the_queue_little():
    plain = Submission(spec=JobSpec(prompt="a", model="demo"))

    assert len(Submission(spec=plain.spec, trace=TRACEPARENT).to_json()) - len(plain.to_json()) == 55 + len(
        ',"trace":""'
    )


@pytest.mark.parametrize("sampler", ["always_on", "parentbased_traceidratio"])
def test_all_processes_agree_on_which_jobs_of_a_batch_are_traced(monkeypatch, sampler):
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", sampler)
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0.5")
    with kept() as api, kept() as worker:
        handles = [f"{number:032x}" for number in range(64)]
        places = [api.tracer.of_handle(handle) for handle in handles]
        for place in places:
            worker.tracer.emit("wait", begun_ns=1, ended_ns=2, own=place)

    traced = {f"00-{span.trace}-{span.span}-01" for span in worker.spans()}
    assert places == [worker.tracer.of_handle(handle) for handle in handles]
    assert traced == {place for place in places if place.endswith("-01")}
    assert (len(traced) == 64) is (sampler == "always_on")
    assert traced


def test_an_error_is_told_by_its_code_and_never_by_its_message(traces):
    with pytest.raises(ValueError, match="hush"), traces.tracer.span("broken"):
        raise ValueError("hush")

    assert traces.span("broken").error == "ValueError"
    assert "hush" not in repr(traces.spans())


def test_the_setting_without_the_extra_stops_the_start(monkeypatch):
    monkeypatch.setattr(tracing, "find_spec", lambda _name: None)
    asked = Settings(otel_exporter_otlp_endpoint="http://127.0.0.1:4318")

    tracing.require(Settings())
    for start in (tracing.require, lambda settings: tracing.begin(settings, role="api")):
        with pytest.raises(ConfigurationError, match=r"OTEL_EXPORTER_OTLP_ENDPOINT.*pip install 'darkroom\[tracing\]'"):
            start(asked)
    assert isinstance(tracing.tracer(), NoTracer)


def test_a_collector_that_is_away_holds_nobody_up(bench, log_lines, monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    with receiver() as gone:
        endpoint = gone.url
    tracing.begin(Settings(otel_exporter_otlp_endpoint=endpoint), role="api")
    try:
        uid = bench.submit()
        bench.draw()
        assert bench.get(f"/v1/jobs/{uid}").json["status"] == str(Status.SUCCEEDED)
    finally:
        tracing.end(timeout_s=0.05)  # does not wait for it
    assert isinstance(tracing.tracer(), NoTracer)
    assert bench.credentials.key not in log_lines()


#: Stands in for an installation without the extra.
WITHOUT = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "opentelemetry":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
"""


@pytest.mark.parametrize(
    ("modules", "before"),
    [
        ("api.wsgi, worker.courier_app, worker.app, worker.child, shared.cli", "import sys"),
        ("api.wsgi, worker.courier_app, worker.app, worker.child, shared.cli", WITHOUT),
        ("worker.run", WITHOUT),
    ],
    ids=["installed", "not installed", "what draws, not installed"],
)
def test_while_off_nothing_of_it_is_imported(modules, before, tmp_path):
    """Where it is installed redis-py imports parts of it by itself, but nothing that sends."""
    absent = "opentelemetry" if before == WITHOUT else "opentelemetry.exporter"
    code = f"{before}\nimport {modules}\nassert not [n for n in sys.modules if n.startswith(('{absent}', '{SDK}'))]"

    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        check=False,
        timeout=300,
        env={"REDIS_URL": "redis://127.0.0.1:1/0", "PATH": "", "DARKROOM_DATA_DIR": str(tmp_path)},
    )

    assert done.returncode == 0
