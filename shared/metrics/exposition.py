"""What Prometheus scrapes: a process's own counts, or those of all processes that share a folder."""

from collections.abc import Iterable

import structlog
from prometheus_client import REGISTRY, CollectorRegistry, generate_latest, start_http_server, values
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

log = structlog.get_logger(__name__)


def registry(*more: Collector) -> CollectorRegistry:
    """Return what this process tells, and more.

    Where prometheus_client was imported with PROMETHEUS_MULTIPROC_DIR set, as under gunicorn, these are the sums over
    all processes that were.
    """
    collected = CollectorRegistry()
    if values.ValueClass is values.MutexValue:
        collected.register(REGISTRY)
    else:
        MultiProcessCollector(collected)  # type: ignore[no-untyped-call]
    for collector in more:
        collected.register(collector)
    return collected


def exposition(collectors: Iterable[Collector] = ()) -> bytes:
    """Return all of it as Prometheus' text."""
    return generate_latest(registry(*collectors))


def serve(port: int, host: str, *collectors: Collector) -> None:
    """Answer scrapes on a port, in a thread of its own; nothing where the port is 0.

    A port that cannot be had is told in the log: jobs matter more than their count.
    """
    if not port:
        return
    try:
        start_http_server(port, addr=host, registry=registry(*collectors))
    except OSError as error:
        log.error("metrics.unserved", host=host, port=port, error=str(error))  # noqa: TRY400 - the message says it all
    else:
        log.info("metrics.served", host=host, port=port)
