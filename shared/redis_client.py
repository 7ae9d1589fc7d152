"""Connections to Redis, and the secret that all processes share through it."""

import secrets

from redis import Redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from shared.keys import secret_key
from shared.settings import Settings


def connect(settings: Settings, *, timeout_s: float = 5.0, retries: int = 1) -> Redis:
    """Return a client of the backlog's Redis. It connects at first use.

    A call is repeated at most `retries` times: every script of ours may be repeated, but a caller who waits wants
    to hear of an outage soon.
    """
    return Redis.from_url(
        settings.require_redis(),
        decode_responses=True,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        health_check_interval=15,
        retry=Retry(ExponentialBackoff(cap=0.5, base=0.05), retries),
    )


def signing_secret(settings: Settings, redis: Redis) -> str:
    """Return SECRET_KEY, or one kept in Redis and made by whoever asks first."""
    if settings.secret_key:
        return settings.secret_key
    redis.set(secret_key(), secrets.token_urlsafe(32), nx=True)
    return str(redis.get(secret_key()))
