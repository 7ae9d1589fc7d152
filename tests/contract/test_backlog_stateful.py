"""Any interleaving of the scripts, with replies lost and workers dying between any two, keeps the invariants."""

import re
from collections import Counter
from contextlib import contextmanager

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from shared.accounts import Accounts
from shared.backlog import INGEST_MODEL, INGEST_POOL, Backlog, Batches, Gate, Operations
from shared.batch import BatchLine, BatchOptions
from shared.celery_app import SilentBell
from shared.errors import InsufficientCredits, NotFailed, NothingToRetry, PoolDraining
from shared.formats import marked
from shared.job import WEBHOOK_EVENTS, Artifact, Preview, Result, Status, Submission
from shared.spec import JobSpec

NODES = ("a@h", "b@h")
COURIER = "c@h"
MODELS = ("demo", "other")
#: The latest format of records that each node can draw; the others are of an older version.
READS = {"b@h": 2}
TERMINAL = {"succeeded", "failed", "cancelled", "expired"}
ARTIFACT = Artifact(key="results/x/1/0.png", seed=1, width=64, height=64, content_type="image/png", bytes=9)
nodes = st.sampled_from(NODES)


class BacklogMachine(RuleBasedStateMachine):
    """Accounts: one free of limits, one that may run two jobs, one that pays."""

    redis = None

    @initialize()
    def start(self):
        self.redis.flushall()
        self.bell = SilentBell()
        self.backlog = Backlog(self.redis, self.bell)
        self.later = Backlog(self.redis, self.bell, reads=2)
        self.operations = Operations(self.redis, self.bell)
        self.batches = Batches(self.redis, self.bell, self.backlog)
        self.opened = {}
        self.retries = Counter()
        accounts = Accounts(self.redis)
        self.accounts = [
            accounts.create_key("open").account,
            accounts.create_key("narrow", plan="free").account,
            accounts.create_key("paying", credits_=2).account,
        ]
        self.granted = 2000
        self.leases = {node: [] for node in NODES}
        self.incarnation = Counter()
        self.fences = {}
        #: uid and fence of what was begun, as far as this model is asked.
        self.begun = set()
        self.outcomes = Counter()
        self.tags = {}
        #: Nodes whose process has nothing to do and waits to be rung for.
        self.waiting = set()
        for node in NODES:
            self.introduce(node)
        self.fetching = []
        self.backlog.hello(COURIER, "1", pool=INGEST_POOL, models=(INGEST_MODEL,))
        self.waiting.add(COURIER)

    def introduce(self, node, results_of=(), *, again=0):
        self.incarnation[node] += 1 - again
        incarnation = str(self.incarnation[node])
        self.waiting.add(node)
        with self.only_what_had_begun_is_lost():
            backlog = self.later if node in READS else self.backlog
            return backlog.hello(node, incarnation, pool="p", models=MODELS, results_of=results_of)

    @contextmanager
    def only_what_had_begun_is_lost(self):
        """Whatever lease ends in the block ends with its worker: one that had begun costs a life, another nothing."""
        before = self.jobs()
        yield
        for uid, now in self.jobs().items():
            was = before[uid]
            if was["status"] != "running" or now["status"] == "running":
                continue
            begun = (uid, int(was["fence"])) in self.begun
            assert int(now.get("lost", 0)) == int(was.get("lost", 0)) + begun
            assert int(now["attempts"]) == int(was["attempts"]) - (not begun)
            assert now["key"] == (f"solo{uid}" if begun and now["status"] == "queued" else was["key"])
            assert begun or now["status"] == "queued"

    def sweep_once(self):
        with self.only_what_had_begun_is_lost():
            self.backlog.sweep()

    def take(self, node, max_jobs, loaded):
        leases = self.backlog.claim(node, max_jobs=max_jobs, max_images=8, loaded_model=loaded).leases
        for lease in leases:
            assert lease.fence > self.fences.get(lease.uid, 0), "the fence must rise"
            assert lease.submission.format <= READS.get(node, 1)
            self.fences[lease.uid] = lease.fence
        self.leases[node] += leases
        self.begun |= {(lease.uid, lease.fence) for lease in leases[:1]}
        self.turns(node, leases)

    def turns(self, node, leases):
        """A process that got work asks again by itself; one that got none waits."""
        (self.waiting.discard if leases else self.waiting.add)(node)

    @rule(
        account=st.integers(0, 2),
        model=st.sampled_from(MODELS),
        width=st.sampled_from((64, 128)),
        images=st.integers(1, 4),
        price=st.integers(0, 900),
        count=st.integers(1, 3),
        remote=st.booleans(),
        later=st.booleans(),
    )
    def submit(self, account, model, width, images, price, count, remote, later):
        image = {"image": "https://example.com/a.png", "strength": 0.5} if remote else {}
        spec = JobSpec(prompt="x", model=model, width=width, num_images=images, seed=1, **image)
        submission = Submission(
            # No courier of this model's reads a later format.
            format=2 if later and not remote else 1,
            spec=spec,
            webhook_url="https://example.com/",
            webhook_events=WEBHOOK_EVENTS,
        )
        try:
            for _ in range(count):
                self.backlog.submit(submission, account=self.accounts[account], pool="p", price=price)
        except InsufficientCredits:
            assert account == 2
        except PoolDraining:
            assert self.is_shut(model, "drain")

    @rule(
        account=st.integers(0, 2),
        model=st.sampled_from(MODELS),
        count=st.integers(1, 6),
        price=st.integers(0, 200),
        twice=st.booleans(),
    )
    def submit_batch(self, account, model, count, price, twice):
        upload = self.batches.upload()
        spec = JobSpec(prompt="x", model=model, width=64, seed=1)
        submission = Submission(spec=spec, webhook_url="https://example.com/", webhook_events=WEBHOOK_EVENTS)
        for number in range(count):
            upload.add(BatchLine(submission=submission, pool="p", price=price, handle=f"{number:032x}"))
        numbers = set()
        try:
            for _ in range(1 + twice):
                options = BatchOptions(webhook_url="https://example.com/")
                numbers.add(self.batches.open(upload, account=self.accounts[account], options=options).id)
        except InsufficientCredits:
            assert account == 2
        except PoolDraining:
            assert self.is_shut(model, "drain")
        else:
            (number,) = numbers
            self.opened[number] = self.accounts[account]

    @rule(which=st.integers(0, 9), action=st.sampled_from(("pause", "resume", "cancel", "retry")), fed=st.booleans())
    def set_batch(self, which, action, fed):
        """One flip of a batch's state; the process may die before it has fed."""
        if not self.opened:
            return
        number = sorted(self.opened)[which % len(self.opened)]
        feed_one = self.batches.feed_one
        self.batches.feed_one = self.feed_one if fed else lambda _number: None
        try:
            self.batches.set(number, action, account=self.opened[number])
        except NothingToRetry:
            assert action == "retry"
        except InsufficientCredits:
            assert self.opened[number] == self.accounts[2]
        finally:
            self.batches.feed_one = feed_one

    @rule()
    def feed(self):
        for number in self.redis.smembers("{dr}:feeding"):
            self.feed_one(int(number))

    def feed_one(self, number):
        before = {uid for uid, state in self.jobs().items() if state["status"] in TERMINAL}
        for _ in range(20):
            more, *_ = self.batches._run("feed", number, 3, 1_000_000)
            if not more:
                break
        after = self.jobs()
        self.retries.update(uid for uid in before if after[uid]["status"] not in TERMINAL)

    def is_shut(self, model, what):
        return any(self.redis.hmget("{dr}:lane:p", what, f"{what}/{model}"))

    @rule(gate=st.sampled_from(Gate), model=st.sampled_from(("", *MODELS)), twice=st.booleans())
    def set_gate(self, gate, model, twice):
        for _ in range(1 + twice):
            self.operations.set_gate("p", gate, model=model)

    @rule()
    def fetch(self):
        leases = self.backlog.claim(COURIER, max_jobs=2, max_images=8).leases
        self.fetching += leases
        self.turns(COURIER, leases)
        self.begun |= {(lease.uid, lease.fence) for lease in leases}

    @rule(twice=st.booleans())
    def advance(self, twice):
        """A courier sends a job on, at the place it was given; nobody knows whether it has still the lease."""
        if not self.fetching:
            return
        lease = self.fetching.pop(0)
        held = self.current(COURIER, lease)
        before = self.redis.hget(f"{{dr}}:j:{lease.uid}", "seq")
        spec = lease.submission.spec.evolve(image="inputs/a.png")
        fetched = Submission(spec=spec, webhook_url="https://example.com/", webhook_events=WEBHOOK_EVENTS)
        for _ in range(1 + twice):
            assert self.backlog.advance(COURIER, lease, fetched, pool="p") is held
        assert self.redis.hget(f"{{dr}}:j:{lease.uid}", "seq") == before

    @rule(fresh=st.booleans())
    def courier_dies(self, fresh):
        old, self.fetching = self.fetching, []
        if fresh:
            self.incarnation[COURIER] += 1
            incarnation = f"new {self.incarnation[COURIER]}"
            with self.only_what_had_begun_is_lost():
                self.backlog.hello(COURIER, incarnation, pool=INGEST_POOL, models=(INGEST_MODEL,))
            self.waiting.add(COURIER)
        for lease in old:
            self.redis.zadd("{dr}:lease", {lease.uid: 1}, xx=True)

    @rule(which=st.integers(0, 30), twice=st.booleans())
    def retry(self, which, twice):
        ended = sorted(uid for uid, state in self.jobs().items() if state["status"] in TERMINAL)
        if not ended:
            return
        uid = ended[which % len(ended)]
        state = self.jobs()[uid]
        script = self.backlog._scripts["retry"]
        if twice:  # the reply is lost, and the client asks again

            def again(redis, *args):
                first, second = script(redis, *args), script(redis, *args)
                assert second[0] == first[0]
                return first

            self.backlog._scripts["retry"] = again
        try:
            self.backlog.retry(uid, account=state["account"])
        except NotFailed:
            assert state["status"] == "succeeded"
        except InsufficientCredits:
            assert state["account"] == self.accounts[2]
        else:
            self.retries[uid] += 1
        finally:
            self.backlog._scripts["retry"] = script

    @rule(node=nodes, twice=st.booleans())
    def preview(self, node, twice):
        if not self.leases[node]:
            return
        lease = self.leases[node][0]
        held = self.current(node, lease)
        count = self.redis.llen(f"{{dr}}:p:{lease.uid}")
        key = f"previews/{count}.png"
        shown = Preview(key=key, index=0, step=1, width=64, height=64, content_type="image/png")
        for _ in range(1 + twice):
            assert self.backlog.preview(node, lease, shown) is held
        assert self.redis.llen(f"{{dr}}:p:{lease.uid}") == count + held

    @rule(node=nodes, max_jobs=st.integers(1, 4), loaded=st.sampled_from(("", *MODELS)))
    def claim(self, node, max_jobs, loaded):
        self.take(node, max_jobs, loaded)

    @rule(node=nodes, max_jobs=st.integers(1, 4))
    def claim_whose_reply_was_lost(self, node, max_jobs):
        script = self.backlog._scripts["claim"]

        def twice(redis, *args):
            first, again = script(redis, *args), script(redis, *args)
            assert first[0] == again[0]
            return again

        self.backlog._scripts["claim"] = twice
        try:
            self.take(node, max_jobs, "")
        finally:
            self.backlog._scripts["claim"] = script

    @rule(node=nodes, count=st.integers(1, 4), twice=st.booleans())
    def begin(self, node, count, twice):
        """A pipeline call begins with some of what the worker holds; others wait for a later one."""
        leases = self.leases[node][:count]
        held = {lease.uid for lease in leases if self.current(node, lease)}
        for _ in range(1 + twice):
            assert self.backlog.begin(node, leases).uids == {lease.uid for lease in leases} - held
        self.begun |= {(lease.uid, lease.fence) for lease in leases if lease.uid in held}

    @rule(
        node=nodes,
        status=st.sampled_from((Status.SUCCEEDED, Status.FAILED)),
        delivered=st.integers(0, 4),
        twice=st.booleans(),
    )
    def finish(self, node, status, delivered, twice):
        if not self.leases[node]:
            return
        lease = self.leases[node].pop(0)
        held = self.current(node, lease)
        result = Result(artifacts=(ARTIFACT,) * min(delivered, lease.submission.spec.num_images))
        for _ in range(1 + twice):
            assert self.backlog.finish(node, lease, status, result) is held

    @rule(node=nodes, fresh=st.booleans(), results=st.integers(0, 2))
    def die(self, node, fresh, results):
        """The process dies; the next one says hello and has some of its results, or its leases run out."""
        old, self.leases[node] = self.leases[node], []
        if fresh:
            self.introduce_with(node, old[:results])
        else:
            for lease in old:
                self.redis.zadd("{dr}:lease", {lease.uid: 1}, xx=True)

    def introduce_with(self, node, results_of):
        held = {lease.uid for lease in results_of if self.current(node, lease)}
        for again in (0, 1):  # the first reply was lost
            assert self.introduce(node, results_of, again=again) == held
        self.leases[node] = [lease for lease in results_of if lease.uid in held]

    @rule(node=nodes)
    def stall(self, node):
        """Its leases run out although it lives: a late finish must be fenced off."""
        for lease in self.leases[node]:
            self.redis.zadd("{dr}:lease", {lease.uid: 1}, xx=True)

    @rule()
    def sweep(self):
        self.redis.hset("{dr}:sweep", "grace", 0)
        for node in NODES:
            self.redis.zadd("{dr}:waking", {node: 1}, xx=True)
        self.sweep_once()

    @rule(node=nodes)
    def fall_silent(self, node):
        """It is taken for dead, and its next heartbeat says otherwise; whether it is rung for then nobody knows."""
        self.redis.zadd("{dr}:live", {node: 1})
        self.sweep_once()
        self.renew(node)

    @rule(node=nodes)
    def renew(self, node):
        progress = dict.fromkeys(self.leases[node], (1, 2))
        lost = self.backlog.renew(node, progress).uids
        assert lost == {lease.uid for lease in self.leases[node] if not self.current(node, lease)}
        self.leases[node] = [lease for lease in self.leases[node] if lease.uid not in lost]

    @rule(node=nodes, twice=st.booleans())
    def handback(self, node, twice):
        leases, self.leases[node] = self.leases[node], []
        for _ in range(1 + twice):
            self.backlog.handback(node, leases)

    @rule(node=nodes, results=st.integers(0, 2))
    def leave(self, node, results):
        """It leaves, with some results on its disk, and comes back."""
        left = self.leases[node][:results]
        with self.only_what_had_begun_is_lost():
            self.backlog.goodbye(node, results_of=left)
        self.introduce_with(node, left)

    @rule(which=st.integers(0, 30), twice=st.booleans())
    def cancel(self, which, twice):
        uids = sorted(self.jobs())
        if uids:
            uid = uids[which % len(uids)]
            for _ in range(1 + twice):
                self.backlog.cancel(uid, account=self.jobs()[uid]["account"])

    def current(self, node, lease):
        state = self.jobs()[lease.uid]
        return (state["status"], state["fence"], state["worker"]) == ("running", str(lease.fence), node)

    def jobs(self):
        found = {}
        for key in self.redis.keys("{dr}:j:*"):
            state = self.redis.hgetall(key)
            found[int(key.rsplit(":", 1)[1])] = {"worker": "", "fence": "0", **state}
        return found

    def queued(self):
        """uid -> how many queues hold it; and the flows that are not empty."""
        seen, flows = Counter(), set()
        for key in self.redis.keys("{dr}:q:*"):
            lane, band, account = re.fullmatch(r"\{dr\}:q:(.*):(\d):(\d+)", key).groups()
            flows.add((lane, band, account))
            for member in self.redis.zrange(key, 0, -1):
                seen[int(member.split(":")[0])] += 1
        return seen, flows

    @invariant()
    def a_batch_counts_its_jobs(self):
        states = self.jobs()
        for number, account in self.opened.items():
            batch = self.batches.read(number, account=account)
            fed = [int(uid) for uid in self.redis.lrange(f"{{dr}}:bu:{number}", 0, -1)]
            unfed = self.redis.llen(f"{{dr}}:bl:{number}")
            assert len(fed) + unfed == batch.total
            expected = Counter(states[uid]["status"] for uid in fed)
            expected["cancelled" if batch.status == "cancelled" else "queued"] += unfed
            assert {str(k): v for k, v in batch.counts.items() if v} == {k: v for k, v in expected.items() if v}
            live = {uid for uid in fed if states[uid]["status"] not in TERMINAL}
            assert {int(uid) for uid in self.redis.zrange(f"{{dr}}:bq:{number}", 0, -1)} == live
            if batch.status == "completed":
                assert not live
                assert not unfed
            if batch.finished_ms is None:
                assert self.redis.sismember("{dr}:feeding", number) or live or batch.status == "paused"

    def beside(self):
        """Return the jobs that wait beside the queue, because their batch is paused."""
        return Counter(int(uid) for key in self.redis.keys("{dr}:bh:*") for uid in self.redis.zrange(key, 0, -1))

    @invariant()
    def a_live_job_is_in_exactly_one_place(self):
        queued, _ = self.queued()
        queued += self.beside()
        leased = {int(uid) for uid in self.redis.zrange("{dr}:lease", 0, -1)}
        for uid, state in self.jobs().items():
            places = (queued[uid], int(uid in leased))
            expected = {"queued": (1, 0), "running": (0, 1)}.get(state["status"], (0, 0))
            assert places == expected, (uid, state)
            held = self.redis.sismember("{dr}:held:" + state["worker"], uid) if state["worker"] else 0
            assert bool(held) == (state["status"] == "running")

    @invariant()
    def an_account_is_active_if_and_only_if_it_may_be_served(self):
        _, flows = self.queued()
        active = set()
        for key in self.redis.keys("{dr}:act:*"):
            lane, band = re.fullmatch(r"\{dr\}:act:(.*):(\d)", key).groups()
            active |= {(lane, band, account) for account in self.redis.zrange(key, 0, -1)}
        limits = {
            a: [int(v or 0) for v in self.redis.hmget(f"{{dr}}:a:{a}", "running", "max_running")] for a in self.accounts
        }
        assert active == {flow for flow in flows if limits[flow[2]][0] < limits[flow[2]][1]}

    @invariant()
    def counters_are_true(self):
        states = self.jobs().values()
        total = Counter()
        for account in self.accounts:
            own = [s for s in states if s["account"] == account]
            waiting, running, balance, reserved, settled = (
                int(v or 0)
                for v in self.redis.hmget(f"{{dr}}:a:{account}", "waiting", "running", "balance", "reserved", "settled")
            )
            assert waiting == sum(s["status"] == "queued" for s in own)
            assert running == sum(s["status"] == "running" for s in own)
            unfed = [self.redis.hgetall(f"{{dr}}:b:{n}") for n, owner in self.opened.items() if owner == account]
            deferred = sum(int(b["reserved"]) for b in unfed if b["status"] != "cancelled")
            assert reserved == deferred + sum(int(s.get("price", 0)) for s in own if s["status"] not in TERMINAL)
            assert balance >= 0
            if account == self.accounts[2]:
                assert balance + reserved + settled == self.granted
            lines = [self.redis.llen(f"{{dr}}:bl:{n}") for n, a in self.opened.items() if a == account]
            alive = [self.redis.hget(f"{{dr}}:b:{n}", "status") for n, a in self.opened.items() if a == account]
            unfed = sum(n for n, status in zip(lines, alive, strict=True) if status != "cancelled")
            assert int(self.redis.hget(f"{{dr}}:a:{account}", "deferred") or 0) == unfed
            total.update(waiting=waiting, running=running, deferred=unfed)
        lanes = Counter(s["lane"] for s in states if s["status"] == "queued")
        assert {lane: int(n) for lane, n in self.redis.hgetall("{dr}:lanes").items()} == lanes
        count = self.redis.hgetall("{dr}:count")
        assert {k: int(v) for k, v in count.items() if int(v)} == {k: v for k, v in total.items() if v}

    @invariant()
    def terminal_is_final_and_told_once(self):
        for uid, state in self.jobs().items():
            outcome = int(state.get("outcome", 0))
            assert outcome == self.retries[uid] + int(state["status"] in TERMINAL)
            assert outcome >= self.outcomes[uid]
            self.outcomes[uid] = outcome
            told = [n for n in range(1, outcome + 2) if self.redis.zscore("{dr}:ob", f"{uid}:{n}") is not None]
            assert told == list(range(1, outcome + 1))

    @invariant()
    def tags_never_decrease(self):
        now = {f"lane {k}": int(v) for k, v in self.redis.hgetall("{dr}:lane:p").items() if k.startswith("V")}
        for account in self.accounts:
            state = self.redis.hgetall(f"{{dr}}:a:{account}")
            now |= {f"{account} {k}": int(v) for k, v in state.items() if k.startswith("F:")}
        for name, value in now.items():
            assert value >= self.tags.get(name, 0)
        self.tags |= now

    @invariant()
    def who_waits_is_rung_for(self):
        """Whatever became of earlier wake-ups, the scripts know of everybody who waits: as idle, or as rung for."""
        known = set(self.redis.zrange("{dr}:waking", 0, -1))
        known |= {node for key in self.redis.keys("{dr}:idle:*") for node in self.redis.zrange(key, 0, -1)}
        # Where the machine is slow they may be taken for dead between two steps, until they are heard again.
        assert self.waiting & set(self.redis.zrange("{dr}:live", 0, -1)) <= known

    @invariant()
    def work_wakes_idle_workers(self):
        """Whoever is idle while work waits was woken by a script, or is by the next sweep."""
        if not self.redis.keys("{dr}:act:*"):
            return
        lanes = {marked(model, known): model for model in MODELS for known in (1, 2)}
        busy = {lane for lane in lanes if self.redis.keys(f"{{dr}}:act:p/{lane}:*")}
        busy -= {lane for lane, model in lanes.items() if self.is_shut(model, "paused")}
        idle = {n for model in busy for n in self.redis.zrange(f"{{dr}}:idle:p/{model}", 0, -1)}
        waking = set(self.redis.zrange("{dr}:waking", 0, -1))
        before = len(self.bell.woken)
        if idle:
            # However slow the machine, nobody is taken for dead meanwhile.
            self.redis.zadd("{dr}:live", dict.fromkeys(idle, self.backlog.now_ms()))
            self.sweep_once()
            assert set(self.bell.woken[before:]) & idle
        assert not idle & waking


@pytest.mark.parametrize("examples", [25, pytest.param(250, marks=pytest.mark.slow)])
def test_invariants(valkey, examples):
    BacklogMachine.redis = valkey
    run_state_machine_as_test(
        BacklogMachine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
