"""The outbox: webhooks that are due, and how they are signed, retried and given up.

The backlog's scripts write an entry together with a job's outcome, so none is forgotten. Couriers lease entries and
tell how it went; one that dies leaves its lease to run out. Delivery is at least once, under an id that stays.
"""

import base64
import hmac
import json
import random
import secrets
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Final
from urllib.parse import urlsplit

from redis import Redis

from shared.backlog.scripts import OUTAGES, Script
from shared.batch import BATCH_EVENTS
from shared.celery_app import COURIER_QUEUE
from shared.errors import BacklogUnavailable
from shared.job import PASSING_WEBHOOK_EVENTS
from shared.keys import disabled_key, outbox_key
from shared.redis_client import now_ms

#: Waits between attempts, in seconds; together about a day. After the last one an entry is dead.
RETRY_DELAYS_S: Final = (5, 30, 120, 600, 1800, 3600, 7200, 14400, 28800, 28800)
MAX_ATTEMPTS: Final = len(RETRY_DELAYS_S) + 1
#: A webhook about a job on its way is tried so often, and not kept when it fails.
MAX_PASSING_ATTEMPTS: Final = 2
#: A receiver may ask by Retry-After for a pause of up to a day.
LONGEST_DELAY_S: Final = 86_400.0
#: Whatever keeps an entry from being called: after so long it is given up.
GIVE_UP_S: Final = 2 * 86_400.0
#: Endpoints that an account may have disabled; the oldest are forgotten first.
DISABLED_AT_MOST: Final = 1000
#: A delay varies by this part of itself, so that what failed together does not return together.
JITTER: Final = 0.2
#: What an entry keeps of an error's text.
ERROR_CHARACTERS: Final = 200


class Outcome(StrEnum):
    """How an attempt ended."""

    DELIVERED = "delivered"  #: the receiver answered 2xx
    RETRY = "retry"  #: it is tried again later
    LATER = "later"  #: it could not be tried now; the attempt does not count
    DEAD = "dead"  #: it is not tried again; kept for a month
    DROPPED = "dropped"  #: it is not tried again, nor kept: it told of a job on its way


@dataclass(frozen=True, slots=True)
class Entry:
    """What a courier has leased. `id` is "{uid}:{outcome number}", or names what happened to a job on its way.

    `attempt` counts from 1; of these `spared` do not count: they were put off, or came before a redelivery. Of the
    calls that an entry may take, earlier attempts have made the first `told`. It is tried since `since_ms`.
    """

    id: str
    uid: int
    account: str
    event: str
    attempt: int
    created_ms: int
    told: int = 0
    spared: int = 0
    since_ms: int = 0

    @property
    def tries(self) -> int:
        """How many attempts count, this one included."""
        return self.attempt - self.spared

    @property
    def is_passing(self) -> bool:
        """Whether it tells of a job on its way: best effort, and nothing any more once the job has ended."""
        return self.event in PASSING_WEBHOOK_EVENTS

    @property
    def is_batch(self) -> bool:
        """Whether it tells of a batch; `uid` is the batch's number then."""
        return self.event.startswith(BATCH_EVENTS)

    def message_id(self, handle: str, number: int = 0) -> str:
        """Return the `webhook-id` of a call: the same at every attempt, and free of the guessable uid."""
        return f"msg_{handle}_{self.id.partition(':')[2]}" + (f"_{number}" if number else "")


@dataclass(frozen=True, kw_only=True, slots=True)
class CallRecord:
    """What the log keeps of one call. `url` has no query, which may hold a secret; `seconds` is how long it took."""

    webhook_id: str
    event: str
    url: str
    outcome: str
    seconds: float
    status: int | None = None
    #: How it failed, or how the answer's body begins.
    excerpt: str = ""

    def to_json(self) -> str:
        """Return compact JSON."""
        kept = {**asdict(self), "excerpt": self.excerpt[:ERROR_CHARACTERS]}
        return json.dumps(kept, ensure_ascii=False, separators=(",", ":"))


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """How an attempt ended, and what the receiver said. `delay_s` counts for a retry."""

    outcome: Outcome
    delay_s: float = 0.0
    status: int | None = None
    error: str = ""


