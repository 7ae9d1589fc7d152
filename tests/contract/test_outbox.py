"""The outbox's promises, on every server that Darkroom runs on. Entries come from the backlog's own scripts."""

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from standardwebhooks import Webhook, WebhookVerificationError

from shared.accounts import Accounts
from shared.backlog import Backlog
from shared.celery_app import SilentBell
from shared.errors import BacklogUnavailable
from shared.job import Result, Status, Submission
from shared.outbox import (
    MAX_ATTEMPTS,
    RETRY_DELAYS_S,
    Entry,
    Outbox,
    Outcome,
    Verdict,
    after_failure,
    signed_headers,
)
from shared.spec import JobSpec

DELIVERED = Verdict(outcome=Outcome.DELIVERED, status=200)
RETRY = Verdict(outcome=Outcome.RETRY, delay_s=3600, status=500, error="Internal Server Error")
DEAD = Verdict(outcome=Outcome.DEAD, status=410, error="Gone")
WEBHOOK_SECRETS = ["whsec_" + "A" * 43 + "=", "whsec_" + "B" * 43 + "="]


class Bench:
    """An outbox behind a backlog, with one account."""

    def __init__(self, redis):
        self.redis = redis
        self.backlog = Backlog(redis, SilentBell())
        self.outbox = Outbox(redis, lease_s=30)
        self.account = Accounts(redis).create_key("alice").account

    def entry(self) -> str:
        """End a job that asks for a webhook, and return its entry."""
        submission = Submission(
            spec=JobSpec(prompt="a circle", model="demo", seed=7), webhook_url="https://hooks.example/"
        )
        self.backlog.submit(submission, account=self.account, pool="default")
        self.backlog.hello("worker@host", "1", pool="default", models=["demo"])
        (lease,) = self.backlog.claim("worker@host", max_jobs=1, max_images=1).leases
        self.backlog.finish("worker@host", lease, Status.SUCCEEDED, Result())
        return f"{lease.uid}:1"

    def let_time_pass(self, entry: str) -> None:
        """Make an entry due now: its lease has run out, or its delay is over."""
        assert self.redis.zadd("{dr}:ob", {entry: 1}, xx=True, ch=True) == 1

    def kept(self, entry: str) -> dict[str, str]:
        return self.redis.hgetall(f"{{dr}}:ob:{entry}")


@pytest.fixture
def bench(any_redis):
    return Bench(any_redis)


def test_an_ended_job_leaves_an_entry_that_is_due(bench):
    entry = bench.entry()

    assert bench.outbox.due(10) == [entry]


def test_a_claim_tells_what_to_deliver(bench):
    entry = bench.entry()

    claimed = bench.outbox.claim(entry)

    assert (claimed.id, claimed.account, claimed.event, claimed.attempt) == (
        entry,
        bench.account,
        "succeeded",
        1,
    )
    assert claimed.uid == int(entry.split(":")[0])
    assert claimed.created_ms > 0


def test_a_leased_entry_is_nobody_elses(bench):
    entry = bench.entry()
    bench.outbox.claim(entry)

    assert bench.outbox.claim(entry) is None
    assert bench.outbox.due(10) == []


def test_a_lease_that_ran_out_is_claimed_again_as_the_next_attempt(bench):
    entry = bench.entry()
    bench.outbox.claim(entry)
    bench.let_time_pass(entry)

    assert bench.outbox.due(10) == [entry]
    assert bench.outbox.claim(entry).attempt == 2


def test_calls_that_were_made_are_remembered_and_the_lease_begins_anew(bench):
    entry = bench.entry()
    early = bench.outbox.claim(entry)
    bench.let_time_pass(entry)

    assert bench.outbox.told(early, 1)
    assert bench.outbox.told(early, 2)
    assert bench.outbox.due(10) == []
    bench.let_time_pass(entry)
    late = bench.outbox.claim(entry)

    assert (early.told, late.told, late.attempt) == (0, 2, 2)
    assert not bench.outbox.told(early, 3)
    bench.outbox.settle(late, DELIVERED)
    assert bench.outbox.told(late, 4)
    assert bench.outbox.due(10) == []


def test_an_unknown_entry_cannot_be_claimed(bench):
    assert bench.outbox.claim("123:1") is None


def test_an_entry_without_its_hash_is_dropped(bench):
    entry = bench.entry()
    bench.redis.delete(f"{{dr}}:ob:{entry}")

    assert bench.outbox.claim(entry) is None
    assert bench.outbox.due(10) == []


def test_a_claim_whose_reply_was_lost_is_answered_again(bench):
    entry = bench.entry()
    script = bench.outbox._claim

    first = script(bench.redis, entry, "token", 30_000)
    again = script(bench.redis, entry, "token", 30_000)

    assert again == first
    assert script(bench.redis, entry, "another token", 30_000) == []


def test_due_entries_come_in_bounded_numbers_longest_due_first(bench):
    entries = [bench.entry() for _ in range(3)]
    for due, entry in zip([30, 10, 20], entries, strict=True):
        bench.redis.zadd("{dr}:ob", {entry: due})

    assert bench.outbox.due(2) == [entries[1], entries[2]]


def test_a_delivered_entry_is_done(bench):
    entry = bench.entry()

    assert bench.outbox.settle(bench.outbox.claim(entry), DELIVERED) == "delivered"

    assert bench.outbox.claim(entry) is None
    assert bench.redis.zcard("{dr}:ob") == 0
    assert bench.redis.ttl(f"{{dr}}:ob:{entry}") > 0


