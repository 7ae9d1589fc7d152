"""The backlog's promises, on every server that Darkroom runs on."""

import threading
from collections import Counter
from itertools import groupby

import pytest

from shared.accounts import Accounts
from shared.backlog import Backlog, Idempotency, Lost
from shared.celery_app import SilentBell
from shared.errors import (
    BacklogFull,
    IdempotencyConflict,
    InsufficientCredits,
    JobGone,
    JobNotFound,
    NotFailed,
    NotFinished,
    TooManyWaiting,
)
from shared.job import Artifact, Preview, Result, Status, Submission
from shared.spec import JobSpec

POOL, NODE = "default", "worker@host"
ARTIFACT = Artifact(key="results/x/1/0.png", seed=7, width=64, height=64, content_type="image/png", bytes=99)
DONE = Result(artifacts=(ARTIFACT,), timings={"generate": 1.5})


class Bench:
    """A backlog with an account and a worker, and short words for what tests do."""

    def __init__(self, redis, **options):
        self.redis = redis
        self.bell = SilentBell()
        self.backlog = Backlog(redis, self.bell, **options)
        self.accounts = Accounts(redis)
        self.account = self.accounts.create_key("alice").account

    def submit(self, prompt="a circle", *, account=None, idempotency=None, price=0, submission=None, **fields):
        made = Submission(spec=JobSpec(prompt=prompt, model="demo", seed=7, **fields))
        return self.backlog.submit(
            submission or made,
            account=account or self.account,
            pool=POOL,
            idempotency=idempotency,
            price=price,
        )

    def hello(self, node=NODE, incarnation="1", models=("demo",), pool=POOL):
        self.backlog.hello(node, incarnation, pool=pool, models=models)

    def claim(self, node=NODE, max_jobs=8, **options):
        return self.backlog.claim(node, max_jobs=max_jobs, max_images=16, **options).leases

    def read(self, uid, account=None):
        return self.backlog.read(uid, account=account or self.account)

    def expire_leases(self):
        """Make every lease run out now, without waiting for it."""
        for uid in self.redis.zrange("{dr}:lease", 0, -1):
            self.redis.zadd("{dr}:lease", {uid: 1})

    def counters(self, account=None):
        keys = ("waiting", "running", "balance", "reserved")
        values = self.redis.hmget(f"{{dr}}:a:{account or self.account}", keys)
        return {k: int(v or 0) for k, v in zip(keys, values, strict=True)}


@pytest.fixture
def bench(any_redis):
    return Bench(any_redis)


def test_a_job_lives_from_submit_to_finish(bench):
    receipt = bench.submit(num_images=2)
    queued = bench.read(receipt.uid)
    assert (queued.status, queued.position, queued.attempts) == (Status.QUEUED, 0, 0)
    assert queued.handle == receipt.handle
    assert queued.created_ms == receipt.created_ms
    assert queued.submission.spec.prompt == "a circle"

    bench.hello()
    (lease,) = bench.claim()
    running = bench.read(receipt.uid)
    assert (running.status, running.worker, running.attempts) == (Status.RUNNING, NODE, 1)
    assert running.started_ms is not None

    bench.backlog.renew(NODE, {lease: (3, 20)})
    assert (bench.read(receipt.uid).step, bench.read(receipt.uid).steps) == (3, 20)

    assert bench.backlog.finish(NODE, lease, Status.SUCCEEDED, DONE)
    done = bench.read(receipt.uid)
    assert done.status is Status.SUCCEEDED
    assert done.result.artifacts == (ARTIFACT,)
    assert done.finished_ms is not None
    assert bench.counters() == {"waiting": 0, "running": 0, "balance": 0, "reserved": 0}
    assert bench.redis.zcard("{dr}:lease") == 0


def test_every_change_is_an_event(bench):
    receipt = bench.submit()
    bench.hello()
    (lease,) = bench.claim()
    bench.backlog.renew(NODE, {lease: (1, 2)})
    bench.backlog.finish(NODE, lease, Status.FAILED, Result(error={"code": "x"}))
    events = [fields["event"] for _, fields in bench.redis.xrange("{dr}:ev")]
    assert events == ["queued", "started", "progress", "failed"]
    assert {fields["uid"] for _, fields in bench.redis.xrange("{dr}:ev")} == {str(receipt.uid)}


def test_uids_ascend_even_in_a_burst(bench):
    uids = [bench.submit().uid for _ in range(50)]
    assert uids == sorted(set(uids))


def test_another_accounts_job_is_not_found(bench):
    other = bench.accounts.create_key("bob").account
    uid = bench.submit().uid
    for act in (bench.backlog.read, bench.backlog.cancel, bench.backlog.erase):
        with pytest.raises(JobNotFound):
            act(uid, account=other)
    assert bench.read(uid).status is Status.QUEUED


def test_jobs_with_one_batch_key_are_claimed_together(bench):
    for prompt in ("a", "b", "c"):
        bench.submit(prompt)
    bench.submit("d", width=256)
    bench.hello()
    assert [lease.submission.spec.prompt for lease in bench.claim()] == ["a", "b", "c"]
    assert [lease.submission.spec.prompt for lease in bench.claim()] == ["d"]


def test_a_batch_holds_no_more_jobs_or_images_than_asked(bench):
    for _ in range(5):
        bench.submit(num_images=6)
    bench.hello()
    assert len(bench.claim(max_jobs=8)) == 2  # 12 of 16 images; a third would make 18
    assert len(bench.claim(max_jobs=1)) == 1


def test_a_worker_that_finds_nothing_is_idle_and_woken_by_name(bench):
    bench.hello()
    assert bench.claim() == ()
    bench.submit()
    assert bench.bell.woken == [NODE]
    bench.submit()
    assert bench.bell.woken == [NODE]  # it is awake already


def test_only_a_worker_that_serves_the_model_is_woken(bench):
    bench.hello("other@host", models=("another",))
    bench.hello(NODE, models=("another", "demo"))
    assert bench.claim("other@host") == ()
    assert bench.claim(NODE) == ()
    bench.submit()
    assert bench.bell.woken == [NODE]
    assert bench.claim("other@host") == ()
    assert len(bench.claim(NODE)) == 1


def test_a_claim_calls_in_one_more_worker_while_work_remains(bench):
    for node in ("a@h", "b@h", "c@h"):
        bench.hello(node)
        assert bench.claim(node) == ()
    for width in (64, 72, 80):
        bench.submit(width=width)
    assert sorted(bench.bell.woken) == ["a@h", "b@h", "c@h"]


def test_a_pools_jobs_go_to_its_workers_alone(bench):
    bench.hello("far@host", pool="far")
    bench.submit()
    assert bench.claim("far@host") == ()
    assert bench.backlog.pools() == {"far": 1}


