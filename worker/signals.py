"""Celery's signals, wired: what a GPU worker and a courier do when they start and stop.

GPU worker   parent   celeryd_after_setup      reads its own queue and no other
                      worker_ready             wakes itself
                      worker_shutting_down     tells the child
                      worker_shutdown          says goodbye, after the child has ended
             child    worker_process_init      heartbeat and hello; Celery allows four seconds, so no model yet
                      worker_process_shutdown  lets deliveries finish
courier               worker_ready             starts the ticker, retention, archives and the fetching side
                      worker_shutdown          stops them, says goodbye
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, Final

import structlog
from billiard.util import get_logger
from celery import signals
from kombu.exceptions import KombuError
from redis.exceptions import RedisError

from shared import logs, tracing
from shared.backlog import Backlog
from shared.catalog import Catalog
from shared.celery_app import COURIER_QUEUE, CeleryBell, declared_queue, delete_node_queue
from shared.errors import BacklogUnavailable
from shared.metrics.exposition import serve
from shared.redis_client import connect
from worker import roles
from worker.archiver import Archiver
from worker.child import Child
from worker.courier import build_courier
from worker.flower_buttons import cancel_on_revoke, refuse_what_harms
from worker.flower_events import JobEvents
from worker.ingest import Ingest
from worker.retention import Retention
from worker.spool import Spool
from worker.stopping import Stopping
from worker.ticker import Ticker

if TYPE_CHECKING:
    from collections.abc import Sequence

    from celery import Celery

    from shared.backlog import Lease
    from shared.settings import Settings

#: Deliveries of a child that is told to end may take so long.
DRAIN_S: Final = 20.0
GOODBYE_TIMEOUT_S: Final = 1.0

log = structlog.get_logger(__name__)


class WorkerRole:
    """A GPU worker's parent, and the birth of its child."""

    def __init__(self, app: Celery, settings: Settings) -> None:
        self._app = app
        self._settings = settings
        #: Read here so that a wrong catalog stops the start.
        self._catalog = Catalog.load(settings)
        self._stopping = Stopping()
        self._child: Child | None = None

    def wire(self) -> None:
        """Connect the signals."""
        _wire_both(self._app, self._settings)
        signals.celeryd_after_setup.connect(self._read_own_queue, weak=False)
        signals.worker_ready.connect(self._wake, weak=False)
        signals.worker_shutting_down.connect(self._tell_child, weak=False)
        signals.worker_shutdown.connect(self._leave, weak=False)
        signals.worker_process_init.connect(self._start_child, weak=False)
        signals.worker_process_shutdown.connect(self._drain_child, weak=False)

    def _read_own_queue(self, sender: str, **_: Any) -> None:
        self._app.amqp.queues.deselect([COURIER_QUEUE])
        _read_queue_of(self._app, sender)

    def _wake(self, sender: Any, **_: Any) -> None:
        CeleryBell(self._app).wake([sender.hostname])

    def _tell_child(self, **_: Any) -> None:
        self._stopping.tell()

    def _start_child(self, sender: str, **_: Any) -> None:
        stopping = self._stopping.listen()
        self._child = Child(self._app, self._settings, self._catalog, node=sender, stopping=stopping)
        roles.become_claimer(self._child)
        self._child.start()

    def _drain_child(self, **_: Any) -> None:
        if self._child is not None:
            self._child.drain(DRAIN_S)

    def _leave(self, sender: Any, **_: Any) -> None:
        kept = [kept.lease for kept in Spool(self._settings.data_dir, node=sender.hostname).found()]
        _say_goodbye(self._app, self._settings, sender.hostname, results_of=kept)


class CourierRole:
    """A courier: delivers webhooks, fetches images, keeps the queue's clock, lets old jobs go, writes archives."""

    def __init__(self, app: Celery, settings: Settings) -> None:
        self._app = app
        self._settings = settings
        self._ticker: Ticker | None = None
        self._retention: Retention | None = None
        self._archiver: Archiver | None = None
        self._ingest: Ingest | None = None

    def wire(self) -> None:
        """Connect the signals."""
        _wire_both(self._app, self._settings)
        signals.celeryd_after_setup.connect(self._begin, weak=False)
        signals.worker_ready.connect(self._start, weak=False)
        signals.worker_shutdown.connect(self._stop, weak=False)

    def _begin(self, sender: str, **_: Any) -> None:
        tracing.begin(self._settings, role="courier", instance=sender)
        roles.become_courier(build_courier(self._settings, CeleryBell(self._app)))
        _read_queue_of(self._app, sender)

    def _start(self, sender: Any, **_: Any) -> None:
        if self._ticker is None:  # ready comes again after every reconnection
            bell = CeleryBell(self._app)
            events = JobEvents(self._app, sender.hostname)
            self._ticker = Ticker.from_settings(self._settings, bell, on_lost=events.lost)
            self._ticker.start()
            self._retention = Retention.from_settings(self._settings, bell)
            self._retention.start()
            self._archiver = Archiver.from_settings(self._settings, bell)
            self._archiver.start()
            self._ingest = Ingest.from_settings(self._settings, bell, node=sender.hostname)
            roles.become_claimer(self._ingest)
            self._ingest.start()
            serve(self._settings.courier_metrics_port, self._settings.metrics_host)
        CeleryBell(self._app).wake([sender.hostname])

    def _stop(self, sender: Any, **_: Any) -> None:
        if self._ticker is not None:
            self._ticker.stop()
        if self._retention is not None:
            self._retention.stop()
        if self._archiver is not None:
            self._archiver.stop()
        if self._ingest is not None:
            self._ingest.stop()
        tracing.end()
        _say_goodbye(self._app, self._settings, sender.hostname)


def _read_queue_of(app: Celery, node: str) -> None:
    app.amqp.queues.select_add(declared_queue(node))


def _say_goodbye(app: Celery, settings: Settings, node: str, *, results_of: Sequence[Lease] = ()) -> None:
    redis = connect(settings, timeout_s=GOODBYE_TIMEOUT_S)
    try:
        events = JobEvents(app, node)
        backlog = Backlog(redis, CeleryBell(app), lease_s=settings.lease_s, on_lost=events.lost)
        backlog.goodbye(node, results_of=results_of)
        delete_node_queue(app, node)
    except (BacklogUnavailable, KombuError, RedisError, OSError) as error:
        log.warning("worker.left_without_goodbye", error=str(error))  # the sweep finds out


def _wire_both(app: Celery, settings: Settings) -> None:
    def set_up_logging(**_: Any) -> None:
        logs.configure(settings)
        # Left to itself the pool writes its lines bare.
        get_logger().propagate = True

    signals.setup_logging.connect(set_up_logging, weak=False)

    @cache
    def redis() -> Any:
        return connect(settings)

    def backlog() -> Backlog:
        return Backlog(redis(), CeleryBell(app), limit=settings.backlog_limit, lease_s=settings.lease_s)

    cancel_on_revoke(cache(backlog), redis)
    refuse_what_harms()
