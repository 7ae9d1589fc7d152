"""What settings may be: how a variable's text is read, and how that is said in words.

A text that cannot be is a `ValueError` that says what it must be; `Settings.from_env` adds the variable's name.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from shared.redis_url import SENTINEL_SCHEME, SentinelUrl, is_sentinel

Network = IPv4Network | IPv6Network
#: A shorter secret can be guessed.
SECRET_CHARS: Final = 16


@dataclass(frozen=True, slots=True)
class Kind:
    """What a setting may be: `name` and `bounds` are for people, `read` turns text into the value."""

    name: str
    bounds: str
    read: Callable[[str], Any]

    def __call__(self, text: str) -> Any:
        """Return the value of a text; `ValueError` where it has none."""
        return self.read(text)


def integer(minimum: int, maximum: int) -> Kind:
    """Return whole numbers; both ends belong to them."""

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise ValueError(f"must be a whole number, not {text!r}") from None
        if not minimum <= value <= maximum:
            raise ValueError(f"must lie between {minimum} and {maximum}, not {value}")
        return value

    return Kind("whole number", f"{minimum} to {maximum}", read)


def seconds(minimum: float, maximum: float) -> Kind:
    """Return durations, fractions included; both ends belong to them."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise ValueError(f"must be a number of seconds, not {text!r}") from None
        if not minimum <= value <= maximum:
            raise ValueError(f"must lie between {minimum:g} and {maximum:g} seconds, not {text}")
        return value

    return Kind("seconds", f"{minimum:g} to {maximum:g}", read)


def choice(*allowed: str) -> Kind:
    """Return one of some words, in capitals or not."""

    def read(text: str) -> str:
        for value in allowed:
            if text.lower() == value.lower():
                return value
        raise ValueError(f"must be one of {', '.join(allowed)}, not {text!r}")

    return Kind("word", ", ".join(f"`{value}`" for value in allowed), read)


def url(*schemes: str) -> Kind:
    """Return URLs of these schemes, without a slash at their end."""
    starts = [f"{scheme}://" for scheme in schemes]

    def read(text: str) -> str:
        parts = urlsplit(text)
        if parts.scheme not in schemes or not (parts.netloc or parts.path):
            raise ValueError(f"must be a URL that starts with {' or '.join(starts)}")
        return text.rstrip("/")

    return Kind("URL", ", ".join(f"`{start}`" for start in starts), read)


def _redis_url(text: str) -> str:
    if is_sentinel(text):
        SentinelUrl.parse(text)
        return text
    return str(_REDIS.read(text))


def read_rate(text: str) -> str:
    """Return limits such as 10/second+600/minute as the limiter reads them, '' for off; `ValueError` for others."""
    if text.lower() == "off":
        return ""
    # Not with ; as the library has it, which would end a line in a file that a shell reads.
    limits = text.split("+")
    if not all(re.fullmatch(r"[1-9][0-9]{0,8}/(second|minute|hour|day)", limit) for limit in limits):
        raise ValueError(f"must be limits such as 10/second+600/minute, or off, not {text!r}")
    return ";".join(limits)


def _rates(text: str) -> tuple[tuple[str, str], ...]:
    pairs = [part.strip().partition("=") for part in text.split(",") if part.strip()]
    return tuple((plan.strip(), read_rate(limits.strip())) for plan, _, limits in pairs)


def _networks(text: str) -> tuple[Network, ...]:
    try:
        return tuple(ip_network(part.strip()) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise ValueError(f"must be a comma-separated list of networks such as 10.0.0.0/8: {error}") from None


def _names(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _credentials(text: str) -> str:
    user, separator, password = text.partition(":")
    if not (user and separator and password):
        raise ValueError("must have the form user:password")
    return text


def _secret(text: str) -> str:
    if len(text) < SECRET_CHARS:
        raise ValueError(f"must have at least {SECRET_CHARS} characters")
    return text


_REDIS: Final = url("redis", "rediss", "unix", SENTINEL_SCHEME)
REDIS_URL: Final = Kind(_REDIS.name, _REDIS.bounds, _redis_url)
TEXT: Final = Kind("text", "", str)
PATH: Final = Kind("path", "", lambda text: Path(text).expanduser())
NAMES: Final = Kind("list", "comma-separated", _names)
NETWORKS: Final = Kind("networks", "comma-separated", _networks)
RATE: Final = Kind("limits", "`N/second`, `minute`, `hour`, `day`, with `+` between; `off`", read_rate)
RATES: Final = Kind("limits by plan", "`PLAN=LIMITS`, comma-separated", _rates)
CREDENTIALS: Final = Kind("credentials", "`user:password`", _credentials)
SECRET: Final = Kind("secret", f"at least {SECRET_CHARS} characters", _secret)