class TestLostReplies:
    """Each script answers again, as it did, when it is run again with what it was run with."""

    def repeat(self, bench, name):
        """Run the script named twice, as a client does whose first reply was lost."""
        inner = bench.backlog._scripts[name]

        def twice(redis, *args):
            inner(redis, *args)
            return inner(redis, *args)

        bench.backlog._scripts[name] = twice

    def test_submit_makes_one_job(self, bench):
        self.repeat(bench, "submit")
        receipt = bench.submit()
        assert not receipt.replayed
        assert bench.counters()["waiting"] == 1
        assert bench.read(receipt.uid).status is Status.QUEUED

    def test_claim_gives_the_same_leases(self, bench):
        for _ in range(3):
            bench.submit()
        bench.submit(width=64)
        bench.hello()
        self.repeat(bench, "claim")
        assert len(bench.claim()) == 3
        assert len(bench.claim()) == 1
        assert bench.counters()["running"] == 4

    def test_finish_settles_once(self, bench):
        bench.accounts.create_key("alice", credits_=1)
        bench.submit(price=300)
        bench.hello()
        (lease,) = bench.claim()
        self.repeat(bench, "finish")
        assert bench.backlog.finish(NODE, lease, Status.SUCCEEDED, DONE)
        assert bench.counters() == {"waiting": 0, "running": 0, "balance": 700, "reserved": 0}

    def test_cancel_refunds_once(self, bench):
        bench.accounts.create_key("alice", credits_=1)
        uid = bench.submit(price=300).uid
        self.repeat(bench, "cancel")
        assert bench.backlog.cancel(uid, account=bench.account).status is Status.CANCELLED
        assert bench.counters() == {"waiting": 0, "running": 0, "balance": 1000, "reserved": 0}

    def test_handback_and_hello_requeue_once(self, bench):
        bench.submit()
        bench.hello()
        leases = bench.claim()
        self.repeat(bench, "handback")
        bench.backlog.handback(NODE, leases)
        assert bench.counters()["waiting"] == 1
        bench.claim()
        self.repeat(bench, "hello")
        bench.hello(incarnation="2")
        assert bench.counters() == {"waiting": 1, "running": 0, "balance": 0, "reserved": 0}


class TestFairness:
    def test_one_account_with_many_jobs_does_not_starve_another(self, bench):
        for _ in range(40):
            bench.submit()
        bench.hello()
        bench.claim()
        bob = bench.accounts.create_key("bob").account
        uid = bench.submit(account=bob, width=64).uid
        claimed = [lease.uid for _ in range(2) for lease in bench.claim()]
        assert uid in claimed

    def test_accounts_take_turns_by_weight(self, bench):
        bob = bench.accounts.create_key("bob", plan="free").account  # a quarter of alice's weight
        bench.redis.hset(f"{{dr}}:a:{bob}", "max_running", 1000)
        bench.hello()
        for _ in range(40):
            bench.submit()
            bench.submit(account=bob)
        turns = [bench.claim(max_jobs=1)[0].account for _ in range(40)]
        assert 6 <= turns.count(bob) <= 10

    def test_a_newcomer_does_not_wait_behind_batch_mates(self, bench):
        for _ in range(32):
            bench.submit()
        bench.hello()
        for _ in range(2):
            assert len(bench.claim()) == 8
        bob = bench.accounts.create_key("bob").account
        first = bench.submit(account=bob, width=64).uid
        assert first in {lease.uid for _ in range(2) for lease in bench.claim()}

    def test_an_account_at_its_running_limit_waits_and_goes_on_when_one_ends(self, bench):
        bench.redis.hset(f"{{dr}}:a:{bench.account}", "max_running", 2)
        for _ in range(5):
            bench.submit()
        bench.hello()
        first, _second = bench.claim()
        assert bench.claim() == ()
        bench.bell.woken.clear()
        bench.backlog.finish(NODE, first, Status.SUCCEEDED, DONE)
        assert bench.bell.woken == [NODE]
        assert len(bench.claim()) == 1

    def test_position_counts_own_jobs_and_others(self, bench):
        uids = [bench.submit().uid for _ in range(3)]
        assert [bench.read(uid).position for uid in uids] == [0, 1, 2]
        bob = bench.accounts.create_key("bob").account
        uid = bench.submit(account=bob).uid
        assert bench.read(uid, bob).position == 1

    def test_a_single_job_for_another_model_is_passed_over_once(self, bench):
        bench.hello(models=("demo", "other"))
        bob = bench.accounts.create_key("bob").account
        spec = JobSpec(prompt="b", model="other", seed=1)
        bench.submit(submission=Submission(spec=spec), account=bob)
        for _ in range(10):
            bench.submit()
        models = [bench.claim(max_jobs=1, loaded_model="demo")[0].submission.spec.model for _ in range(6)]
        assert models[:2] == ["demo", "other"]

    def test_equal_accounts_share_each_load_of_a_model(self, bench):
        bench.hello(models=("demo", "other"))
        bob = bench.accounts.create_key("bob").account
        other = Submission(spec=JobSpec(prompt="b", model="other", seed=1))
        for _ in range(24):
            bench.submit()
            bench.submit(submission=other, account=bob)
        drawn = ["demo"]
        for _ in range(12):
            (lease, *_) = bench.claim(max_jobs=4, loaded_model=drawn[-1])
            drawn.append(lease.submission.spec.model)
        assert len(list(groupby(drawn))) <= 3


class TestLimits:
    def test_backlog_full(self, any_redis):
        bench = Bench(any_redis, limit=2)
        bench.submit()
        bench.submit()
        with pytest.raises(BacklogFull):
            bench.submit()
        assert bench.counters()["waiting"] == 2

    def test_too_many_waiting(self, bench):
        bench.redis.hset(f"{{dr}}:a:{bench.account}", "max_waiting", 1)
        bench.submit()
        with pytest.raises(TooManyWaiting):
            bench.submit()

    def test_credits_are_reserved_settled_and_refunded(self, bench):
        bench.accounts.create_key("alice", credits_=1)
        uid = bench.submit(price=600).uid
        assert bench.counters() == {"waiting": 1, "running": 0, "balance": 400, "reserved": 600}
        with pytest.raises(InsufficientCredits):
            bench.submit(price=600)
        bench.hello()
        (lease,) = bench.claim()
        bench.backlog.finish(NODE, lease, Status.FAILED, Result())
        assert bench.counters() == {"waiting": 0, "running": 0, "balance": 1000, "reserved": 0}
        assert bench.read(uid).status is Status.FAILED

    def test_an_account_without_credits_is_not_metered(self, bench):
        bench.submit(price=600)
        assert bench.counters()["reserved"] == 0


