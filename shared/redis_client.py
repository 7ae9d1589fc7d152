"""Connections to Redis, and the secret that all processes share through it."""

import secrets
from typing import Any, Final

from redis import Redis
from redis._parsers.base import BaseParser
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.retry import Retry
from redis.sentinel import Sentinel

from shared.keys import secret_key
from shared.redis_url import SentinelUrl, is_sentinel
from shared.settings import Settings

#: How a server says that it cannot serve us now: its disk is full, or its role changes under a failover.
_UNABLE: Final = ("MISCONF", "NOREPLICAS", "UNBLOCKED", "MASTERDOWN")


class ServerUnableError(RedisConnectionError):
    """The server answers, but cannot do what is asked of it at present."""


# redis-py takes most of these for faults of the command. As connection errors they are tried again on a new
# connection, by Celery's side too, which is what a server whose role has changed needs.
BaseParser.EXCEPTION_CLASSES.update(dict.fromkeys(_UNABLE, ServerUnableError))


def connect(settings: Settings, *, timeout_s: float = 5.0, retries: int = 1) -> Redis:
    """Return a client of the backlog's Redis. It connects at first use.

    A call is repeated at most `retries` times: every script of ours may be repeated, but a caller who waits wants
    to hear of an outage soon.
    """
    url = settings.require_redis()
    options = {
        "decode_responses": True,
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s,
        "health_check_interval": 15,
        "retry": Retry(ExponentialBackoff(cap=0.5, base=0.05), retries),
    }
    return _master(SentinelUrl.parse(url), options) if is_sentinel(url) else Redis.from_url(url, **options)


def _master(url: SentinelUrl, options: dict[str, Any]) -> Redis:
    """Return a client that asks the sentinels, at each new connection, which server is the master now."""
    # redis-py leaves this class without types.
    sentinel: Any = Sentinel(url.sentinels, sentinel_kwargs=url.sentinel_options)  # type: ignore[no-untyped-call]
    master: Redis = sentinel.master_for(
        url.service, db=url.database, username=url.username, password=url.password, **options
    )
    return master


def now_ms(redis: Redis) -> int:
    """Return the server's own time, by which all that is kept there goes (epoch milliseconds)."""
    seconds, microseconds = redis.time()
    return int(seconds) * 1000 + int(microseconds) // 1000


def signing_secret(settings: Settings, redis: Redis) -> str:
    """Return SECRET_KEY, or one kept in Redis and made by whoever asks first."""
    if settings.secret_key:
        return settings.secret_key
    redis.set(secret_key(), secrets.token_urlsafe(32), nx=True)
    return str(redis.get(secret_key()))
