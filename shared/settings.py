"""The settings: one frozen object, and the only reader of the environment.

Every variable is described in `.env.example`. A value that cannot be stops the start with a
`ConfigurationError` that names the variable.
"""

import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from shared.errors import ConfigurationError
from shared.setting_kinds import (
    CREDENTIALS,
    NAMES,
    NETWORKS,
    PATH,
    RATE,
    RATES,
    REDIS_URL,
    SECRET,
    TEXT,
    Kind,
    Network,
    choice,
    integer,
    seconds,
    url,
)


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
    web_threads: int = 512
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

    metrics_token: str = field(default="", repr=False)
    metrics_host: str = "127.0.0.1"
    worker_metrics_port: int = 0
    courier_metrics_port: int = 0

    otel_exporter_otlp_endpoint: str = ""
    otel_service_name: str = ""

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


#: field of Settings -> (environment variable, how its text is read)
VARIABLES: dict[str, tuple[str, Kind]] = {
    "redis_url": ("REDIS_URL", REDIS_URL),
    "data_dir": ("DARKROOM_DATA_DIR", PATH),
    "secret_key": ("SECRET_KEY", SECRET),
    "host": ("HOST", TEXT),
    "port": ("PORT", integer(1, 65535)),
    "public_url": ("PUBLIC_URL", url("http", "https")),
    "cors_origins": ("CORS_ORIGINS", NAMES),
    "web_processes": ("WEB_PROCESSES", integer(1, 64)),
    "web_threads": ("WEB_THREADS", integer(1, 4096)),
    "max_body_bytes": ("MAX_BODY_BYTES", integer(1024, 1 << 30)),
    "sync_wait_s": ("SYNC_WAIT_S", seconds(1, 3600)),
    "short_wait_s": ("SHORT_WAIT_S", seconds(0, 600)),
    "s3_endpoint_url": ("S3_ENDPOINT_URL", url("http", "https")),
    "s3_bucket": ("S3_BUCKET", TEXT),
    "s3_public_endpoint_url": ("S3_PUBLIC_ENDPOINT_URL", url("http", "https")),
    "link_ttl_s": ("LINK_TTL_S", integer(1, 7 * 86400)),
    "models_catalog": ("MODELS_CATALOG", PATH),
    "models_default": ("MODELS_DEFAULT", TEXT),
    "models_memory_mb": ("MODELS_MEMORY_MB", integer(1, 1 << 20)),
    "assets_memory_mb": ("ASSETS_MEMORY_MB", integer(1, 1 << 20)),
    "pool": ("POOL", TEXT),
    "node": ("NODE", TEXT),
    "device": ("DEVICE", TEXT),
    "batch_jobs": ("BATCH_JOBS", integer(1, 64)),
    "batch_images": ("BATCH_IMAGES", integer(1, 256)),
    "stall_s": ("STALL_S", integer(10, 86400)),
    "plans_file": ("PLANS_FILE", PATH),
    "prices_file": ("PRICES_FILE", PATH),
    "rate_limits": ("RATE_LIMITS", RATES),
    "login_limit": ("LOGIN_LIMIT", RATE),
    "proxy_hops": ("PROXY_HOPS", integer(0, 10)),
    "backlog_limit": ("BACKLOG_LIMIT", integer(1, 100_000_000)),
    "lease_s": ("LEASE_S", seconds(1, 600)),
    "visibility_timeout_s": ("VISIBILITY_TIMEOUT_S", integer(120, 86400)),
    "spool_mb": ("SPOOL_MB", integer(0, 1 << 20)),
    "retention_s": ("RETENTION_S", integer(60, 10 * 365 * 86400)),
    "tombstone_s": ("TOMBSTONE_S", integer(0, 10 * 365 * 86400)),
    "courier_threads": ("COURIER_THREADS", integer(1, 1024)),
    "outbound_allow": ("OUTBOUND_ALLOW", NETWORKS),
    "flower_port": ("FLOWER_PORT", integer(1, 65535)),
    "flower_basic_auth": ("FLOWER_BASIC_AUTH", CREDENTIALS),
    "metrics_token": ("METRICS_TOKEN", SECRET),
    "metrics_host": ("METRICS_HOST", TEXT),
    "worker_metrics_port": ("WORKER_METRICS_PORT", integer(0, 65535)),
    "courier_metrics_port": ("COURIER_METRICS_PORT", integer(0, 65535)),
    "otel_exporter_otlp_endpoint": ("OTEL_EXPORTER_OTLP_ENDPOINT", url("http", "https")),
    "otel_service_name": ("OTEL_SERVICE_NAME", TEXT),
    "log_level": ("LOG_LEVEL", choice("DEBUG", "INFO", "WARNING", "ERROR")),
    "log_format": ("LOG_FORMAT", choice("console", "json")),
}