class TestIdempotency:
    def test_the_same_request_gives_the_same_job(self, bench):
        key = Idempotency("k", "ab12")
        first = bench.submit(idempotency=key)
        again = bench.submit(idempotency=key)
        assert again.replayed
        assert (again.uid, again.handle, again.created_ms) == (first.uid, first.handle, first.created_ms)
        assert bench.counters()["waiting"] == 1

    def test_another_request_under_the_same_key_is_refused(self, bench):
        bench.submit(idempotency=Idempotency("k", "ab12"))
        with pytest.raises(IdempotencyConflict):
            bench.submit(idempotency=Idempotency("k", "ff"))

    def test_keys_of_two_accounts_do_not_meet(self, bench):
        bob = bench.accounts.create_key("bob").account
        first = bench.submit(idempotency=Idempotency("k", "ab12"))
        other = bench.submit(idempotency=Idempotency("k", "ab12"), account=bob)
        assert other.uid != first.uid

    def test_it_is_looked_up_before_limits(self, bench):
        bench.redis.hset(f"{{dr}}:a:{bench.account}", "max_waiting", 1)
        key = Idempotency("k", "ab12")
        assert bench.submit(idempotency=key).uid == bench.submit(idempotency=key).uid


class TestLosses:
    def lost(self, bench, uid):
        return int(bench.redis.hget(f"{{dr}}:j:{uid}", "lost") or 0)

    @pytest.mark.parametrize("how", ["hello", "sweep", "goodbye"])
    def test_only_jobs_that_had_begun_are_lost_with_their_worker(self, bench, how):
        uids = [bench.submit().uid for _ in range(4)]
        bench.hello()
        leases = bench.claim()
        assert bench.backlog.begin(NODE, leases[:2]) == Lost(frozenset())
        if how == "hello":
            bench.hello(incarnation="2")
        elif how == "goodbye":
            bench.backlog.goodbye(NODE)
        else:
            bench.backlog.sweep()
            bench.expire_leases()
            assert bench.backlog.sweep().requeued == 4

        assert [self.lost(bench, uid) for uid in uids] == [1, 1, 0, 0]
        assert [bench.read(uid).attempts for uid in uids] == [1, 1, 0, 0]
        assert [bench.read(uid).position for uid in uids] == [0, 1, 2, 3]
        bench.hello(incarnation="3")
        claimed = [[lease.uid for lease in bench.claim()] for _ in range(3)]
        assert claimed == [uids[:1], uids[1:2], uids[2:]]  # the first two alone, the others share a batch again

    def test_a_claims_first_job_has_begun(self, bench):
        """Its model is loaded for it: what a worker dies of before it draws must be somebody's."""
        first, second = bench.submit().uid, bench.submit().uid
        bench.hello()
        bench.claim()
        bench.hello(incarnation="2")
        assert [self.lost(bench, uid) for uid in (first, second)] == [1, 0]

    def test_no_number_of_workers_that_die_over_its_mates_ends_a_job_that_never_began(self, bench):
        poison = [bench.submit().uid for _ in range(4)]
        patient = bench.submit().uid
        for incarnation in range(20):
            bench.hello(incarnation=str(incarnation))
            bench.claim()
            if bench.read(poison[-1]).status.is_terminal:
                break
        assert [bench.read(uid).status for uid in poison] == [Status.FAILED] * 4
        assert (bench.read(patient).status, bench.read(patient).attempts) == (Status.RUNNING, 1)
        assert self.lost(bench, patient) == 0

    def test_a_job_that_had_begun_before_has_not_begun_anew(self, bench):
        first, second = bench.submit().uid, bench.submit().uid
        bench.hello()
        leases = bench.claim()
        bench.backlog.begin(NODE, leases)
        bench.backlog.handback(NODE, leases)
        bench.claim()
        bench.hello(incarnation="2")
        assert [self.lost(bench, uid) for uid in (first, second)] == [1, 0]

    def test_begin_tells_what_is_no_longer_held(self, bench):
        first, second = bench.submit().uid, bench.submit().uid
        bench.hello()
        leases = bench.claim()
        bench.backlog.cancel(second, account=bench.account)
        for _ in range(2):  # the first reply was lost
            assert bench.backlog.begin(NODE, leases).uids == {second}
        assert bench.backlog.begin("another@host", leases).uids == {first, second}

    def test_a_lane_of_fetches_begins_as_it_is_claimed(self, bench):
        spec = JobSpec(prompt="x", model="demo", seed=7, image="https://example.com/a.png", strength=0.5)
        uids = [bench.submit(submission=Submission(spec=spec)).uid for _ in range(2)]
        bench.hello("courier@host", models=("fetch",), pool="ingest")
        assert len(bench.claim("courier@host")) == 2
        bench.hello("courier@host", "2", models=("fetch",), pool="ingest")
        assert [self.lost(bench, uid) for uid in uids] == [1, 1]

    @pytest.mark.parametrize("how", ["handback", "hello"])
    def test_what_has_not_begun_must_still_begin_in_time(self, bench, how):
        bench.submit()
        spec = JobSpec(prompt="x", model="demo", seed=7)
        uid = bench.submit(submission=Submission(spec=spec, start_deadline_s=600, run_deadline_s=60)).uid
        deadline = bench.redis.zscore("{dr}:deadline", uid)
        bench.hello()
        leases = bench.claim()
        assert bench.redis.zscore("{dr}:deadline", uid) < deadline
        if how == "handback":
            bench.backlog.handback(NODE, leases)
        else:
            bench.hello(incarnation="2")
        assert bench.redis.zscore("{dr}:deadline", uid) == deadline

    def test_a_dead_workers_jobs_come_back_alone_when_it_says_hello_again(self, bench):
        first, second = bench.submit().uid, bench.submit().uid
        bench.hello()
        old = bench.claim()
        bench.hello(incarnation="2")
        assert bench.read(first).status is Status.QUEUED
        assert [lease.uid for lease in bench.claim()] == [first]  # alone, although `second` fits
        assert [lease.uid for lease in bench.claim()] == [second]
        assert not bench.backlog.finish(NODE, old[0], Status.SUCCEEDED, DONE)
        assert bench.read(first).status is Status.RUNNING

    def test_a_lease_that_ran_out_is_requeued_by_the_sweep(self, bench):
        uid = bench.submit().uid
        bench.hello()
        (lease,) = bench.claim()
        bench.backlog.sweep()
        bench.expire_leases()
        assert bench.backlog.sweep().requeued == 1
        assert bench.backlog.renew(NODE, {lease: (1, 2)}).uids == {uid}
        (again,) = bench.claim()
        assert again.fence > lease.fence
        assert again.attempts == 2

    def test_a_requeued_job_keeps_its_place(self, bench):
        first = bench.submit().uid
        bench.submit()
        bench.hello()
        bench.claim(max_jobs=1)
        bench.hello(incarnation="2")
        assert bench.read(first).position == 0

    def test_the_third_loss_is_final(self, bench):
        uid = bench.submit(
            submission=Submission(
                spec=JobSpec(prompt="x", model="demo", seed=1), webhook_url="https://example.com/hook"
            )
        ).uid
        for incarnation in "123":
            bench.hello(incarnation=incarnation)
            assert len(bench.claim()) == 1
        bench.hello(incarnation="4")
        job = bench.read(uid)
        assert job.status is Status.FAILED
        assert job.result.error["code"] == "worker_lost"
        assert job.attempts == 3
        assert bench.bell.due == [f"{uid}:1"]
        assert bench.claim() == ()

    def test_a_worker_does_not_end_what_the_sweep_has_failed_under_its_fence(self, bench):
        bench.accounts.create_key("alice", credits_=1)
        spec = JobSpec(prompt="x", model="demo", seed=1)
        uid = bench.submit(submission=Submission(spec=spec, webhook_url="https://example.com/hook"), price=300).uid
        bench.hello()
        for _ in range(3):
            (lease,) = bench.claim()
            bench.expire_leases()
            bench.backlog.sweep()

        late = Result(error={"code": "generation_failed"})

        assert not bench.backlog.finish(NODE, lease, Status.FAILED, late)
        assert not bench.backlog.finish(NODE, lease, Status.SUCCEEDED, DONE)
        job = bench.read(uid)
        assert (job.status, job.result.error["code"]) == (Status.FAILED, "worker_lost")
        assert bench.redis.zrange("{dr}:ob", 0, -1) == [f"{uid}:1"]
        assert bench.counters() == {"waiting": 0, "running": 0, "balance": 1000, "reserved": 0}

    def test_nothing_expires_at_once_after_an_outage(self, bench):
        uid = bench.submit().uid
        bench.hello()
        bench.claim()
        bench.backlog.sweep()
        bench.redis.hset("{dr}:sweep", "run_id", "of the server before its restart")
        bench.expire_leases()
        assert bench.backlog.sweep().requeued == 0
        assert bench.read(uid).status is Status.RUNNING
        bench.redis.hset("{dr}:sweep", "grace", 0)  # the grace has passed
        assert bench.backlog.sweep().requeued == 1

    @pytest.mark.parametrize("who", ["courier", "worker"])
    def test_nothing_expires_at_once_where_nobody_was_heard_for_a_while(self, bench, who):
        bench.submit()
        bench.hello()
        bench.claim()
        bench.backlog.sweep()
        bench.redis.hset("{dr}:sweep", "heard", 1)
        if who == "worker":
            bench.backlog.renew(NODE, {})
        bench.expire_leases()
        assert bench.backlog.sweep().requeued == 0

    def test_that_no_courier_was_there_is_no_outage(self, bench):
        bench.submit()
        bench.hello()
        bench.claim()
        bench.hello("another@host")
        bench.backlog.sweep()
        bench.redis.hset("{dr}:sweep", "heard", 1)
        bench.backlog.renew("another@host", {})
        bench.redis.hset("{dr}:sweep", "grace", 0)  # whatever the gap was before that
        bench.expire_leases()
        assert bench.backlog.sweep().requeued == 1

    def test_handback_does_not_count_as_an_attempt(self, bench):
        uid = bench.submit().uid
        bench.submit()
        bench.hello()
        leases = bench.claim()
        bench.backlog.handback(NODE, leases)
        job = bench.read(uid)
        assert (job.status, job.attempts, job.position) == (Status.QUEUED, 0, 0)
        assert len(bench.claim()) == 2  # and they may share a batch again

    def test_goodbye_returns_what_was_held(self, bench):
        uid = bench.submit().uid
        bench.hello()
        bench.claim()
        bench.backlog.goodbye(NODE)
        assert bench.read(uid).status is Status.QUEUED
        assert bench.backlog.pools() == {}

    def test_a_wake_up_nobody_answered_goes_to_the_worker_again(self, bench):
        bench.hello()
        bench.claim()
        bench.submit()
        bench.redis.zadd("{dr}:waking", {NODE: 1})
        assert bench.backlog.sweep().woken == 1
        assert bench.bell.woken == [NODE, NODE]

    def test_a_dead_worker_is_not_woken(self, bench):
        bench.hello()
        bench.claim()
        bench.redis.zadd("{dr}:live", {NODE: 1})
        bench.backlog.sweep()
        bench.submit()
        assert bench.bell.woken == []
        bench.backlog.renew(NODE, {})  # it lives after all
        assert bench.bell.woken == [NODE]

    def test_a_worker_introduces_itself_again_to_an_emptied_redis(self, bench):
        bench.hello()
        bench.redis.flushall()
        bench.account = bench.accounts.create_key("alice").account
        bench.backlog.renew(NODE, {})
        assert bench.bell.woken == [NODE]
        bench.submit()
        assert len(bench.claim()) == 1

    def test_nor_does_a_claim_that_comes_first_keep_it_from_doing_so(self, bench):
        bench.hello()
        bench.redis.flushall()
        assert bench.claim() == ()
        bench.account = bench.accounts.create_key("alice").account
        bench.backlog.renew(NODE, {})
        bench.submit()
        assert len(bench.claim()) == 1

    @pytest.mark.parametrize("lost", ["hello", "renew"])
    def test_a_worker_is_woken_although_its_own_first_wake_up_was_lost(self, bench, lost):
        """It was idle; its process is a new one, or was taken for dead. Nobody rings for it but the sweep."""
        bench.hello()
        bench.claim()
        if lost == "hello":
            bench.hello(incarnation="2")
        else:
            bench.redis.zadd("{dr}:live", {NODE: 1})
            bench.backlog.sweep()
            bench.backlog.renew(NODE, {})
        bench.bell.woken.clear()
        bench.redis.zadd("{dr}:waking", {NODE: 1}, xx=True)  # it does not answer in time

        bench.backlog.sweep()
        bench.submit()

        assert bench.bell.woken == [NODE]


