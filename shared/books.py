"""The books: what accounts have, reserve and use, in millicredits (1 credit is 1,000 of them)."""

import secrets
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

from redis import Redis

from shared.backlog.scripts import OUTAGES, Script
from shared.celery_app import Bell, SilentBell
from shared.errors import BacklogUnavailable, RequestError
from shared.keys import account_key, names_key, usage_key
from shared.plans import Plan
from shared.webhook_secrets import UnknownAccount

#: A lost reply is asked for again within this time.
NONCE_S: Final = 120
#: For so many days it is known what an account used; as the scripts have it.
USAGE_DAYS: Final = 400
_DAY_MS: Final = 86_400_000
_EPOCH: Final = date(1970, 1, 1)


class TooLittle(RequestError):
    """The account has fewer unspent credits than that."""

    code = "too_little"
    http_status = 409


@dataclass(frozen=True, kw_only=True, slots=True)
class Usage:
    """What an account used on one day, UTC. `jobs` are all that ended, however; a retried one counts each time."""

    day: date
    jobs: int = 0
    succeeded: int = 0
    images: int = 0
    #: Denoising steps, of all images together.
    steps: int = 0
    millicredits: int = 0
    #: Millicredits that were added on that day.
    granted: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Statement:
    """How an account stands at a moment. The three amounts are None where it is not metered."""

    id: str
    name: str
    plan: str
    pool: str
    created_ms: int
    weight: int
    max_waiting: int
    max_running: int
    waiting: int
    running: int
    #: Granted less settled. What is reserved for jobs that have not ended is part of it.
    balance: int | None
    reserved: int | None
    #: What new jobs may cost: `balance` less `reserved`.
    available: int | None

    def agrees_with(self, plan: Plan) -> bool:
        """Whether the bounds the queue goes by are the plan's."""
        bounds = (self.weight, self.max_waiting, self.max_running)
        return bounds == (plan.weight, plan.max_waiting, plan.max_running)


class Books:
    """Reads and changes what accounts have. Raises `BacklogUnavailable` where Redis is away."""

    def __init__(self, redis: Redis, bell: Bell | None = None) -> None:
        self._redis = redis
        self._bell = bell or SilentBell()
        self._grant = Script("grant")
        self._plan = Script("plan")

    def id_of(self, name: str) -> str:
        """Return an account's id by its name; `UnknownAccount` where there is none."""
        try:
            found: Any = self._redis.hget(names_key(), name)
        except OUTAGES as error:
            raise BacklogUnavailable from error
        if found is None:
            raise UnknownAccount(f"There is no account {name!r}.")
        return _text(found)

    def grant(self, account: str, millicredits: int) -> int:
        """Give an account so many millicredits, or take unspent ones away; return what it may spend then.

        From the first grant on an account is metered. `TooLittle` where less than that is unspent: no balance is ever
        negative.
        """
        state, available = self._grant(self._redis, secrets.token_hex(16), account, millicredits, NONCE_S)
        if state == "none":
            raise UnknownAccount
        if state == "too_little":
            raise TooLittle(f"The account has {int(available)} millicredits that are neither spent nor reserved.")
        return int(available)

    def set_plan(self, account: str, plan: Plan) -> None:
        """Put an account on a plan, with its bounds as they are now; workers are woken for what they let go."""
        bounds = (plan.weight, plan.max_waiting, plan.max_running)
        state, woken = self._plan(self._redis, account, plan.name, *bounds)
        if state == "none":
            raise UnknownAccount
        self._bell.wake(woken)

    def statement(self, account: str) -> Statement:
        """Return how an account stands; `UnknownAccount` where there is none."""
        found: Any = _read(self._redis.hgetall, account_key(account))
        values = {_text(name): _text(value) for name, value in found.items()}
        if "name" not in values:
            raise UnknownAccount
        return _statement(account, values)

    def statements(self) -> list[Statement]:
        """Return every account, by name."""
        names: Any = _read(self._redis.hgetall, names_key())
        return [self.statement(_text(names[name])) for name in sorted(names, key=_text)]

    def usage(self, account: str, *, days: int) -> list[Usage]:
        """Return what an account used on each of the last days, today (UTC) last."""
        today = datetime.fromtimestamp(time.time(), UTC).date()
        return list(self._usage(account, [today - timedelta(days=ago) for ago in reversed(range(days))]))

    def _usage(self, account: str, days: list[date]) -> Iterator[Usage]:
        pipe = self._redis.pipeline(transaction=False)
        for day in days:
            pipe.hgetall(usage_key(account, (day - _EPOCH).days))
        for day, found in zip(days, _read(pipe.execute), strict=True):
            yield Usage(day=day, **{_text(name): int(value) for name, value in found.items()})


def _statement(account: str, values: Mapping[str, str]) -> Statement:
    metered = "balance" in values
    available, reserved = int(values.get("balance", 0)), int(values.get("reserved", 0))
    return Statement(
        id=account,
        name=values["name"],
        plan=values["plan"],
        pool=values["pool"],
        created_ms=int(values.get("created", 0)),
        weight=int(values["weight"]),
        max_waiting=int(values["max_waiting"]),
        max_running=int(values["max_running"]),
        waiting=int(values.get("waiting", 0)),
        running=int(values.get("running", 0)),
        balance=available + reserved if metered else None,
        reserved=reserved if metered else None,
        available=available if metered else None,
    )


def _read(call: Any, *args: str) -> Any:
    try:
        return call(*args)
    except OUTAGES as error:
        raise BacklogUnavailable from error


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