class Outbox:
    """Reads and settles entries. Every method raises `BacklogUnavailable` when Redis is away."""

    def __init__(self, redis: Redis, *, lease_s: float) -> None:
        self._redis = redis
        self._lease_ms = int(lease_s * 1000)
        self._claim = Script("ob_claim", prelude=False)
        self._told = Script("ob_told", prelude=False)
        self._done = Script("ob_done", prelude=False)

    def claim(self, entry: str) -> Entry | None:
        """Lease an entry; None where it is not due, leased by another courier, or settled."""
        values = self._claim(self._redis, entry, secrets.token_hex(8), self._lease_ms)
        if not values:
            return None
        uid, account, event, attempt, created, told, spared, since = values
        numbers = (int(value or 0) for value in (attempt, created, told, spared, since or created))
        return Entry(entry, int(uid), account, event, *numbers)

    def told(self, entry: Entry, calls: int) -> bool:
        """Note how many of its calls are made, and begin the lease anew; False where a later attempt has begun."""
        return bool(self._told(self._redis, entry.id, entry.attempt, calls, self._lease_ms))

    def settle(self, entry: Entry, verdict: Verdict, calls: Sequence[CallRecord] = ()) -> str:
        """Tell how an attempt ended and which calls it made.

        Returns the verdict that holds, "stale" after a later attempt, or "gone".
        """
        return str(
            self._done(
                self._redis,
                entry.id,
                entry.attempt,
                verdict.outcome.value,
                int(verdict.delay_s * 1000),
                "" if verdict.status is None else verdict.status,
                verdict.error[:ERROR_CHARACTERS],
                *(call.to_json() for call in calls),
            )
        )

    def is_disabled(self, account: str, url: str) -> bool:
        """Whether an account's endpoint is called no more, because it answered 410."""
        try:
            return self._redis.zscore(disabled_key(account), endpoint_of(url)) is not None
        except OUTAGES as error:
            raise BacklogUnavailable from error

    def disable(self, account: str, url: str) -> None:
        """Call an account's endpoint no more, until its owner enables it."""
        try:
            self._redis.zadd(disabled_key(account), {endpoint_of(url): self.now_ms()}, nx=True)
            self._redis.zremrangebyrank(disabled_key(account), 0, -DISABLED_AT_MOST - 1)
        except OUTAGES as error:
            raise BacklogUnavailable from error

    def now_ms(self) -> int:
        """Return Redis' own time."""
        return now_ms(self._redis)

    def due(self, limit: int) -> list[str]:
        """Return up to `limit` entries that no courier holds and whose time has come, longest due first."""
        try:
            found: Any = self._redis.zrangebyscore(outbox_key(), "-inf", self.now_ms(), start=0, num=limit)
        except OUTAGES as error:
            raise BacklogUnavailable from error
        return list(found)

    def unheard(self) -> int:
        """Return how many messages to couriers none of them has read yet."""
        try:
            return int(self._redis.llen(COURIER_QUEUE))
        except OUTAGES as error:
            raise BacklogUnavailable from error


def endpoint_of(url: str) -> str:
    """Return what a URL is without its query and fragment: as such it is disabled, and shown in the log."""
    parts = urlsplit(url)
    return f"{parts.scheme.lower()}://{parts.netloc.lower()}{parts.path or '/'}"


def after_failure(
    attempt: int, *, status: int | None = None, error: str = "", passing: bool = False, not_before_s: float = 0.0
) -> Verdict:
    """Return what follows a failed attempt: a retry, or the end of the schedule.

    `passing` is true of what tells of a job on its way. `not_before_s` is what the receiver asked for.
    """
    if passing and attempt >= MAX_PASSING_ATTEMPTS:
        return Verdict(outcome=Outcome.DROPPED, status=status, error=error)
    if attempt >= MAX_ATTEMPTS:
        return Verdict(outcome=Outcome.DEAD, status=status, error=error)
    delay_s = RETRY_DELAYS_S[attempt - 1] * random.uniform(1 - JITTER / 2, 1 + JITTER / 2)  # noqa: S311 - no secret
    delay_s = max(delay_s, min(not_before_s, LONGEST_DELAY_S))
    return Verdict(outcome=Outcome.RETRY, delay_s=delay_s, status=status, error=error)


def signed_headers(message_id: str, body: bytes, *, webhook_secrets: Sequence[str]) -> dict[str, str]:
    """Return the headers of Standard Webhooks (standardwebhooks.com), signed now with every live secret.

    While an account's secret is being replaced there are two; the receiver's library takes the one it knows. Signed
    here and not by that library, which knows text alone: a body may hold a picture.
    """
    now = str(int(time.time()))
    signed = f"{message_id}.{now}.".encode() + body
    digests = [hmac.digest(_secret_bytes(secret), signed, "sha256") for secret in webhook_secrets]
    return {
        "webhook-id": message_id,
        "webhook-timestamp": now,
        "webhook-signature": " ".join(f"v1,{base64.b64encode(digest).decode()}" for digest in digests),
    }


def _secret_bytes(secret: str) -> bytes:
    return base64.b64decode(secret.removeprefix("whsec_") + "==")