def test_a_retry_waits_and_remembers_why(bench):
    entry = bench.entry()

    assert bench.outbox.settle(bench.outbox.claim(entry), RETRY) == "retry"

    assert bench.outbox.due(10) == []
    assert bench.outbox.claim(entry) is None
    assert bench.kept(entry)["status"] == "500"
    assert bench.kept(entry)["error"] == "Internal Server Error"
    bench.let_time_pass(entry)
    assert bench.outbox.claim(entry).attempt == 2


def test_a_retry_waits_its_delay(bench):
    entry = bench.entry()
    bench.outbox.settle(bench.outbox.claim(entry), RETRY)

    settled_at = int(bench.kept(entry)["at"])

    assert bench.redis.zscore("{dr}:ob", entry) == settled_at + 3_600_000


def test_a_dead_entry_is_kept_for_people(bench):
    entry = bench.entry()

    assert bench.outbox.settle(bench.outbox.claim(entry), DEAD) == "dead"

    assert bench.outbox.claim(entry) is None
    assert bench.redis.zrange("{dr}:ob:dead", 0, -1) == [entry]
    assert bench.kept(entry)["status"] == "410"


@pytest.mark.parametrize("verdict", [DELIVERED, RETRY, DEAD])
def test_a_verdict_whose_reply_was_lost_is_answered_again(bench, verdict):
    entry = bench.entry()
    claimed = bench.outbox.claim(entry)
    first = bench.outbox.settle(claimed, verdict)
    due = bench.redis.zscore("{dr}:ob", entry)

    assert bench.outbox.settle(claimed, verdict) == first
    assert bench.redis.zscore("{dr}:ob", entry) == due


@pytest.mark.parametrize("verdict", [RETRY, DEAD])
def test_a_verdict_from_before_a_later_attempt_changes_nothing(bench, verdict):
    entry = bench.entry()
    late = bench.outbox.claim(entry)
    bench.let_time_pass(entry)
    current = bench.outbox.claim(entry)

    assert bench.outbox.settle(late, verdict) == "stale"
    assert bench.outbox.settle(current, DELIVERED) == "delivered"


@pytest.mark.parametrize("verdict", [RETRY, DEAD, DELIVERED])
def test_what_was_delivered_stays_delivered(bench, verdict):
    entry = bench.entry()
    late = bench.outbox.claim(entry)
    bench.let_time_pass(entry)
    current = bench.outbox.claim(entry)

    assert bench.outbox.settle(late, DELIVERED) == "delivered"
    assert bench.outbox.settle(current, verdict) == "delivered"
    assert bench.redis.zcard("{dr}:ob") == 0
    assert bench.redis.zcard("{dr}:ob:dead") == 0


def test_a_late_delivery_takes_an_entry_from_the_dead(bench):
    entry = bench.entry()
    late = bench.outbox.claim(entry)
    bench.let_time_pass(entry)
    bench.outbox.settle(bench.outbox.claim(entry), DEAD)

    assert bench.outbox.settle(late, DELIVERED) == "delivered"
    assert bench.redis.zcard("{dr}:ob:dead") == 0


def test_an_erased_jobs_entry_is_gone(bench):
    entry = bench.entry()
    claimed = bench.outbox.claim(entry)
    bench.backlog.erase(claimed.uid, account=bench.account)

    assert bench.outbox.settle(claimed, RETRY) == "gone"
    assert bench.outbox.due(10) == []


def test_long_errors_are_cut(bench):
    entry = bench.entry()
    bench.outbox.settle(bench.outbox.claim(entry), Verdict(outcome=Outcome.DEAD, error="x" * 10_000))

    assert len(bench.kept(entry)["error"]) == 200


def test_an_outage_is_told_as_one(bench, monkeypatch):
    def away(*_args, **_options):
        raise RedisConnectionError("gone")

    monkeypatch.setattr(bench.redis, "execute_command", away)

    with pytest.raises(BacklogUnavailable):
        bench.outbox.due(1)
    with pytest.raises(BacklogUnavailable):
        bench.outbox.claim("1:1")


def test_the_schedule_backs_off_over_about_a_day():
    delays = [after_failure(attempt).delay_s for attempt in range(1, MAX_ATTEMPTS)]

    assert all(after_failure(attempt).outcome is Outcome.RETRY for attempt in range(1, MAX_ATTEMPTS))
    assert after_failure(MAX_ATTEMPTS).outcome is Outcome.DEAD
    assert all(0.9 * planned <= delay <= 1.1 * planned for planned, delay in zip(RETRY_DELAYS_S, delays, strict=True))
    assert 20 * 3600 <= sum(RETRY_DELAYS_S) <= 28 * 3600


def test_delays_vary():
    assert len({after_failure(5).delay_s for _ in range(20)}) > 1


def test_the_message_id_is_stable_and_free_of_the_uid():
    first = Entry("1700000000123:2", 1700000000123, "7", "succeeded", 1, 0)
    second = Entry("1700000000123:2", 1700000000123, "7", "succeeded", 5, 0)

    assert first.message_id("ab" * 16) == second.message_id("ab" * 16) == f"msg_{'ab' * 16}_2"


@pytest.mark.parametrize("secret", WEBHOOK_SECRETS)
def test_each_live_secret_verifies_the_signature(secret):
    body = '{"prompt":"grüße 🦊"}'.encode()

    headers = signed_headers("msg_1", body, webhook_secrets=WEBHOOK_SECRETS)

    assert Webhook(secret).verify(body, headers) == {"prompt": "grüße 🦊"}
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(body + b" ", headers)


def test_a_retired_secret_verifies_nothing():
    headers = signed_headers("msg_1", b"{}", webhook_secrets=WEBHOOK_SECRETS[:1])

    with pytest.raises(WebhookVerificationError):
        Webhook(WEBHOOK_SECRETS[1]).verify(b"{}", headers)
