"""S3 gone: what is drawn waits on the worker's disk, within a bound, and is neither lost nor drawn again."""

import os
import signal
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest
import structlog

from shared.storage.s3 import S3Storage
from tests import services
from tests.deployment import LONG_S, NODE, Deployment
from tests.services import wait_until
from tests.worker_rig import Rig
from worker.spool import Spool


@pytest.fixture(scope="module")
def endpoint():
    with services.s3() as server:
        yield server


@pytest.fixture
def store(endpoint, monkeypatch):
    """The store, up at first."""
    for name, value in endpoint.environment.items():
        monkeypatch.setenv(name, value)
    if endpoint.service.process is None:
        endpoint.service.start()
    return endpoint


@pytest.fixture
def rig(valkey, store, tmp_path):
    with ExitStack() as stack:
        yield keeping(valkey, store, tmp_path, stack)


def keeping(valkey, store, folder, stack, *, limit_bytes=1 << 30):
    """Return a worker's parts, with a spool."""
    spool = Spool(folder, node=NODE)
    rig = Rig(valkey, storage=S3Storage(store.bucket, endpoint_url=store.url), spool=spool, spool_bytes=limit_bytes)
    rig.spool = spool
    stack.callback(rig.delivery.close)
    return rig


def waiting(rig):
    return [kept.lease for kept in rig.spool.found()]


def test_what_is_drawn_waits_on_disk_and_is_stored_later(rig, store):
    store.service.stop()
    uids = [rig.submit(seed=seed, num_images=2) for seed in (1, 2)]

    rig.runner.turn()  # returns: what waits on disk holds nobody up

    assert rig.statuses(*uids) == ["running", "running"]
    assert sorted(lease.uid for lease in waiting(rig)) == uids
    calls = list(rig.pipeline.calls)
    store.service.start()
    wait_until(lambda: rig.statuses(*uids) == ["succeeded", "succeeded"], what="both jobs' end")
    wait_until(lambda: not waiting(rig), what="an empty spool")
    artifacts = [artifact for uid in uids for artifact in rig.read(uid).result.artifacts]
    assert [len(rig.storage.get(artifact.key).data) for artifact in artifacts] == [a.bytes for a in artifacts]
    assert rig.read(uids[0]).result.timings["store"] > 0
    assert (rig.pipeline.calls, rig.read(uids[0]).attempts) == (calls, 1)
    assert rig.heartbeat._held == {}


def test_no_more_is_drawn_than_may_wait(valkey, store, tmp_path):
    with ExitStack() as stack, structlog.testing.capture_logs() as logs:
        rig = keeping(valkey, store, tmp_path, stack, limit_bytes=1)
        store.service.stop()
        uids = [rig.submit(seed=1)]
        turn = threading.Thread(target=rig.runner.turn)
        turn.start()
        wait_until(lambda: "run.storage_away" in [line["event"] for line in logs], what="a worker that waits")
        uids.append(rig.submit(seed=2))
        assert rig.delivery.full
        assert rig.statuses(*uids) == ["running", "queued"]

        store.service.start()

        wait_until(lambda: rig.statuses(*uids) == ["succeeded", "succeeded"], what="both jobs' end")
        turn.join(services.READY_S)
        assert not turn.is_alive()


def test_where_the_disk_is_full_as_well_it_waits_in_memory(rig, store, tmp_path):
    store.service.stop()
    (tmp_path / "spool").write_bytes(b"")  # no folder can be made here
    uid = rig.submit()
    with structlog.testing.capture_logs() as logs:
        rig.runner.run(rig.claim())
        wait_until(lambda: "storage.awaited" in [line["event"] for line in logs], what="a second try")
    assert rig.statuses(uid) == ["running"]

    store.service.start()

    wait_until(lambda: rig.statuses(uid) == ["succeeded"], what="the job's end")
    assert rig.pipeline.calls == [1]


def test_a_job_that_is_cancelled_meanwhile_is_forgotten(rig, store):
    store.service.stop()
    uids = [rig.submit(seed=seed) for seed in (1, 2)]
    rig.runner.turn()
    assert len(waiting(rig)) == 2

    rig.cancel(uids[0])

    wait_until(lambda: [lease.uid for lease in waiting(rig)] == [uids[1]], what="the job forgotten")
    assert rig.statuses(*uids) == ["cancelled", "running"]
    assert [lease.uid for lease in rig.heartbeat._held] == [uids[1]]


