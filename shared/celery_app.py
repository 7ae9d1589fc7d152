"""Celery as Darkroom uses it: one app for API, workers and Flower, and the bell that wakes workers.

The backlog holds the jobs; a Celery message carries none. `generate` says "look into the backlog", `deliver` says
"this webhook is due". A lost message is made good by the sweep, a doubled one finds nothing to do.
"""

import ssl
from collections.abc import Sequence
from typing import Final, Protocol

import structlog
from celery import Celery
from kombu.entity import Exchange, Queue
from kombu.exceptions import OperationalError

from shared.metrics import BELLS_UNHEARD
from shared.redis_url import SentinelUrl, is_sentinel
from shared.settings import Settings

GENERATE: Final = "generate"
DELIVER: Final = "deliver"
COURIER_QUEUE: Final = "courier"
#: Seconds after which an unread wake-up is worth nothing: the sweep has sent another.
WAKE_EXPIRES_S: Final = 30

log = structlog.get_logger(__name__)


def node_queue(node: str) -> str:
    """Return the Celery queue that one worker alone reads."""
    return f"w.{node}"


def make_celery(settings: Settings) -> Celery:
    """Return the app, configured. Imports no task and no torch."""
    url = settings.require_redis()
    sentinel = SentinelUrl.parse(url) if is_sentinel(url) else None
    app = Celery("darkroom", broker=sentinel.broker_url if sentinel else url, set_as_current=True)
    app.conf.update(
        task_ignore_result=True,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_create_missing_queues=True,
        task_default_queue=COURIER_QUEUE,
        task_routes={DELIVER: {"queue": COURIER_QUEUE}},
        # The backlog speaks for jobs; a wake-up in the event stream would be noise.
        worker_send_task_events=True,
        task_send_sent_event=False,
        worker_prefetch_multiplier=1,
        worker_concurrency=1,
        worker_hijack_root_logger=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        # The shortest among apps that share a broker wins, so it is set here and nowhere else.
        broker_transport_options={
            "visibility_timeout": settings.visibility_timeout_s,
            "socket_keepalive": True,
            "health_check_interval": 10,
            # A bell that cannot ring shall say so soon: somebody's request waits for it.
            "max_retries": 1,
            "interval_start": 0,
            "interval_step": 0.2,
            "interval_max": 0.2,
            **(sentinel.broker_options if sentinel else {}),
        },
        # Left to itself kombu would take any certificate; what the URL says of its own (ssl_ca_certs) is added.
        broker_use_ssl={"ssl_cert_reqs": ssl.CERT_REQUIRED} if url.startswith("rediss://") else False,
        event_queue_expires=60,
        timezone="UTC",
    )
    return app


def declared_queue(node: str) -> Queue:
    """Return a worker's queue as publishers declare it: with an exchange of its own, so no binding outlives it."""
    name = node_queue(node)
    return Queue(name, exchange=Exchange(name), routing_key=name)


def delete_node_queue(app: Celery, node: str) -> None:
    """Delete a worker's queue and all that is in it. Raises what kombu raises where the broker is away."""
    with app.connection_for_write() as connection:
        queue = declared_queue(node)(connection.default_channel)
        # Over a connection kombu deletes only what it has seen declared over it.
        queue.declare()
        queue.delete()


class Bell(Protocol):
    """Tells workers and couriers that there is something to do."""

    def wake(self, nodes: Sequence[str]) -> None:
        """Wake these workers, by name."""

    def deliver(self, entries: Sequence[str]) -> None:
        """Tell any courier that these outbox entries are due."""


class CeleryBell:
    """The bell as Celery messages. A bell that cannot ring is logged: the sweep rings again."""

    def __init__(self, app: Celery) -> None:
        self._app = app

    def wake(self, nodes: Sequence[str]) -> None:
        """Publish one `generate` to each node's own queue."""
        for node in nodes:
            self._send(GENERATE, queue=node_queue(node), expires=WAKE_EXPIRES_S)

    def deliver(self, entries: Sequence[str]) -> None:
        """Publish one `deliver` per entry."""
        for entry in entries:
            self._send(DELIVER, queue=COURIER_QUEUE, args=(entry,), expires=WAKE_EXPIRES_S)

    def _send(self, name: str, **options: object) -> None:
        try:
            self._app.send_task(name, retry=False, ignore_result=True, **options)
        except OperationalError as error:
            BELLS_UNHEARD.labels(name).inc()
            log.warning("bell.unheard", task=name, error=str(error))


class SilentBell:
    """The bell's null twin: remembers what it would have rung, for tests and dry tools."""

    def __init__(self) -> None:
        self.woken: list[str] = []
        self.due: list[str] = []

    def wake(self, nodes: Sequence[str]) -> None:
        """Note the nodes."""
        self.woken += nodes

    def deliver(self, entries: Sequence[str]) -> None:
        """Note the entries."""
        self.due += entries
