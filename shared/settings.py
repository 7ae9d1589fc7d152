"""The settings: one frozen object, and the only reader of the environment.

Every variable is described in `.env.example`. A value that cannot be stops the start with a
`ConfigurationError` that names the variable.
"""

import os
import re
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from shared.errors import ConfigurationError
from shared.redis_url import SENTINEL_SCHEME, SentinelUrl, is_sentinel

Network = IPv4Network | IPv6Network


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """What a process needs to know from outside. Durations are seconds unless the name says otherwise."""

    redis_url: str = ""
    data_dir: Path = Path(".darkroom")
    secret_key: str = field(default="", repr=False)

    host: str = "127.0.0.1"
    port: int = 8000
    public_url: str = ""
    cors_origins: tuple[str, ...] = ()
    web_processes: int = 1
    web_threads: int = 128
    max_body_bytes: int = 64 * 1024 * 1024
    sync_wait_s: float = 120.0
    short_wait_s: float = 10.0

    s3_endpoint_url: str = ""
    s3_bucket: str = ""
    s3_public_endpoint_url: str = ""
    link_ttl_s: int = 3600

    models_catalog: Path | None = None
    models_default: str = "demo"
    models_memory_mb: int = 8192
    assets_memory_mb: int = 2048

    pool: str = "default"
    node: str = field(default_factory=lambda: f"worker@{socket.gethostname()}")
    device: str = "auto"
    batch_jobs: int = 8
    batch_images: int = 16
    stall_s: int = 600

    plans_file: Path | None = None
    prices_file: Path | None = None
    rate_limits: tuple[tuple[str, str], ...] = ()
    login_limit: str = "10/minute"
    proxy_hops: int = 0

    backlog_limit: int = 1_000_000
    lease_s: float = 10.0
    visibility_timeout_s: int = 900

    spool_mb: int = 1024

    retention_s: int = 7 * 86400
    tombstone_s: int = 30 * 86400

    courier_threads: int = 16
    outbound_allow: tuple[Network, ...] = ()

    flower_port: int = 5555
    flower_basic_auth: str = field(default="", repr=False)

    log_level: str = "INFO"
    log_format: str = "console"

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Read the environment (or the given mapping); unset and empty mean the default."""
        source = os.environ if environ is None else environ
        given = {
            name: _read(variable, parse, source[variable])
            for name, (variable, parse) in VARIABLES.items()
            if source.get(variable, "").strip()
        }
        settings = cls(**given)
        if settings.s3_endpoint_url and not settings.s3_bucket:
            raise ConfigurationError("S3_BUCKET", "is required when S3_ENDPOINT_URL is set")
        return settings

    def evolve(self, **changes: Any) -> Self:
        """Return a copy with the given fields changed."""
        return replace(self, **changes)

    def require_redis(self) -> str:
        """Return the Redis URL, or fail naming the variable."""
        if not self.redis_url:
            raise ConfigurationError("REDIS_URL", "is not set; `darkroom up` starts a server of its own")
        return self.redis_url

    @property
    def base_url(self) -> str:
        """Where callers reach the API: PUBLIC_URL, else the address it listens on. No trailing slash."""
        # Listening on every address is no address to call.
        host = "127.0.0.1" if self.host in {"0.0.0.0", "::", ""} else self.host  # noqa: S104
        return self.public_url or f"http://{host}:{self.port}"


def child_environment(**overrides: str) -> dict[str, str]:
    """Return this process's environment for a child, with the given variables set."""
    return {**os.environ, **overrides}


def _read(variable: str, parse: Callable[[str], Any], text: str) -> Any:
    try:
        return parse(text.strip())
    except ValueError as error:
        raise ConfigurationError(variable, str(error)) from error


