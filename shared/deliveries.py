"""What people ask of webhooks: what was called and how it went, what was given up, and once more, please.

The courier's side of the same entries is `shared.outbox`.
"""

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from redis import Redis

from shared.backlog.scripts import OUTAGES, Script
from shared.celery_app import Bell
from shared.errors import BacklogUnavailable, JobNotFound, NotFinished, RequestError
from shared.keys import (
    account_log_key,
    batch_key,
    dead_key,
    disabled_key,
    job_key,
    job_log_key,
    outbox_entry_key,
    outbox_key,
)
from shared.outbox import CallRecord, endpoint_of

_LOGGED: Final = frozenset(CallRecord.__dataclass_fields__)


class NoWebhook(RequestError):
    """No webhook is asked for."""

    code = "no_webhook"
    http_status = 409


@dataclass(frozen=True, kw_only=True, slots=True)
class Delivery:
    """One call that was made. Times are epoch milliseconds."""

    uid: int
    attempt: int
    at_ms: int
    call: CallRecord


@dataclass(frozen=True, kw_only=True, slots=True)
class Pending:
    """A closing webhook as it stands: waiting (from `next_ms` on), delivered or dead."""

    uid: int
    event: str
    state: str
    attempts: int
    created_ms: int
    next_ms: int | None = None
    settled_ms: int | None = None
    status: int | None = None
    error: str = ""


class Deliveries:
    """Reads of the outbox for those whose webhooks they are. Raises `BacklogUnavailable` when Redis is away."""

    def __init__(self, redis: Redis, bell: Bell) -> None:
        self._redis = redis
        self._bell = bell
        self._again = Script("ob_again")

    def of_job(self, uid: int) -> list[Delivery]:
        """Return the latest calls about a job or a batch, newest first. Whose it is the caller has checked."""
        return self._log(job_log_key(uid), 0)

    def of_account(self, account: str, *, limit: int) -> list[Delivery]:
        """Return the latest calls for an account, newest first; no more than 200 are kept."""
        return self._log(account_log_key(account), -limit)

    def webhooks(self, uid: int) -> list[Pending]:
        """Return closing webhooks of a job or a batch, oldest first: one each time that it ended, of those kept."""
        try:
            found: Any = self._redis.hget(job_key(uid), "outcome") or self._redis.hget(batch_key(uid), "outcome")
            outcomes = int(found or 0)
            return self._entries([f"{uid}:{number}" for number in range(1, outcomes + 1)])
        except OUTAGES as error:
            raise BacklogUnavailable from error

    def dead(self, account: str, *, offset: int, limit: int) -> list[Pending]:
        """Return the webhooks of an account that were given up, newest first; they are kept for a month."""
        try:
            entries: Any = self._redis.zrevrange(dead_key(account), offset, offset + limit - 1)
            return self._entries(entries)
        except OUTAGES as error:
            raise BacklogUnavailable from error

    def redeliver(self, uid: int, *, account: str) -> None:
        """Send the closing webhook of a job or a batch once more, at once, under the same id; the schedule begins anew.

        `NotFinished` while it has not ended, `NoWebhook` where it asks for none.
        """
        state, entry = self._again(self._redis, uid, account, secrets.token_hex(8))
        if state == "none":
            raise JobNotFound
        if state == "not_finished":
            raise NotFinished
        if state == "no_webhook":
            raise NoWebhook
        self._bell.deliver([entry])

    def disabled(self, account: str) -> list[tuple[str, int]]:
        """Return an account's endpoints that answered 410 and are called no more, with since when, newest first."""
        try:
            found: Any = self._redis.zrevrange(disabled_key(account), 0, -1, withscores=True)
        except OUTAGES as error:
            raise BacklogUnavailable from error
        return [(endpoint, int(since)) for endpoint, since in found]

    def enable(self, account: str, url: str) -> bool:
        """Call an endpoint again; whether it was disabled. What was given up meanwhile is not sent by itself."""
        try:
            return bool(self._redis.zrem(disabled_key(account), endpoint_of(url)))
        except OUTAGES as error:
            raise BacklogUnavailable from error

    def _log(self, key: str, start: int) -> list[Delivery]:
        try:
            lines: Any = self._redis.lrange(key, start, -1)
        except OUTAGES as error:
            raise BacklogUnavailable from error
        return [_delivery(line) for line in reversed(lines)]

    def _entries(self, names: Sequence[str]) -> list[Pending]:
        pipe = self._redis.pipeline(transaction=False)
        for name in names:
            pipe.hgetall(outbox_entry_key(name))
            pipe.zscore(outbox_key(), name)
        answers = pipe.execute()
        pairs = zip(answers[::2], answers[1::2], strict=True)
        return [_pending(kept, due) for kept, due in pairs if kept.get("uid")]


def _delivery(line: str) -> Delivery:
    at, entry, attempt, call = line.split(" ", 3)
    kept = {name: value for name, value in json.loads(call).items() if name in _LOGGED}
    return Delivery(uid=int(entry.partition(":")[0]), attempt=int(attempt), at_ms=int(at), call=CallRecord(**kept))


def _pending(kept: Mapping[str, str], due: float | None) -> Pending:
    verdict = kept.get("done", "").rpartition(":")[2]
    return Pending(
        uid=int(kept["uid"]),
        event=kept["event"],
        state="waiting" if due is not None else verdict or "waiting",
        attempts=int(kept["attempt"]) - int(kept.get("spared") or 0),
        created_ms=int(kept["created"]),
        next_ms=None if due is None else int(due),
        settled_ms=int(kept["at"]) if "at" in kept else None,
        status=int(kept["status"]) if kept.get("status") else None,
        error=kept.get("error", ""),
    )
