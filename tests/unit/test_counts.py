"""What is counted, and what is not."""

import socket

import fakeredis
import pytest
from prometheus_client import REGISTRY
from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from structlog.testing import capture_logs

from shared.backlog import Backlog, Batches, Idempotency
from shared.batch import BatchLine, BatchOptions
from shared.celery_app import SilentBell
from shared.job import Result, Status, Submission
from shared.metrics.exposition import exposition, serve
from shared.metrics.standing import Standing
from shared.spec import JobSpec
from tests.apibench import ApiBench

NODE = "worker@metrics"


class Bench:
    def __init__(self, redis) -> None:
        self.redis = redis
        self.lost = []
        self.backlog = Backlog(redis, SilentBell(), on_lost=self.lost.append)
        self.batches = Batches(redis, SilentBell(), self.backlog)
        self.redis.hset("{dr}:a:1", mapping={"name": "one"})
        self.backlog.hello(NODE, "1", pool="p", models=["m"])
        self._before = {}

    def submit(self, **more):
        submission = Submission(spec=JobSpec(prompt="a", model="m", seed=1), dialect="octoai", **more)
        return self.backlog.submit(submission, account="1", pool="p")

    def open_batch(self, lines):
        upload = self.batches.upload()
        for number in range(lines):
            spec = JobSpec(prompt=str(number), model="m", seed=1)
            submission = Submission(spec=spec, dialect="octoai", priority="low")
            upload.add(BatchLine(submission=submission, pool="p", price=0, handle=f"{number:032x}"))
        return self.batches.open(upload, account="1", options=BatchOptions(), idempotency=Idempotency("b", "d")).id

    def claim(self):
        (lease,) = self.backlog.claim(NODE, max_jobs=1, max_images=1).leases
        return lease

    def counted(self, name, **labels):
        """Return by how much a count has grown since the last time."""
        now = REGISTRY.get_sample_value(name, labels) or 0.0
        key = (name, *labels.values())
        grown, self._before[key] = now - self._before.get(key, now), now
        return grown

    def outcomes(self, status, code=""):
        return self.counted("darkroom_outcomes_total", dialect="octoai", model="m", status=status, code=code)


@pytest.fixture
def bench(any_redis):
    return Bench(any_redis)


def test_an_end_is_counted_once(bench):
    bench.submit()
    lease = bench.claim()
    bench.outcomes("succeeded")

    assert bench.backlog.finish(NODE, lease, Status.SUCCEEDED, Result())
    assert bench.outcomes("succeeded") == 1
    bench.redis.hset(f"{{dr}}:j:{lease.uid}", "fence", 99)
    assert not bench.backlog.finish(NODE, lease, Status.SUCCEEDED, Result())
    assert bench.outcomes("succeeded") == 0


def test_a_cancel_is_counted_once(bench):
    receipt = bench.submit()
    bench.outcomes("cancelled")
    for _ in range(2):
        bench.backlog.cancel(receipt.uid, account="1")

    assert bench.outcomes("cancelled") == 1


def test_a_deadline_that_passed_is_counted_by_who_sweeps(bench):
    receipt = bench.submit(start_deadline_s=1)
    bench.redis.zadd("{dr}:deadline", {str(receipt.uid): 0})
    bench.outcomes("expired", "deadline_passed")
    for _ in range(2):
        bench.backlog.sweep()

    assert bench.outcomes("expired", "deadline_passed") == 1


@pytest.mark.parametrize(("how", "why"), [("sweep", "silent"), ("hello", "restarted"), ("goodbye", "left")])
def test_a_lost_lease_is_counted_and_the_third_as_a_failure(bench, how, why):
    bench.submit()
    bench.counted("darkroom_leases_lost_total", why=why)
    bench.outcomes("failed", "worker_lost")
    for number in range(3):
        lease = bench.claim()
        if how == "sweep":
            bench.backlog.sweep()
            bench.redis.hset("{dr}:sweep", "grace", 0)
            bench.redis.zadd("{dr}:lease", {str(lease.uid): 0})
            bench.backlog.sweep()
        if how == "goodbye":
            bench.backlog.goodbye(NODE)
        bench.backlog.hello(NODE, f"next {number}", pool="p", models=["m"])

    assert bench.counted("darkroom_leases_lost_total", why=why) == 3
    assert bench.outcomes("failed", "worker_lost") == 1
    assert bench.lost == [lease.uid]


def test_a_repeated_submit_is_none(bench):
    labels = {"dialect": "octoai", "model": "m", "priority": "normal"}
    bench.counted("darkroom_submits_total", **labels)
    for _ in range(2):
        submission = Submission(spec=JobSpec(prompt="a", model="m", seed=1), dialect="octoai")
        bench.backlog.submit(submission, account="1", pool="p", idempotency=Idempotency("k", "d"))

    assert bench.counted("darkroom_submits_total", **labels) == 1