class TestAClockThatStepsBack:
    """All that was noted before lies far ahead then."""

    AHEAD_MS = 3_600_000

    def ahead(self, bench):
        return bench.backlog.now_ms() + self.AHEAD_MS

    def test_a_lease_ends_all_the_same(self, bench):
        uid = bench.submit().uid
        bench.hello()
        bench.claim()
        bench.redis.zadd("{dr}:lease", {uid: self.ahead(bench)})
        bench.backlog.sweep()
        assert bench.redis.zscore("{dr}:lease", uid) <= bench.backlog.now_ms() + 10_000

    def test_a_wake_up_that_was_lost_is_made_good(self, bench):
        bench.hello()
        bench.claim()
        bench.submit()
        bench.redis.zadd("{dr}:waking", {NODE: self.ahead(bench)})
        bench.bell.woken.clear()
        bench.backlog.sweep()
        assert bench.bell.woken == [NODE]

    def test_a_dead_worker_is_soon_known_to_be_dead(self, bench):
        bench.hello()
        bench.redis.zadd("{dr}:live", {NODE: self.ahead(bench)})
        bench.backlog.sweep()
        assert bench.redis.zscore("{dr}:live", NODE) <= bench.backlog.now_ms()


class TestWhatAServerForgot:
    """A server whose machine died comes back without its last second."""

    def test_no_uid_is_given_out_twice_by_one_process(self, bench):
        bench.redis.set("{dr}:uid", bench.backlog.now_ms() + 60_000)  # ahead of the clock, as after a burst
        before = bench.redis.get("{dr}:uid")
        told = [bench.submit().uid for _ in range(3)]
        for uid in told:
            bench.redis.delete(f"{{dr}}:j:{uid}", f"{{dr}}:s:{uid}")
        bench.redis.set("{dr}:uid", before)
        assert bench.submit().uid > max(told)

    def test_nor_by_another_once_the_first_sweep_has_seen_the_new_server(self, bench):
        bench.backlog.sweep()
        before = bench.backlog.now_ms() + 60_000
        bench.redis.set("{dr}:uid", before)
        told = [bench.submit().uid for _ in range(3)]
        bench.redis.set("{dr}:uid", before)
        bench.redis.hset("{dr}:sweep", "run_id", "of the server before")
        bench.backlog.sweep()
        other = Bench(bench.redis)
        assert other.submit(account=bench.account).uid > max(told)
        at = bench.redis.get("{dr}:uid")
        bench.backlog.sweep()
        assert bench.redis.get("{dr}:uid") == at  # once for each server


