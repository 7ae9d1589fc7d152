"""Whatever happens to jobs, the books agree: balance = granted - settled, reserved = what the open jobs cost.

The model below keeps its own account of every grant, price and delivery; nothing is read back from what the scripts
wrote but jobs' states, so a script that settles twice, or loses a refund, is found out.
"""

from collections import Counter

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from shared.accounts import Accounts
from shared.backlog import Backlog
from shared.books import Books, TooLittle
from shared.celery_app import SilentBell
from shared.errors import DeadlinePassed, InsufficientCredits, NotFailed, WorkerLost
from shared.job import Artifact, Result, Status, Submission
from shared.spec import JobSpec

NODE = "worker@h"
OPEN = {"queued", "running"}
ARTIFACT = Artifact(key="results/x/1/0.png", seed=1, width=64, height=64, content_type="image/png", bytes=9)


class LedgerMachine(RuleBasedStateMachine):
    """Two accounts that pay; one worker that draws, dies, stalls and answers twice."""

    redis = None

    @initialize()
    def start(self):
        self.redis.flushall()
        self.backlog = Backlog(self.redis, SilentBell())
        self.books = Books(self.redis)
        accounts = Accounts(self.redis)
        self.accounts = [accounts.create_key(name, credits_=5).account for name in ("alice", "bob")]
        self.granted = Counter(dict.fromkeys(self.accounts, 5000))
        self.settled, self.ended = Counter(), Counter()
        self.images, self.steps = Counter(), Counter()
        #: uid -> account, price, images
        self.jobs = {}
        self.leases = []
        self.incarnation = 0
        self.crash()
        for who in (0, 1, 0):
            self.submit(who, 100, 3, False)
        self.claim(2, False)

    def repeated(self, name, call):
        """Make the call with every reply of its script lost once: the client asks again."""
        scripts = self.backlog._scripts if name in self.backlog._scripts else None
        script = scripts[name] if scripts else getattr(self.books, f"_{name}")

        def twice(redis, *args):
            first, again = script(redis, *args), script(redis, *args)
            assert again[0] in (first[0], "again", "already")
            return first

        if scripts:
            scripts[name] = twice
        else:
            setattr(self.books, f"_{name}", twice)
        try:
            return call()
        finally:
            if scripts:
                scripts[name] = script
            else:
                setattr(self.books, f"_{name}", script)

    def make(self, name, call, lost):
        return self.repeated(name, call) if lost else call()

    @rule(who=st.integers(0, 1), amount=st.integers(-3000, 3000), lost=st.booleans())
    def grant(self, who, amount, lost):
        account = self.accounts[who]
        available = self.available(account)
        try:
            told = self.make("grant", lambda: self.books.grant(account, amount), lost)
        except TooLittle:
            assert available + amount < 0
        else:
            self.granted[account] += amount
            assert told == available + amount

    @rule(who=st.integers(0, 1), one=st.integers(0, 400), images=st.integers(1, 4), lost=st.booleans())
    def submit(self, who, one, images, lost):
        account, price = self.accounts[who], one * images
        spec = JobSpec(prompt="x", model="demo", num_images=images, num_inference_steps=3, seed=1)
        available = self.available(account)

        def call():
            return self.backlog.submit(Submission(spec=spec), account=account, pool="p", price=price)

        try:
            receipt = self.make("submit", call, lost)
        except InsufficientCredits:
            assert available < price
        else:
            assert available >= price
            self.jobs[receipt.uid] = (account, price, images)

    @rule(jobs=st.integers(1, 4), lost=st.booleans())
    def claim(self, jobs, lost):
        self.leases += self.make("claim", lambda: self.backlog.claim(NODE, max_jobs=jobs, max_images=16), lost).leases

    @precondition(lambda self: self.leases)
    @rule(
        status=st.sampled_from((Status.SUCCEEDED, Status.FAILED)),
        delivered=st.integers(0, 4),
        which=st.integers(0, 9),
        lost=st.booleans(),
    )
    def finish(self, status, delivered, which, lost):
        lease = self.leases.pop(which % len(self.leases))
        account, price, images = self.jobs[lease.uid]
        delivered = min(delivered, images)
        result = Result(artifacts=(ARTIFACT,) * delivered)
        # To a job that the sweep has failed meanwhile, "failed" is no news: the answer is yes, and nothing changes.
        was = self.status(lease.uid)
        if not self.make("finish", lambda: self.backlog.finish(NODE, lease, status, result), lost) or was != "running":
            return
        self.ended[account] += 1
        if status is Status.SUCCEEDED:
            self.settled[account] += price // images * delivered
            self.images[account] += delivered
            self.steps[account] += 3 * delivered

    @precondition(lambda self: self.jobs)
    @rule(which=st.integers(0, 99), lost=st.booleans())
    def cancel(self, which, lost):
        uid = self.some(which)
        account, was = self.jobs[uid][0], self.status(uid)
        self.make("cancel", lambda: self.backlog.cancel(uid, account=account), lost)
        self.ended[account] += was in OPEN

    @precondition(lambda self: self.jobs)
    @rule(which=st.integers(0, 99), lost=st.booleans())
    def retry(self, which, lost):
        uid = self.some(which)
        account, price, _ = self.jobs[uid]
        was, available = self.status(uid), self.available(account)
        try:
            self.make("retry", lambda: self.backlog.retry(uid, account=account), lost)
        except NotFailed:
            assert was in {*OPEN, "succeeded"}
        except InsufficientCredits:
            assert available < price

    @rule()
    def crash(self):
        """The worker dies; its successor says hello, and what it held comes back or, the third time, fails."""
        before = self.open_jobs()
        self.leases, self.incarnation = [], self.incarnation + 1
        self.backlog.hello(NODE, str(self.incarnation), pool="p", models=("demo",))
        self.count_ended(before)

    @rule(deadline=st.integers(0, 99))
    def sweep(self, deadline):
        """Leases run out although the worker lives on, and one job's deadline passes."""
        before = self.open_jobs()
        for uid in self.redis.zrange("{dr}:lease", 0, -1):
            self.redis.zadd("{dr}:lease", {uid: 1})
        if before:
            self.redis.zadd("{dr}:deadline", {sorted(before)[deadline % len(before)]: 1})
        self.redis.hset("{dr}:sweep", "grace", 0)
        self.backlog.sweep()
        self.count_ended(before)

    def count_ended(self, before):
        for uid in before - self.open_jobs():
            self.ended[self.jobs[uid][0]] += 1
            result = Result.from_json(self.redis.get(f"{{dr}}:r:{uid}"))
            assert result.error["code"] in {WorkerLost.code, DeadlinePassed.code}

    def some(self, which):
        return sorted(self.jobs)[which % len(self.jobs)]

    def status(self, uid):
        return self.redis.hget(f"{{dr}}:j:{uid}", "status")

    def open_jobs(self):
        return {uid for uid in self.jobs if self.status(uid) in OPEN}

    def available(self, account):
        return self.granted[account] - self.settled[account] - self.reserved(account)

    def reserved(self, account):
        return sum(self.jobs[uid][1] for uid in self.open_jobs() if self.jobs[uid][0] == account)

    @invariant()
    def the_books_agree(self):
        for account in self.accounts:
            found = self.books.statement(account)
            assert found.balance == self.granted[account] - self.settled[account]
            assert found.reserved == self.reserved(account)
            assert found.available >= 0
            settled = int(self.redis.hget(f"{{dr}}:a:{account}", "settled") or 0)
            assert settled == self.settled[account]

    @invariant()
    def usage_tells_the_same(self):
        for account in self.accounts:
            days = self.books.usage(account, days=2)  # a run may go over midnight
            assert sum(day.millicredits for day in days) == self.settled[account]
            assert sum(day.granted for day in days) == self.granted[account]
            assert sum(day.images for day in days) == self.images[account]
            assert sum(day.steps for day in days) == self.steps[account]
            assert sum(day.jobs for day in days) == self.ended[account]


@pytest.mark.parametrize("examples", [20])
def test_the_ledger(valkey, examples):
    LedgerMachine.redis = valkey
    run_state_machine_as_test(
        LedgerMachine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