def _integer(minimum: int, maximum: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise ValueError(f"must be a whole number, not {text!r}") from None
        if not minimum <= value <= maximum:
            raise ValueError(f"must lie between {minimum} and {maximum}, not {value}")
        return value

    return parse


def _seconds(minimum: float, maximum: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise ValueError(f"must be a number of seconds, not {text!r}") from None
        if not minimum <= value <= maximum:
            raise ValueError(f"must lie between {minimum:g} and {maximum:g} seconds, not {text}")
        return value

    return parse


def _choice(*allowed: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        for value in allowed:
            if text.lower() == value.lower():
                return value
        raise ValueError(f"must be one of {', '.join(allowed)}, not {text!r}")

    return parse


def _url(*schemes: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        parts = urlsplit(text)
        if parts.scheme not in schemes or not (parts.netloc or parts.path):
            raise ValueError(f"must be a URL that starts with {' or '.join(f'{s}://' for s in schemes)}")
        return text.rstrip("/")

    return parse


def _redis_url(text: str) -> str:
    if is_sentinel(text):
        SentinelUrl.parse(text)
        return text
    return _url("redis", "rediss", "unix", SENTINEL_SCHEME)(text)


def _networks(text: str) -> tuple[Network, ...]:
    try:
        return tuple(ip_network(part.strip()) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise ValueError(f"must be a comma-separated list of networks such as 10.0.0.0/8: {error}") from None


def _list(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


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


def _path(text: str) -> Path:
    return Path(text).expanduser()


def _credentials(text: str) -> str:
    user, separator, password = text.partition(":")
    if not (user and separator and password):
        raise ValueError("must have the form user:password")
    return text


def _secret(text: str) -> str:
    if len(text) < 16:  # noqa: PLR2004 - shorter than this can be guessed
        raise ValueError("must have at least 16 characters")
    return text


#: field of Settings -> (environment variable, how its text is read)
VARIABLES: dict[str, tuple[str, Callable[[str], Any]]] = {
    "redis_url": ("REDIS_URL", _redis_url),
    "data_dir": ("DARKROOM_DATA_DIR", _path),
    "secret_key": ("SECRET_KEY", _secret),
    "host": ("HOST", str),
    "port": ("PORT", _integer(1, 65535)),
    "public_url": ("PUBLIC_URL", _url("http", "https")),
    "cors_origins": ("CORS_ORIGINS", _list),
    "web_processes": ("WEB_PROCESSES", _integer(1, 64)),
    "web_threads": ("WEB_THREADS", _integer(1, 4096)),
    "max_body_bytes": ("MAX_BODY_BYTES", _integer(1024, 1 << 30)),
    "sync_wait_s": ("SYNC_WAIT_S", _seconds(1, 3600)),
    "short_wait_s": ("SHORT_WAIT_S", _seconds(0, 600)),
    "s3_endpoint_url": ("S3_ENDPOINT_URL", _url("http", "https")),
    "s3_bucket": ("S3_BUCKET", str),
    "s3_public_endpoint_url": ("S3_PUBLIC_ENDPOINT_URL", _url("http", "https")),
    "link_ttl_s": ("LINK_TTL_S", _integer(1, 7 * 86400)),
    "models_catalog": ("MODELS_CATALOG", _path),
    "models_default": ("MODELS_DEFAULT", str),
    "models_memory_mb": ("MODELS_MEMORY_MB", _integer(1, 1 << 20)),
    "assets_memory_mb": ("ASSETS_MEMORY_MB", _integer(1, 1 << 20)),
    "pool": ("POOL", str),
    "node": ("NODE", str),
    "device": ("DEVICE", str),
    "batch_jobs": ("BATCH_JOBS", _integer(1, 64)),
    "batch_images": ("BATCH_IMAGES", _integer(1, 256)),
    "stall_s": ("STALL_S", _integer(10, 86400)),
    "plans_file": ("PLANS_FILE", _path),
    "prices_file": ("PRICES_FILE", _path),
    "rate_limits": ("RATE_LIMITS", _rates),
    "login_limit": ("LOGIN_LIMIT", read_rate),
    "proxy_hops": ("PROXY_HOPS", _integer(0, 10)),
    "backlog_limit": ("BACKLOG_LIMIT", _integer(1, 100_000_000)),
    "lease_s": ("LEASE_S", _seconds(1, 600)),
    "visibility_timeout_s": ("VISIBILITY_TIMEOUT_S", _integer(120, 86400)),
    "spool_mb": ("SPOOL_MB", _integer(0, 1 << 20)),
    "retention_s": ("RETENTION_S", _integer(60, 10 * 365 * 86400)),
    "tombstone_s": ("TOMBSTONE_S", _integer(0, 10 * 365 * 86400)),
    "courier_threads": ("COURIER_THREADS", _integer(1, 1024)),
    "outbound_allow": ("OUTBOUND_ALLOW", _networks),
    "flower_port": ("FLOWER_PORT", _integer(1, 65535)),
    "flower_basic_auth": ("FLOWER_BASIC_AUTH", _credentials),
    "log_level": ("LOG_LEVEL", _choice("DEBUG", "INFO", "WARNING", "ERROR")),
    "log_format": ("LOG_FORMAT", _choice("console", "json")),
}