class Memory:
    """All that a server knows at this moment, to be all that it knows again later."""

    def __init__(self, redis):
        self._redis = redis
        self._known = {name: redis.dump(name) for name in redis.scan_iter()}

    def forget_the_rest(self):
        self._redis.flushall()
        for name, value in self._known.items():
            self._redis.restore(name, 0, value)


@pytest.fixture
def forgetful(valkey_server, valkey):
    """A bench, and a client that takes what keys hold for bytes."""
    raw = valkey_server.client(decode_responses=False)
    yield Bench(valkey), lambda: Memory(raw)
    raw.close()


def test_a_job_whose_end_was_forgotten_is_drawn_again_charged_once_and_told_under_one_name(forgetful):
    bench, remember = forgetful
    bench.accounts.create_key("alice", credits_=1)
    spec = JobSpec(prompt="x", model="demo", seed=1)
    uid = bench.submit(submission=Submission(spec=spec, webhook_url="https://example.com/hook"), price=300).uid
    bench.hello()
    (lease,) = bench.claim()
    memory = remember()
    assert bench.backlog.finish(NODE, lease, Status.SUCCEEDED, DONE)
    told = bench.redis.zrange("{dr}:ob", 0, -1)

    memory.forget_the_rest()
    assert bench.read(uid).status is Status.RUNNING
    bench.expire_leases()
    bench.backlog.sweep()
    (again,) = bench.claim()
    assert bench.backlog.finish(NODE, again, Status.SUCCEEDED, DONE)

    assert bench.counters() == {"waiting": 0, "running": 0, "balance": 700, "reserved": 0}
    assert bench.redis.zrange("{dr}:ob", 0, -1) == told == [f"{uid}:1"]


def test_a_claim_that_was_forgotten_ends_nothing(forgetful):
    bench, remember = forgetful
    bench.hello()
    bench.hello("other@host")
    uid = bench.submit().uid
    memory = remember()
    (lease,) = bench.claim()

    memory.forget_the_rest()
    (current,) = bench.claim("other@host")

    assert current.fence == lease.fence  # the fence alone would not tell them apart
    assert bench.backlog.renew(NODE, {lease: (1, 2)}).uids == {uid}
    assert not bench.backlog.finish(NODE, lease, Status.SUCCEEDED, DONE)
    assert bench.backlog.finish("other@host", current, Status.SUCCEEDED, DONE)


def test_a_worker_throws_away_what_it_draws_of_a_job_that_was_forgotten(forgetful):
    bench, remember = forgetful
    bench.hello()
    memory = remember()
    uid = bench.submit().uid
    (lease,) = bench.claim()

    memory.forget_the_rest()

    assert bench.backlog.renew(NODE, {lease: (1, 2)}).uids == {uid}
    assert bench.backlog.begin(NODE, [lease]).uids == {uid}
    assert not bench.backlog.finish(NODE, lease, Status.SUCCEEDED, DONE)
    bench.backlog.handback(NODE, [lease])
    assert not bench.redis.keys(f"*{uid}*")
    with pytest.raises(JobNotFound):
        bench.read(uid)
    assert bench.counters() == {"waiting": 0, "running": 0, "balance": 0, "reserved": 0}


class TestCancel:
    def test_a_waiting_job_leaves_the_queue(self, bench):
        uid = bench.submit().uid
        assert bench.backlog.cancel(uid, account=bench.account).status is Status.CANCELLED
        bench.hello()
        assert bench.claim() == ()

    def test_a_running_job_is_taken_from_its_worker(self, bench):
        uid = bench.submit().uid
        bench.hello()
        (lease,) = bench.claim()
        bench.backlog.cancel(uid, account=bench.account)
        assert bench.backlog.renew(NODE, {lease: (1, 2)}).uids == {uid}
        assert not bench.backlog.finish(NODE, lease, Status.SUCCEEDED, DONE)
        assert bench.read(uid).status is Status.CANCELLED

    def test_an_ended_job_stays_as_it_is(self, bench):
        uid = bench.submit().uid
        bench.hello()
        (lease,) = bench.claim()
        bench.backlog.finish(NODE, lease, Status.SUCCEEDED, DONE)
        assert bench.backlog.cancel(uid, account=bench.account).status is Status.SUCCEEDED


class TestOutbox:
    def test_an_entry_is_written_with_the_outcome(self, bench):
        submission = Submission(spec=JobSpec(prompt="x", model="demo", seed=1), webhook_url="https://example.com/hook")
        uid = bench.submit(submission=submission).uid
        bench.hello()
        (lease,) = bench.claim()
        bench.backlog.finish(NODE, lease, Status.SUCCEEDED, DONE)
        assert bench.bell.due == [f"{uid}:1"]
        assert bench.redis.zrange("{dr}:ob", 0, -1) == [f"{uid}:1"]
        assert bench.redis.hget(f"{{dr}}:ob:{uid}:1", "event") == "succeeded"

    def test_only_the_events_asked_for(self, bench):
        submission = Submission(
            spec=JobSpec(prompt="x", model="demo", seed=1),
            webhook_url="https://example.com/hook",
            webhook_events=("failed",),
        )
        uid = bench.submit(submission=submission).uid
        bench.backlog.cancel(uid, account=bench.account)
        assert bench.redis.zcard("{dr}:ob") == 0