def test_a_batch_counts_as_its_jobs_once(bench):
    labels = {"dialect": "octoai", "model": "m", "priority": "low"}
    bench.counted("darkroom_submits_total", **labels)
    batch = bench.open_batch(1010)
    assert bench.open_batch(1010) == batch

    assert bench.counted("darkroom_submits_total", **labels) == 1010
    assert "darkroom_batch_lines_waiting 10.0" in exposition([Standing(bench.redis, limit=10)]).decode()


def test_jobs_of_a_cancelled_batch_are_counted_once(bench):
    batch = bench.open_batch(300)
    bench.outcomes("cancelled")
    bench.batches.set(batch, "cancel", account="1")
    bench.batches.feed()

    assert bench.outcomes("cancelled") == 300


def test_the_age_of_the_oldest_is_told_by_priority(bench):
    uids = {priority: bench.submit(priority=priority).uid for priority in ("normal", "low")}
    bench.redis.hset("{dr}:a:2", mapping={"name": "two"})
    submission = Submission(spec=JobSpec(prompt="a", model="m", seed=1), priority="low")
    older = bench.backlog.submit(submission, account="2", pool="p").uid
    for uid, age_s in ((uids["normal"], 1000), (uids["low"], 2000), (older, 3000)):
        bench.redis.hset(f"{{dr}}:j:{uid}", "created", bench.backlog.now_ms() - 1000 * age_s)
    families = {family.name: family for family in Standing(bench.redis, limit=10).collect()}
    samples = families["darkroom_oldest_waiting_seconds"].samples
    ages_s = {sample.labels["priority"]: sample.value for sample in samples}

    assert ages_s["high"] == 0
    assert 1000 <= ages_s["normal"] < 1900
    assert 3000 <= ages_s["low"] < 3900


def test_the_queues_gauges(bench):
    old = bench.submit().uid
    bench.submit()
    bench.redis.hset(f"{{dr}}:j:{old}", "created", bench.backlog.now_ms() - 90_000)
    bench.backlog.sweep()
    families = {family.name: family for family in Standing(bench.redis, limit=10).collect()}

    def value(name):
        (sample,) = families[f"darkroom_{name}"].samples
        return sample.value

    assert value("backlog_up") == 1
    assert value("jobs_waiting") == 2
    assert value("workers_live") == 1
    assert 0 <= value("sweep_age_seconds") < 600
    assert families["darkroom_jobs_waiting"].samples[0].labels == {"pool": "p", "model": "m"}


def test_webhooks_that_are_due_and_dead(bench):
    now = bench.backlog.now_ms()
    bench.redis.zadd("{dr}:ob", {"1:1": now - 60_000, "2:1": now + 3_600_000})
    bench.redis.zadd("{dr}:ob:dead", {"3:1": now})
    found = {f.name.removeprefix("darkroom_"): f.samples for f in Standing(bench.redis, limit=10).collect()}

    assert found["webhooks_waiting"][0].value == 2
    assert found["webhooks_due"][0].value == 1
    assert found["webhooks_dead"][0].value == 1
    assert 60 <= found["webhooks_overdue_seconds"][0].value < 600


def test_while_redis_is_away_that_is_told():
    # Nobody listens there.
    redis = Redis(port=1, retry=Retry(NoBackoff(), 0))

    text = exposition([Standing(redis, limit=10)]).decode()

    assert "darkroom_backlog_up 0.0" in text
    assert "darkroom_jobs_waiting" not in text


def test_without_a_token_there_are_no_metrics(tmp_path):
    bench = ApiBench(fakeredis.FakeRedis(decode_responses=True), tmp_path)

    assert bench.get("/metrics").status_code == 404


def test_an_unknown_path_and_method_add_no_label(tmp_path):
    bench = ApiBench(fakeredis.FakeRedis(decode_responses=True), tmp_path, metrics_token="t" * 16)
    bench.client.open("/no/such/path", method="PURGE")

    text = bench.get("/metrics", Authorization=f"Bearer {'t' * 16}").text

    assert 'darkroom_http_requests_total{status="404",surface="none"}' in text
    assert "such" not in text
    assert "PURGE" not in text


def test_a_taken_port_is_told_and_nothing_else():
    with socket.socket() as taken, capture_logs() as lines:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        serve(taken.getsockname()[1], "127.0.0.1")

    (line,) = lines
    assert line["event"] == "metrics.unserved"


def test_without_a_port_nothing_is_served():
    with capture_logs() as lines:
        serve(0, "127.0.0.1")

    assert lines == []
