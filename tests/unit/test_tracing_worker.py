"""What a worker tells of its jobs' traces, with stand-ins for the model."""

import fakeredis
import pytest

from shared.job import Result, Status, Submission
from shared.spec import JobSpec
from tests.spans import kept
from tests.worker_rig import NODE, POISON, Rig

STAGES = ["load", "prepare", "prompt", "denoise", "decode", "safety", "encode", "store"]
TRACE = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = f"00-{TRACE}-b7ad6b7169203331-01"


@pytest.fixture
def traces():
    with kept() as found:
        yield found


@pytest.fixture
def rig():
    return Rig(fakeredis.FakeRedis(decode_responses=True), one_by_one=False)


def submit_traced(rig):
    spec = JobSpec(prompt="a red circle", model="demo", width=64, height=64, num_inference_steps=3, seed=1)
    submission = Submission(spec=spec, trace=TRACEPARENT)
    return rig.backlog.submit(submission, account=rig.account, pool="default").uid


def test_a_job_is_told_with_its_stages_in_their_order(rig, traces):
    uid = submit_traced(rig)
    rig.runner.turn()

    wait, attempt = traces.span("wait"), traces.span("process")
    stages = [span for span in traces.spans() if span.parent == attempt.span]
    assert {span.trace for span in traces.spans()} == {TRACE}
    assert wait.parent == attempt.parent == "b7ad6b7169203331"
    assert [span.name for span in stages] == STAGES
    assert [span.begun_ns for span in stages] == sorted(span.begun_ns for span in stages)
    assert all(span.begun_ns <= span.ended_ns for span in stages)
    assert {
        "darkroom.uid": uid,
        "darkroom.account": rig.account,
        "darkroom.dialect": "native",
        "darkroom.model": "demo",
        "darkroom.pool": "default",
        "darkroom.attempt": 1,
        "darkroom.status": "succeeded",
    }.items() <= attempt.attributes.items()
    assert attempt.error is None
    assert "a red circle" not in repr(traces.spans())


def test_jobs_that_share_a_call_have_a_trace_each(rig, traces):
    uids = {rig.submit(), rig.submit()}
    rig.runner.turn()

    attempts, waits = traces.spans("process"), traces.spans("wait")
    assert rig.pipeline.calls == [2]
    assert {span.attributes["darkroom.uid"] for span in attempts} == uids
    assert {span.traceparent for span in waits} == {f"{span.trace}-{span.parent}" for span in attempts}
    for attempt in attempts:
        assert [span.name for span in traces.spans() if span.parent == attempt.span] == STAGES


def test_a_failed_job_is_told_by_its_errors_code(rig, traces):
    rig.submit(prompt=POISON)
    rig.runner.turn()

    attempt = traces.span("process")
    assert (attempt.error, attempt.attributes["darkroom.status"]) == ("generation_failed", "failed")
    assert "secret" not in repr(traces.spans())  # the error's own message names a path
    assert "decode" not in {span.name for span in traces.spans()}


def test_a_cancelled_job_is_told_and_is_no_failure(rig, traces):
    uid = rig.submit(num_inference_steps=50)
    rig.pipeline.on_step = lambda step: rig.cancel(uid) if step == 2 else None
    rig.runner.turn()

    attempt = traces.span("process")
    assert (attempt.error, attempt.attributes["darkroom.status"]) == (None, "cancelled")


def test_the_attempt_after_a_lost_one_is_in_the_same_trace(rig, traces):
    submit_traced(rig)
    rig.claim()
    rig.hello("second")
    rig.runner.turn()

    attempt = traces.span("process")
    assert (attempt.trace, attempt.attributes["darkroom.attempt"]) == (TRACE, 2)


def test_what_an_ended_job_is_asked_again_stays_in_its_trace(rig, traces):
    uid = submit_traced(rig)
    (lease,) = rig.claim()
    rig.backlog.finish(NODE, lease, Status.FAILED, Result(error={"code": "x", "message": "", "retryable": False}))
    rig.backlog.retry(uid, account=rig.account)
    rig.runner.turn()

    assert {span.trace for span in traces.spans()} == {TRACE}
    assert rig.statuses(uid) == ["succeeded"]