def test_a_file_that_has_gone_bad_fails_its_job_and_no_other(rig, store):
    store.service.stop()
    uids = [rig.submit(seed=seed) for seed in (1, 2)]
    rig.runner.turn()
    bad = next(kept for kept in rig.spool.found() if kept.lease.uid == uids[0])
    (bad.folder / "0").unlink()
    wait_until(lambda: rig.statuses(*uids) == ["failed", "running"], what="its job's end")

    store.service.start()

    wait_until(lambda: rig.statuses(*uids) == ["failed", "succeeded"], what="the other's end")
    assert rig.read(uids[0]).result.error["code"] == "storing_failed"


class TestTheNextProcess:
    """It finds what its predecessor left, and holds what nobody else was given meanwhile."""

    @pytest.fixture
    def left(self, rig, store):
        store.service.stop()
        self.uids = [rig.submit(seed=seed) for seed in (1, 2)]
        rig.runner.turn()
        rig.delivery.close()  # as far as the backlog can tell, it was killed
        return waiting(rig)

    def hello(self, rig, results_of):
        return rig.backlog.hello(NODE, "second", pool="default", models=["demo"], results_of=results_of)

    def test_holds_them(self, rig, left):
        assert self.hello(rig, left) == set(self.uids)
        assert self.hello(rig, left) == set(self.uids)  # the reply was lost
        assert rig.statuses(*self.uids) == ["running", "running"]
        assert rig.redis.smembers(f"{{dr}}:held:{NODE}") == set(map(str, self.uids))

    def test_holds_no_other(self, rig, left):
        assert self.hello(rig, left[:1]) == {self.uids[0]}
        assert rig.statuses(*self.uids) == ["running", "queued"]

    def test_does_not_hold_what_was_given_away(self, rig, left):
        rig.backlog.hello(NODE, "between", pool="default", models=["demo"])
        rig.claim()
        assert self.hello(rig, left) == set()

    def test_may_come_after_a_goodbye(self, rig, left):
        rig.backlog.goodbye(NODE, results_of=left[:1])
        assert rig.statuses(*self.uids) == ["running", "queued"]
        assert rig.backlog.pools() == {}
        assert self.hello(rig, left) == {self.uids[0]}

    def test_or_never(self, rig, left):
        rig.backlog.goodbye(NODE, results_of=left)
        for uid in self.uids:
            rig.redis.zadd("{dr}:lease", {uid: 1})
        assert rig.backlog.sweep().requeued == 2
        assert rig.redis.keys("{dr}:held:*") == []


@pytest.fixture(scope="module")
def deployment(endpoint, tmp_path_factory):
    with ExitStack() as stack:
        server = stack.enter_context(services.valkey(aof=True))
        environment = {**endpoint.environment, "LEASE_S": "60"}  # no race between a start under load and a lease
        yield Deployment(server, tmp_path_factory.mktemp("deployment"), stack, flower=False, **environment)


def resumed(deployment):
    return deployment.worker.log.read_text().count("child.results_found")


@pytest.mark.slow
@pytest.mark.parametrize("end", ["the child is killed", "the worker is killed", "the worker is restarted"])
def test_what_waits_on_disk_outlasts_the_process(deployment, store, end):
    deployment.wait_for(deployment.submit(), "succeeded")
    store.service.stop()
    uid = deployment.submit(seed=3)
    wait_until(lambda: list(Spool(deployment.settings.data_dir, node=NODE).found()), timeout_s=LONG_S, what="a result")
    worker, child, before = deployment.worker, deployment.child(), resumed(deployment)
    if end == "the child is killed":
        os.kill(child, signal.SIGKILL)
    elif end == "the worker is killed":
        worker.kill()
        wait_until(lambda: not Path(f"/proc/{child}").exists(), what="the child's end")
        worker.start()
    else:
        worker.process.terminate()
        worker.process.wait(LONG_S)
        worker.start()
    wait_until(lambda: resumed(deployment) > before, timeout_s=LONG_S, what="the next process")
    assert deployment.read(uid).status == "running"

    store.service.start()

    job = deployment.wait_for(uid, "succeeded")
    assert (job.attempts, job.fence) == (1, 1)
    storage = S3Storage(store.bucket, endpoint_url=store.url)
    assert len(storage.get(job.result.artifacts[0].key).data) == job.result.artifacts[0].bytes
