"""How often a key may call, and how often a client may try to log in.

Requests are counted per key in a sliding window that all processes share through Redis, by Flask-Limiter. Each plan
has its limit; routes that need no key (health, documentation, signed links) are not counted.

https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers/
"""

import math
import time
from typing import Any, Final

import structlog
from flask import Flask, Response, g, request
from flask_limiter import Limiter, RateLimitExceeded
from limits import RateLimitItem, parse_many
from redis import Redis

from shared.accounts import Account
from shared.api_keys import digest_of
from shared.backlog.scripts import OUTAGES
from shared.errors import RateLimited, TooManyLogins
from shared.keys import rate_prefix
from shared.plans import Plans
from shared.settings import Settings

#: Weighs the window before by how much of it still counts, so no burst fits in where two windows meet.
STRATEGY: Final = "sliding-window-counter"
_ACCOUNT: Final = "limited_account"

log = structlog.get_logger(__name__)


class Limits:
    """Counts requests and logins. Connects to nothing before it is used."""

    def __init__(self, settings: Settings, redis: Redis, *, plans: Plans) -> None:
        self._plans = plans
        self._logins = parse_many(settings.login_limit) if settings.login_limit else []
        # The URI says only which client it is; where the server is, the pool knows.
        options: dict[str, Any] = {"connection_pool": redis.connection_pool, "key_prefix": rate_prefix()}
        self._limiter = Limiter(_caller, storage_uri="redis://", storage_options=options, strategy=STRATEGY)
        #: One limit for all routes, whose text depends on who is calling; it is counted by calling this.
        self._counted = self._limiter.shared_limit(self._of_caller, scope="key")(_nothing)

    def install(self, app: Flask) -> None:
        """Make the limiter known to an app, and say in every answer to a counted request what is left."""
        self._limiter.init_app(app)
        app.after_request(self._tell)

    def count(self, account: Account) -> None:
        """Count a request of this account's key; `RateLimited` where there were too many."""
        setattr(g, _ACCOUNT, account)
        try:
            self._counted()
        except RateLimitExceeded as error:
            raise RateLimited(retry_after_s=self._seconds_left()) from error

    def count_login(self, client_token: str) -> None:
        """Count an attempt to log in, per client and address; `TooManyLogins` where there were too many.

        The demo's, which takes no client token, counts as one client.
        """
        attempt = ("login", digest_of(client_token), request.remote_addr or "")
        for item in self._logins:
            if not self._limiter.limiter.hit(item, *attempt):
                reset_time = self._limiter.limiter.get_window_stats(item, *attempt).reset_time
                raise TooManyLogins(retry_after_s=_seconds_until(reset_time))

    def _of_caller(self) -> str:
        account: Account | None = g.get(_ACCOUNT)  # None: the limiter looks ahead, before anybody has said who calls
        plan = None if account is None else self._plans.get(account.plan)
        return "" if plan is None else plan.rate_limit

    def _seconds_left(self) -> int:
        current = self._limiter.current_limit
        return 1 if current is None else _seconds_until(current.window.reset_time)

    def _tell(self, response: Response) -> Response:
        current = self._limiter.current_limit
        if current is None:
            return response
        try:
            remaining, seconds = current.remaining, self._seconds_left()
        except OUTAGES as error:  # the request itself was served
            log.warning("limits.untold", cause=repr(error))
            return response
        items = [each.limit for each in self._limiter.current_limits]
        policies = (f"{_name(item)};q={item.amount};w={item.get_expiry()}" for item in items)
        response.headers["RateLimit-Policy"] = ", ".join(policies)
        response.headers["RateLimit"] = f"{_name(current.limit)};r={remaining};t={seconds}"
        # As the draft's earlier versions had it, which is what many clients read.
        for name, value in (("Limit", current.limit.amount), ("Remaining", remaining), ("Reset", seconds)):
            response.headers[f"RateLimit-{name}"] = str(value)
        return response


def _caller() -> str:
    """Return what requests are counted by: the key, else the account where the key has no name."""
    account: Account = g.get(_ACCOUNT)
    return account.key or f"a:{account.id}"


def _nothing() -> None:
    """Be counted."""


def _name(item: RateLimitItem) -> str:
    return f'"per-{item.get_expiry()}s"'


def _seconds_until(epoch_s: float) -> int:
    return max(1, math.ceil(epoch_s - time.time()))