class TestLists:
    def test_newest_first_with_a_cursor(self, bench):
        uids = [bench.submit().uid for _ in range(7)]
        page, cursor = bench.backlog.list_jobs(bench.account, limit=3)
        assert [job.uid for job in page] == uids[:3:-1]
        page, cursor = bench.backlog.list_jobs(bench.account, limit=3, before=cursor)
        assert [job.uid for job in page] == uids[3:0:-1]
        page, cursor = bench.backlog.list_jobs(bench.account, limit=3, before=cursor)
        assert [job.uid for job in page] == uids[:1]
        assert cursor is None

    def test_by_status_and_track_id(self, bench):
        def tracked(track_id):
            return bench.submit(
                submission=Submission(spec=JobSpec(prompt="x", model="demo", seed=1), track_id=track_id)
            ).uid

        number, text = tracked(7), tracked("7")
        bench.backlog.cancel(text, account=bench.account)
        assert [job.uid for job in bench.backlog.list_jobs(bench.account, track_id=7)[0]] == [number]
        cancelled, _ = bench.backlog.list_jobs(bench.account, status=Status.CANCELLED)
        assert [job.uid for job in cancelled] == [text]

    def test_an_erased_job_is_gone(self, bench):
        uids = [bench.submit().uid for _ in range(3)]
        with pytest.raises(NotFinished):
            bench.backlog.erase(uids[1], account=bench.account)
        bench.backlog.cancel(uids[1], account=bench.account)
        bench.backlog.erase(uids[1], account=bench.account)
        with pytest.raises(JobNotFound):
            bench.read(uids[1])
        assert [job.uid for job in bench.backlog.list_jobs(bench.account)[0]] == [uids[2], uids[0]]
        left = {key for key in bench.redis.keys("*") if str(uids[1]) in key}
        assert left == set()


