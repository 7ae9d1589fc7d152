"""Redis: its version, what it does when memory is full, whether it keeps its data, its speed and its clock."""

import re
import statistics
import time
from collections.abc import Iterator
from typing import Any, Final

from redis import Redis
from redis.exceptions import RedisError

from shared.doctor.finding import Finding, error, good, warning

OLDEST: Final = (6, 2)
PINGS: Final = 20
#: A submit is one round trip, a claim another.
SLOW_MS: Final = 5.0
#: Links expire and logins end by this machine's clock, leases and deadlines by Redis'.
APART_S: Final = 2.0
FULL: Final = 0.8
_AREA: Final = "redis"


def look_at_redis(redis: Redis) -> Iterator[Finding]:
    """Yield what there is to say about the server; one error where it does not answer."""
    try:
        info: Any = redis.info()
        yield _version(info)
        yield _policy(info)
        yield _kept(info)
        yield _memory(info)
        yield _speed(redis)
        yield _clock(redis)
    except RedisError as failure:
        yield error(_AREA, f"it cannot be used: {failure}", "Start it, or set REDIS_URL to where it is.")


def _version(info: Any) -> Finding:
    name = "Valkey" if "valkey_version" in info else "Redis"
    version = str(info.get("valkey_version") or info["redis_version"])
    found = tuple(int(number) for number in re.findall(r"\d+", version)[:2])
    if info.get("redis_mode") == "cluster":
        return error(_AREA, f"{name} {version} runs as a cluster", "Use a single server, with replicas and Sentinel.")
    if name == "Redis" and found < OLDEST:
        return error(_AREA, f"Redis {version} is too old", "Upgrade to Redis 6.2 or later, or to Valkey.")
    return good(_AREA, f"{name} {version}")


def _policy(info: Any) -> Finding:
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        do = "Set `maxmemory-policy noeviction`: any other forgets jobs when memory is full."
        return error(_AREA, f"maxmemory-policy is {policy}", do)
    return good(_AREA, "maxmemory-policy is noeviction")


def _kept(info: Any) -> Finding:
    if not info.get("aof_enabled"):
        do = "Set `appendonly yes`: without it a restart loses what came since the last snapshot."
        return warning(_AREA, "appendonly is no", do)
    if info.get("aof_last_write_status", "ok") != "ok":
        return error(_AREA, "the append-only file could not be written", "Make room on its disk; see the server's log.")
    return good(_AREA, "appendonly is yes")


def _memory(info: Any) -> Finding:
    used, most = int(info["used_memory"]), int(info.get("maxmemory", 0))
    says = f"{used / 2**20:.0f} MiB of {f'{most / 2**20:.0f} MiB' if most else 'any amount'} used"
    if most and used > FULL * most:
        return error(
            _AREA, says, "Raise maxmemory: when it is full nothing more is accepted. Count 1 KiB a waiting job."
        )
    return good(_AREA, says)


def _speed(redis: Redis) -> Finding:
    taken = []
    for _ in range(PINGS):
        started = time.perf_counter()
        redis.ping()
        taken.append(1000 * (time.perf_counter() - started))
    median = statistics.median(taken)
    if median > SLOW_MS:
        do = "Move it nearer, or look at `redis-cli --latency`: every submit and claim waits for it."
        return warning(_AREA, f"a round trip takes {median:.1f} ms", do)
    return good(_AREA, f"a round trip takes {median:.2f} ms")


def _clock(redis: Redis) -> Finding:
    before = time.time()
    seconds, microseconds = redis.time()
    apart = seconds + microseconds / 1e6 - (before + time.time()) / 2
    if abs(apart) > APART_S:
        do = "Let both machines follow NTP: links and logins end by this clock, leases by Redis'."
        return error("clock", f"Redis' clock is {apart:+.1f} s from this machine's", do)
    return good("clock", f"Redis' clock is {apart:+.3f} s from this machine's")
