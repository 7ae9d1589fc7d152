"""What operators do with the queue, on every server that Darkroom runs on; and how long a job is expected to take."""

from itertools import count

import pytest

from shared.backlog import Gate, Operations
from shared.errors import PoolDraining
from shared.job import Result, Status, Submission
from shared.spec import JobSpec
from tests.contract.test_backlog import NODE, POOL, Bench


@pytest.fixture
def bench(any_redis):
    return Bench(any_redis)


@pytest.fixture
def operations(bench):
    return Operations(bench.redis, bench.bell)


@pytest.mark.parametrize("model", ["", "demo"])
def test_what_is_paused_is_accepted_and_not_begun_until_it_is_resumed(bench, operations, model):
    bench.hello()
    assert not bench.claim()
    operations.set_gate(POOL, Gate.PAUSED, model=model)
    uid = bench.submit().uid

    assert bench.bell.woken == []
    bench.backlog.sweep()
    assert bench.bell.woken == []
    assert not bench.claim()
    assert (bench.read(uid).waits_for, bench.read(uid).eta_s) == ("paused", None)

    operations.set_gate(POOL, Gate.OPEN, model=model)
    assert bench.bell.woken == [NODE]
    assert [lease.uid for lease in bench.claim()] == [uid]
    assert bench.redis.scard("{dr}:gates") == 0


def test_a_paused_lane_leaves_the_pools_others_alone(bench, operations):
    bench.hello(models=("demo", "other"))
    operations.set_gate(POOL, Gate.PAUSED, model="other")
    uid = bench.submit().uid

    assert [lease.uid for lease in bench.claim()] == [uid]


@pytest.mark.parametrize("model", ["", "demo"])
def test_what_is_draining_refuses_new_jobs_and_draws_those_that_wait(bench, operations, model):
    bench.hello()
    uid = bench.submit().uid
    operations.set_gate(POOL, Gate.DRAINING, model=model)

    with pytest.raises(PoolDraining):
        bench.submit()
    with pytest.raises(PoolDraining):
        bench.submit(image="https://pictures.example/a.png", strength=0.5)
    assert [lease.uid for lease in bench.claim()] == [uid]
    assert bench.counters()["waiting"] in (0, "0")

    operations.set_gate(POOL, Gate.OPEN, model=model)
    bench.submit()


def test_the_lanes_are_listed(bench, operations):
    bench.hello(models=("demo", "other"))
    bench.hello("idle@host", models=("other",))
    assert not bench.claim("idle@host")
    for _ in range(3):
        bench.submit()
    bench.claim(max_jobs=1)
    operations.set_gate(POOL, Gate.DRAINING, model="other")
    operations.set_gate("far", Gate.PAUSED)

    rows = [(lane.model, lane.gate, lane.waiting, lane.running, lane.workers, lane.idle) for lane in operations.lanes()]

    assert rows == [("demo", "open", 2, 1, 1, 0), ("other", "draining", 0, 0, 2, 1)]
    assert operations.shut_pools() == {"far": Gate.PAUSED}


def test_one_state_follows_another(bench, operations):
    for gate in (Gate.PAUSED, Gate.DRAINING, Gate.DRAINING, Gate.PAUSED):
        operations.set_gate(POOL, gate)
        assert operations.shut_pools() == {POOL: gate}
    bench.submit()


def test_an_eta_comes_from_how_long_such_jobs_took(bench):
    bench.hello()
    first = bench.submit().uid
    assert bench.read(first).eta_s is None
    (lease,) = bench.claim(max_jobs=1)
    bench.redis.hincrby(f"{{dr}}:j:{first}", "started", -20_000)  # it took 20 s
    bench.backlog.finish(NODE, lease, Status.SUCCEEDED, Result())

    uids = [bench.submit().uid for _ in range(3)]
    bench.claim()  # all are begun together
    assert 18 <= bench.read(uids[0]).eta_s <= 21
    bench.redis.hincrby(f"{{dr}}:j:{uids[0]}", "started", -5_000)
    assert 13 <= bench.read(uids[0]).eta_s <= 16
    bench.redis.hset(f"{{dr}}:j:{uids[0]}", mapping={"step": 5, "steps": 10})
    assert 5 <= bench.read(uids[0]).eta_s <= 7

    waiting = [bench.submit(width=64 * (2 + n)).uid for n in range(2)]
    assert bench.read(waiting[0]).eta_s is not None
    assert bench.read(waiting[0]).position == 0
    operations = Operations(bench.redis, bench.bell)
    operations.set_gate(POOL, Gate.PAUSED)
    assert bench.read(waiting[1]).eta_s is None


def test_workers_are_seen_with_what_they_hold(bench, operations):
    bench.hello(models=("demo", "other"))
    bench.hello("idle@host")
    assert not bench.claim("idle@host")
    first, second, _ = (bench.submit().uid for _ in range(3))
    leases = bench.claim(max_jobs=2)
    bench.backlog.renew(NODE, {leases[0]: (4, 20)})

    idle, busy = operations.workers()

    assert (idle.node, idle.pool, idle.models, idle.idle, idle.jobs) == ("idle@host", POOL, ("demo",), False, ())
    assert [(job.uid, job.account, job.step, job.steps) for job in busy.jobs] == [
        (first, "alice", 4, 20),
        (second, "alice", 0, 0),
    ]
    assert (busy.idle, busy.is_silent) == (False, False)
    bench.claim("idle@host")
    assert not bench.claim("idle@host")
    assert [worker.idle for worker in operations.workers()] == [True, False]
    bench.redis.zincrby("{dr}:live", -7000, NODE)
    assert operations.workers()[1].is_silent


def test_a_pool_is_known_by_whatever_names_it(bench, operations):
    assert operations.pools() == {"ingest", "default"}  # alice's
    bench.accounts.create_key("bob", pool="large")
    bench.hello("w@host", pool="night")
    submission = Submission(spec=JobSpec(prompt="a circle", model="demo", seed=7))
    bench.backlog.submit(submission, account=bench.account, pool="orphan", price=0)
    operations.set_gate("shut", Gate.DRAINING)
    operations.set_gate("half", Gate.PAUSED, model="demo")

    assert operations.pools() == {"ingest", "default", "large", "night", "orphan", "shut", "half"}


def test_the_busiest_accounts_come_first(bench, operations):
    accounts = [bench.accounts.create_key(name).account for name in ("bob", "carol")]
    for account in (accounts[0], bench.account, bench.account):
        bench.submit(account=account)

    assert [(load.name, load.waiting, load.running) for load in operations.busiest(5)] == [
        ("alice", 2, 0),
        ("bob", 1, 0),
    ]
    assert len(operations.busiest(1)) == 1


@pytest.mark.parametrize("leaves", ["retry", "erase"])
def test_what_lost_three_workers_is_set_apart_until_it_is_run_again_or_erased(bench, operations, leaves):
    uids = [bench.submit().uid for _ in range(2)]
    for incarnation in count():
        bench.hello(incarnation=str(incarnation))
        if not bench.claim(max_jobs=1):
            break

    apart = operations.set_apart(5)
    assert {job.uid for job in apart} == set(uids)
    assert {(job.account, job.lane, job.worker) for job in apart} == {("alice", f"{POOL}/demo", NODE)}
    assert len(operations.set_apart(1)) == 1

    getattr(bench.backlog, leaves)(uids[0], account=bench.account)
    assert [job.uid for job in operations.set_apart(5)] == [uids[1]]