def test_claims_of_many_threads_never_share_a_job(valkey):
    bench = Bench(valkey)
    uids = {bench.submit().uid for _ in range(100)}
    claimed: list[int] = []

    def work(node):
        client = Backlog(valkey, SilentBell())
        client.hello(node, "1", pool=POOL, models=("demo",))
        while leases := client.claim(node, max_jobs=3, max_images=16).leases:
            for lease in leases:
                assert client.finish(node, lease, Status.SUCCEEDED, DONE)
                claimed.append(lease.uid)

    threads = [threading.Thread(target=work, args=(f"w{i}@h",)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(claimed) == sorted(uids)
    assert bench.counters() == {"waiting": 0, "running": 0, "balance": 0, "reserved": 0}


def test_a_waiting_job_of_a_plain_prompt_takes_at_most_1500_bytes(valkey):
    bench = Bench(valkey)
    bench.submit()

    def used():
        # Nonces live for two minutes only; a million jobs are not submitted within two minutes.
        for key in valkey.scan_iter("{dr}:n:*", count=1000):
            valkey.delete(key)
        valkey.delete("{dr}:ev")
        return valkey.info("memory")["used_memory"]

    before = used()
    count = 5_000
    for i in range(count):
        bench.submit(f"a large red circle on a blue background, number {i}")
    per_job = (used() - before) / count
    print(f"{per_job:.0f} bytes a waiting job")
    assert per_job <= 1500


class TestIngest:
    """Jobs whose images come by URL: a courier fetches them before a worker draws."""

    COURIER = "courier@host"

    def remote(self, bench, **fields):
        spec = JobSpec(prompt="x", model="demo", seed=1, image="https://example.com/a.png", **fields)
        return bench.submit(submission=Submission(spec=spec)).uid

    def fetched(self, lease):
        spec = lease.submission.spec.evolve(image=f"inputs/{lease.handle}/image.png")
        return Submission(spec=spec)

    def start(self, bench):
        bench.hello()
        bench.hello(self.COURIER, models=("fetch",), pool="ingest")

    @pytest.mark.parametrize("how", ["handback", "hello"])
    def test_it_must_still_start_in_time_however_often_it_is_fetched(self, bench, how):
        self.start(bench)
        spec = JobSpec(prompt="x", model="demo", seed=1, image="https://example.com/a.png")
        uid = bench.submit(submission=Submission(spec=spec, start_deadline_s=600)).uid
        deadline = bench.redis.zscore("{dr}:deadline", uid)
        leases = bench.claim(self.COURIER)
        if how == "handback":
            bench.backlog.handback(self.COURIER, leases)
        else:
            bench.hello(self.COURIER, "2", models=("fetch",), pool="ingest")
        assert bench.redis.zscore("{dr}:deadline", uid) == deadline

    def test_it_is_fetched_then_drawn(self, bench):
        self.start(bench)
        assert bench.claim(self.COURIER) == ()
        assert bench.claim() == ()
        uid = self.remote(bench)
        assert bench.bell.woken == [self.COURIER]
        (lease,) = bench.claim(self.COURIER)
        fetching = bench.read(uid)
        assert (fetching.status, fetching.attempts, fetching.started_ms) == (Status.QUEUED, 0, None)

        assert bench.backlog.advance(self.COURIER, lease, self.fetched(lease), pool=POOL)

        assert bench.bell.woken == [self.COURIER, NODE]
        (drawn,) = bench.claim()
        assert (drawn.uid, drawn.attempts) == (uid, 1)
        assert drawn.submission.spec.image == f"inputs/{lease.handle}/image.png"
        events = [fields["event"] for _, fields in bench.redis.xrange("{dr}:ev")]
        assert events == ["queued", "started"]

    def test_a_lost_reply_advances_once(self, bench):
        self.start(bench)
        self.remote(bench)
        (lease,) = bench.claim(self.COURIER)
        for _ in range(2):
            assert bench.backlog.advance(self.COURIER, lease, self.fetched(lease), pool=POOL)
        assert bench.counters()["waiting"] == 1
        assert len(bench.claim()) == 1

    def test_it_keeps_the_place_it_was_submitted_at(self, bench):
        self.start(bench)
        first = self.remote(bench, width=64)
        bench.submit()
        (lease,) = bench.claim(self.COURIER)
        bench.backlog.advance(self.COURIER, lease, self.fetched(lease), pool=POOL)
        assert bench.claim(max_jobs=1)[0].uid == first

    def test_a_cancelled_job_does_not_come_back(self, bench):
        self.start(bench)
        uid = self.remote(bench)
        (lease,) = bench.claim(self.COURIER)
        bench.backlog.cancel(uid, account=bench.account)
        assert not bench.backlog.advance(self.COURIER, lease, self.fetched(lease), pool=POOL)
        assert bench.read(uid).status is Status.CANCELLED

    def test_an_image_that_cannot_be_had_fails_the_job(self, bench):
        self.start(bench)
        uid = self.remote(bench)
        (lease,) = bench.claim(self.COURIER)
        assert bench.backlog.finish(self.COURIER, lease, Status.FAILED, Result(error={"code": "invalid_value"}))
        assert bench.read(uid).status is Status.FAILED

    def test_a_dead_couriers_fetches_come_back(self, bench):
        self.start(bench)
        uid = self.remote(bench)
        bench.claim(self.COURIER)
        bench.hello(self.COURIER, "2", models=("fetch",), pool="ingest")
        (lease,) = bench.claim(self.COURIER)
        assert lease.uid == uid


class TestRetry:
    def fail(self, bench, **fields):
        uid = bench.submit(**fields).uid
        bench.hello()
        (lease,) = bench.claim()
        bench.backlog.finish(NODE, lease, Status.FAILED, Result(error={"code": "x", "message": "y"}))
        return uid

    def test_a_failed_job_runs_again_under_its_uid(self, bench):
        uid = self.fail(bench)
        job = bench.backlog.retry(uid, account=bench.account)
        assert (job.status, job.result.error, job.finished_ms) == (Status.QUEUED, None, None)
        (lease,) = bench.claim()
        assert (lease.uid, lease.attempts) == (uid, 2)
        assert bench.backlog.finish(NODE, lease, Status.SUCCEEDED, DONE)
        assert bench.read(uid).status is Status.SUCCEEDED

    def test_its_second_outcome_is_told_too(self, bench):
        submission = Submission(spec=JobSpec(prompt="x", model="demo", seed=1), webhook_url="https://example.com/")
        uid = self.fail(bench, submission=submission)
        bench.backlog.retry(uid, account=bench.account)
        (lease,) = bench.claim()
        bench.backlog.finish(NODE, lease, Status.SUCCEEDED, DONE)
        assert bench.bell.due == [f"{uid}:1", f"{uid}:2"]
        assert [bench.redis.hget(f"{{dr}}:ob:{uid}:{n}", "event") for n in (1, 2)] == ["failed", "succeeded"]

    def test_a_quarantined_job_gets_three_lives_again(self, bench):
        uid = bench.submit().uid
        for incarnation in "1234":
            bench.hello(incarnation=incarnation)
            bench.claim()
        assert bench.read(uid).status is Status.FAILED
        bench.backlog.retry(uid, account=bench.account)
        bench.claim()
        bench.hello(incarnation="5")
        assert bench.read(uid).status is Status.QUEUED

    def test_its_price_is_reserved_anew(self, bench):
        bench.accounts.create_key("alice", credits_=1)
        uid = self.fail(bench, price=600)
        assert bench.counters()["balance"] == 1000
        bench.backlog.retry(uid, account=bench.account)
        assert bench.counters() == {"waiting": 1, "running": 0, "balance": 400, "reserved": 600}
        other = bench.submit(price=400).uid
        bench.backlog.cancel(uid, account=bench.account)
        bench.submit(price=600)
        with pytest.raises(InsufficientCredits):
            bench.backlog.retry(uid, account=bench.account)
        assert bench.read(other).status is Status.QUEUED

    def test_only_what_ended_without_pictures_can_be_retried(self, bench):
        uid = bench.submit().uid
        with pytest.raises(NotFailed):
            bench.backlog.retry(uid, account=bench.account)
        with pytest.raises(JobNotFound):
            bench.backlog.retry(uid, account="999")

    def test_a_lost_reply_retries_once(self, bench):
        uid = self.fail(bench)
        TestLostReplies().repeat(bench, "retry")
        bench.backlog.retry(uid, account=bench.account)
        assert bench.counters()["waiting"] == 1


class TestDeadlines:
    def submit(self, bench, **deadlines):
        spec = JobSpec(prompt="x", model="demo", seed=1)
        return bench.submit(submission=Submission(spec=spec, **deadlines)).uid

    def pass_deadlines(self, bench):
        for uid in bench.redis.zrange("{dr}:deadline", 0, -1):
            bench.redis.zadd("{dr}:deadline", {uid: 1})
        bench.backlog.sweep()

    def test_a_job_that_did_not_start_in_time_expires(self, bench):
        bench.accounts.create_key("alice", credits_=1)
        uid = self.submit(bench, start_deadline_s=5)
        self.pass_deadlines(bench)
        job = bench.read(uid)
        assert job.status is Status.EXPIRED
        assert job.result.error["code"] == "deadline_passed"
        assert bench.counters() == {"waiting": 0, "running": 0, "balance": 1000, "reserved": 0}

    def test_one_that_started_in_time_does_not(self, bench):
        uid = self.submit(bench, start_deadline_s=5)
        bench.hello()
        bench.claim()
        self.pass_deadlines(bench)
        assert bench.read(uid).status is Status.RUNNING

    def test_a_job_that_runs_too_long_expires_and_its_worker_hears_of_it(self, bench):
        uid = self.submit(bench, run_deadline_s=5)
        self.pass_deadlines(bench)
        assert bench.read(uid).status is Status.QUEUED
        bench.hello()
        (lease,) = bench.claim()
        self.pass_deadlines(bench)
        assert bench.read(uid).status is Status.EXPIRED
        assert bench.backlog.renew(NODE, {lease: (1, 2)}).uids == {uid}
        assert not bench.backlog.finish(NODE, lease, Status.SUCCEEDED, DONE)

    def test_a_finished_job_has_no_deadline(self, bench):
        uid = self.submit(bench, start_deadline_s=5, run_deadline_s=5)
        bench.hello()
        (lease,) = bench.claim()
        bench.backlog.finish(NODE, lease, Status.SUCCEEDED, DONE)
        assert bench.redis.zcard("{dr}:deadline") == 0
        assert bench.read(uid).status is Status.SUCCEEDED


def test_higher_bands_go_first_and_lower_ones_are_not_starved(bench):
    def submit(priority):
        spec = JobSpec(prompt="x", model="demo", seed=1)
        return bench.submit(submission=Submission(spec=spec, priority=priority)).uid

    low, high = submit("low"), [submit("high") for _ in range(30)]
    bench.hello()
    order = [bench.claim(max_jobs=1)[0].uid for _ in range(25)]
    assert order[0] == high[0]
    assert low in order
    assert bench.read(high[-1]).position is not None


def kept(seconds):
    return (("kept_s", seconds),)


class TestRetention:
    def test_a_buried_job_is_gone_for_its_owner_and_unknown_to_others(self, bench):
        uid = bench.submit().uid
        bench.backlog.cancel(uid, account=bench.account)
        assert bench.backlog.outdated(before_ms=bench.backlog.now_ms() - 10_000, limit=10) == []
        (job,) = bench.backlog.outdated(before_ms=bench.backlog.now_ms() + 1, limit=10)
        bench.backlog.bury(job, tombstone_s=60)
        with pytest.raises(JobGone):
            bench.read(uid)
        with pytest.raises(JobNotFound) as refusal:
            bench.read(uid, account="999")
        assert refusal.value.code == "job_not_found"
        assert bench.backlog.outdated(before_ms=bench.backlog.now_ms() + 1, limit=10) == []
        assert bench.backlog.list_jobs(bench.account) == ([], None)

    def test_a_job_with_a_time_of_its_own_is_outdated_when_that_is_over(self, bench):
        spec = JobSpec(prompt="x", model="demo", seed=1)
        brief, long, usual = (
            bench.submit(submission=Submission(spec=spec, options=options)).uid for options in (kept(5), kept(60), ())
        )
        for uid in (brief, long, usual):
            bench.backlog.cancel(uid, account=bench.account)
        before_ms = bench.backlog.now_ms() - 10_000
        assert bench.backlog.outdated(before_ms=before_ms, limit=10) == []
        ends = bench.redis.zscore("{dr}:brief", brief)
        assert ends - bench.read(brief).finished_ms == 5000
        bench.redis.zincrby("{dr}:brief", -5000, brief)

        (job,) = bench.backlog.outdated(before_ms=before_ms, limit=10)
        assert job.uid == brief
        every = bench.backlog.outdated(before_ms=bench.backlog.now_ms() + 1, limit=10)
        assert [job.uid for job in every] == [brief, long, usual]
        bench.backlog.bury(job, tombstone_s=60)
        bench.backlog.retry(long, account=bench.account)
        assert list(bench.redis.zrange("{dr}:brief", 0, -1)) == []

    def test_a_job_that_is_retried_is_not_outdated(self, bench):
        uid = bench.submit().uid
        bench.backlog.cancel(uid, account=bench.account)
        bench.backlog.retry(uid, account=bench.account)
        assert bench.backlog.outdated(before_ms=bench.backlog.now_ms() + 1, limit=10) == []


def test_a_queued_job_tells_what_it_waits_for(bench):
    first = bench.submit().uid

    def told(uid):
        return bench.read(uid).waits_for

    assert told(first) == "no_worker"
    bench.hello(models=("another",))
    assert told(first) == "no_worker_for_model"
    bench.hello(incarnation="2", models=("demo",))
    assert told(first) == "a_free_worker"
    second = bench.submit().uid
    assert told(second) == "other_jobs"
    bench.redis.hset("{dr}:lane:default", "paused", 1)
    assert told(first) == "paused"
    bench.redis.hdel("{dr}:lane:default", "paused")
    bench.redis.hset(f"{{dr}}:a:{bench.account}", "max_running", 1)
    assert [lease.uid for lease in bench.claim()] == [first]
    assert told(second) == "account_limit"
    assert told(first) is None
    remote = Submission(spec=JobSpec(prompt="x", model="demo", seed=1, image="https://example.com/a.png"))
    assert told(bench.submit(submission=remote).uid) == "images"


def test_a_worker_that_fell_silent_is_not_counted_even_if_nobody_sweeps(bench):
    bench.hello()
    assert bench.backlog.pools() == {POOL: 1}
    bench.redis.zadd("{dr}:live", {NODE: bench.backlog.now_ms() - 10_000})
    assert bench.backlog.pools() == {}


class TestPreviews:
    @staticmethod
    def preview(step):
        return Preview(index=0, step=step, key=f"results/x/1/{step}.jpg", width=8, height=8, content_type="image/jpeg")

    def test_they_are_listed_as_they_come(self, bench):
        uid = bench.submit().uid
        bench.hello()
        (lease,) = bench.claim()
        assert bench.backlog.preview(NODE, lease, self.preview(2))
        assert bench.read(uid).previews == (self.preview(2),)
        TestLostReplies().repeat(bench, "preview")
        assert bench.backlog.preview(NODE, lease, self.preview(4))
        assert bench.read(uid).previews == (self.preview(2), self.preview(4))
        assert [job.previews for job in bench.backlog.list_jobs(bench.account)[0]] == [bench.read(uid).previews]
        bench.backlog.finish(NODE, lease, Status.SUCCEEDED, DONE)
        assert len(bench.read(uid).previews) == 2

    def test_only_the_holder_may_list_them(self, bench):
        uid = bench.submit().uid
        bench.hello()
        (old,) = bench.claim()
        bench.backlog.preview(NODE, old, self.preview(2))
        bench.hello(incarnation="2")
        assert bench.read(uid).previews == ()  # they were of another attempt
        bench.claim()
        assert not bench.backlog.preview(NODE, old, self.preview(4))
        assert bench.read(uid).previews == ()

    def test_they_go_with_the_job(self, bench):
        uid = bench.submit().uid
        bench.hello()
        (lease,) = bench.claim()
        bench.backlog.preview(NODE, lease, self.preview(2))
        bench.backlog.cancel(uid, account=bench.account)
        bench.backlog.erase(uid, account=bench.account)
        assert [key for key in bench.redis.keys("*") if str(uid) in key] == []


def test_what_a_waiting_job_takes_of_memory_does_not_grow(valkey):
    bench, jobs = Bench(valkey), 100
    before = memory(valkey)
    for number in range(jobs):
        prompt = f"a large red circle on a blue background, studio light, number {number}"
        spec = JobSpec(prompt=prompt, model="demo", seed=number)
        bench.submit(submission=Submission(spec=spec, track_id=number, priority="normal"))

    each = {kind: (size - before[kind]) / jobs for kind, size in memory(valkey).items()}

    # In bytes. Both together are most of what `make bench-million` tells, beside one entry each in lists and indexes.
    assert each["j"] <= 256
    assert each["s"] <= 192
    assert sum(size for kind, size in each.items() if kind != "n") <= 640
    assert each["n"] <= 160, "for two minutes"
    assert valkey.object("encoding", valkey.keys("{dr}:j:*")[0]) == "listpack"


def memory(redis):
    """Return kind of key -> bytes of all keys of that kind."""
    found = Counter()
    for key in redis.scan_iter():
        found[key.split(":")[1]] += redis.memory_usage(key, samples=0)
    return found
