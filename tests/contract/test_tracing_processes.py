"""One trace across API, worker and courier, each a process of its own, as a collector receives it."""

import os
import signal
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace

import pytest
import requests

from tests import liveapi, services
from tests.deployment import LONG_S, Deployment
from tests.services import wait_until
from tests.spans import received

TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLER = "b7ad6b7169203331"
PROMPT = "a-prompt-of-alices"


@contextmanager
def everything(tmp_path, *, send_every_ms):
    """A whole service that is traced; all of it ended gracefully where `stop` is called, or else at the end."""
    with ExitStack() as stack:
        server = stack.enter_context(services.valkey())
        collector, hooks = stack.enter_context(services.receiver()), stack.enter_context(services.receiver())
        environment = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"{collector.url}/",
            "OTEL_EXPORTER_OTLP_HEADERS": "x-tenant=darkroom",
            "OTEL_BSP_SCHEDULE_DELAY": str(send_every_ms),
            "OUTBOUND_ALLOW": "127.0.0.0/8",
        }
        processes = stack.enter_context(ExitStack())
        (tmp_path / "api").mkdir()
        api = processes.enter_context(liveapi.running(server, tmp_path / "api", **environment))
        deployment = Deployment(server, tmp_path, processes, flower=False, **environment)

        def submit(**fields):
            body = {"prompt": PROMPT, "width": 64, "height": 64, "num_inference_steps": 2, "webhook_url": hooks.url}
            headers = {**api.headers, "traceparent": f"00-{TRACE}-{CALLER}-01"}
            answer = requests.post(f"{api.url}/v1/jobs", json={**body, **fields}, headers=headers, timeout=30)
            assert answer.status_code == 202, answer.text
            return answer.json()["uid"]

        yield SimpleNamespace(
            submit=submit, api=api, deployment=deployment, collector=collector, hooks=hooks, stop=processes.close
        )


def by_name(collector):
    return {span.name: span for span in received(list(collector.requests))}


def test_one_trace_from_the_request_to_the_webhook(tmp_path):
    """Spans are sent as the processes end: nothing else would send them in time."""
    with everything(tmp_path, send_every_ms=3_600_000) as all_of_it:
        uid = all_of_it.submit()
        (hook,) = all_of_it.hooks.wait_for(1, timeout_s=LONG_S)
        assert not all_of_it.collector.requests
        all_of_it.stop()
        spans, sent = by_name(all_of_it.collector), all_of_it.collector.requests

    assert {request.headers["x-tenant"] for request in sent} == {"darkroom"}
    assert {span.trace for span in spans.values()} == {TRACE}
    request, submit, attempt = spans["POST /v1/jobs"], spans["submit"], spans["process"]
    assert (request.service, request.parent) == ("darkroom-api", CALLER)
    assert (submit.service, submit.parent) == ("darkroom-api", request.span)
    assert (attempt.service, attempt.parent, attempt.error) == ("darkroom-worker", submit.span, None)
    assert (spans["wait"].service, spans["wait"].parent) == ("darkroom-worker", submit.span)
    stages = {span.name for span in spans.values() if span.parent == attempt.span}
    assert stages == {"load", "prepare", "prompt", "denoise", "decode", "safety", "encode", "store"}
    call = spans["webhook"]
    assert (call.service, call.parent) == ("darkroom-courier", submit.span)
    assert hook.headers["traceparent"] == f"00-{TRACE}-{call.span}-01"
    assert {span.attributes["darkroom.uid"] for span in (submit, attempt, call)} == {uid}
    told = b"".join(request.body for request in sent)
    key = all_of_it.api.headers["Authorization"].removeprefix("Bearer ")
    assert not [word for word in (PROMPT, key) if word.encode() in told]


@pytest.mark.slow
def test_after_a_kill_the_next_attempt_is_in_the_same_trace(tmp_path):
    with everything(tmp_path, send_every_ms=100) as all_of_it:
        deployment = all_of_it.deployment
        uid = all_of_it.submit(num_inference_steps=100, width=128, height=128)
        account = deployment.redis.hget(f"{{dr}}:j:{uid}", "account")
        step = lambda: deployment.backlog.read(uid, account=account).step  # noqa: E731
        wait_until(step, timeout_s=LONG_S, what="a step")
        os.kill(deployment.child(), signal.SIGKILL)
        all_of_it.hooks.wait_for(1, timeout_s=LONG_S)
        wanted = {"submit", "wait", "process", "webhook"}
        wait_until(lambda: by_name(all_of_it.collector).keys() >= wanted, what="the spans")
        spans = by_name(all_of_it.collector)

    assert {spans[name].trace for name in wanted} == {TRACE}
    assert spans["process"].attributes["darkroom.attempt"] == 2
    assert spans["process"].attributes["darkroom.status"] == "succeeded"
