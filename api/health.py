"""Whether the process lives, and whether the service is of use."""

from collections.abc import Callable, Iterator

from flask import Blueprint, Response
from redis.exceptions import RedisError

from api.responses import json_response
from api.services import Services, services
from shared.backlog import INGEST_POOL
from shared.errors import ServiceError

health = Blueprint("health", __name__)


class NoWorker(ServiceError):
    """No worker is live."""

    code = "no_worker"


class NoCourier(ServiceError):
    """No courier is live."""

    code = "no_courier"


@health.get("/healthz")
def healthz() -> Response:
    """Answer that the process lives; looks at nothing else."""
    return json_response({"status": "ok"}, headers={"Cache-Control": "no-store"})


@health.get("/readyz")
def readyz() -> Response:
    """Answer 200 where jobs can be taken and drawn, else 503 with the missing parts."""
    missing = list(missing_parts(services()))
    body = {"status": "unready" if missing else "ready", "missing": missing}
    headers = {"Cache-Control": "no-store"} | ({"Retry-After": "1"} if missing else {})
    return json_response(body, status=503 if missing else 200, headers=headers)


def missing_parts(parts: Services) -> Iterator[str]:
    """Yield the name of each part that does not answer."""
    checks: dict[str, Callable[[], object]] = {
        "redis": parts.backlog.ping,
        "storage": lambda: parts.storage.check(),  # noqa: PLW0108 - opening it may fail too
        "worker": lambda: _some_worker(parts),
        "courier": lambda: _some_courier(parts),
    }
    for name, check in checks.items():
        try:
            check()
        except (ServiceError, RedisError):
            yield name


def _some_worker(parts: Services) -> None:
    if not set(parts.backlog.pools()) - {INGEST_POOL}:
        raise NoWorker


def _some_courier(parts: Services) -> None:
    if INGEST_POOL not in parts.backlog.pools():
        raise NoCourier
