"""The GPU worker's child process: where jobs run. Its parent, Celery's own process, never sees torch."""

from __future__ import annotations

import os
import signal
from functools import cached_property
from typing import TYPE_CHECKING

import structlog
from prometheus_client import REGISTRY

from shared import tracing
from shared.backlog import Backlog
from shared.celery_app import CeleryBell
from shared.errors import ConfigurationError, DarkroomError
from shared.metrics.exposition import serve
from shared.redis_client import connect, signing_secret
from shared.storage import open_storage
from worker.delivery import Delivery
from worker.flower_events import JobEvents
from worker.heartbeat import Heartbeat, Held
from worker.introduction import Introduction
from worker.measures import DeviceMemory
from worker.spool import Kept, Spool
from worker.watchdogs import ParentWatchdog, Pulse, StallWatchdog

if TYPE_CHECKING:
    import threading

    from celery import Celery
    from redis import Redis

    from shared.catalog import Catalog
    from shared.settings import Settings
    from shared.storage import Storage
    from worker.run import Runner

#: The heartbeat asks Redis with this much patience: a late answer is as bad as none.
HEARTBEAT_TIMEOUT_S = 1.0

log = structlog.get_logger(__name__)


class Child:
    """What one process needs to run jobs. Cheap to make; the model comes with the first `generate`."""

    def __init__(
        self, app: Celery, settings: Settings, catalog: Catalog, *, node: str, stopping: threading.Event
    ) -> None:
        self._settings = settings
        self._node = node
        self._stopping = stopping
        self._catalog = catalog
        self._bell = CeleryBell(app)
        self._events = JobEvents(app, node)
        self._stall = StallWatchdog(settings.stall_s)
        self._pulse = Pulse(self._wake)
        self._spool = Spool(settings.data_dir, node=node)
        self._spool.tidy()
        #: What a process before this one left to be stored.
        self._left = tuple(self._spool.found()) if self._may_wait else ()
        self._resumed: list[tuple[Held, Kept]] = []
        beating = self._backlog(connect(settings, timeout_s=HEARTBEAT_TIMEOUT_S, retries=0))
        self._heartbeat = Heartbeat(
            beating,
            node,
            introduce=Introduction(
                backlog=beating,
                node=node,
                pool=settings.pool,
                models=tuple(model.name for model in self._catalog),
                results_of=tuple(kept.lease for kept in self._left),
                heard=self._resume,
            ),
            watchdogs=(ParentWatchdog(), self._stall),
            pulse=self._pulse.beat,
        )

    def start(self) -> None:
        """Start the heartbeat, which says hello."""
        # Threads that wait for their mates must not spin: beside the delivery threads, the courier and the API on
        # the same cores, spinning costs 3-4x. Read when torch loads, so it must be set before.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        # It warns, at each start, of a library that nothing here needs.
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
        self._heartbeat.start()
        serve(self._settings.worker_metrics_port, self._settings.metrics_host)

    def generate(self) -> None:
        """Answer a wake-up: load the default model if none is, then work until there is nothing to do."""
        self._pulse.begin()
        try:
            self._heartbeat.introduced.wait()
            self._runner.turn()
        except ConfigurationError as error:
            # No later wake-up would fare better: the whole worker ends, and its supervisor says so.
            log.error("child.cannot_start", error=error.message)  # noqa: TRY400 - the message says it all
            os.kill(os.getppid(), signal.SIGTERM)
        finally:
            self._pulse.rest()

    def drain(self, timeout_s: float) -> None:
        """Let deliveries finish before the process ends."""
        if "_runner" in self.__dict__:
            self._runner.delivery.drain(timeout_s)
            self._runner.delivery.close()
        tracing.end()

    def _resume(self, uids: frozenset[int]) -> None:
        """Hold what is still ours of the jobs whose results lie on disk, and forget the others."""
        for kept in self._left:
            if kept.lease.uid in uids:
                held = Held(kept.lease, step=kept.steps, steps=kept.steps, pool=self._settings.pool)
                self._resumed.append((held, kept))
            else:
                self._spool.drop(kept)
        self._heartbeat.hold(job for job, _ in self._resumed)
        if self._left:
            log.info("child.results_found", held=len(self._resumed), of=len(self._left))

    @cached_property
    def _runner(self) -> Runner:
        # These take seconds to import, and only this process may have them: spans are sent by a thread.
        from worker.engine import Engine
        from worker.run import Runner

        tracing.begin(self._settings, role="worker", instance=self._node)
        redis = connect(self._settings)
        backlog = self._backlog(redis)
        engine = Engine(self._settings, self._catalog)
        REGISTRY.register(DeviceMemory(engine.device))
        try:
            engine.model(self._catalog.default.name)
        except DarkroomError as error:
            log.warning("child.default_model_missing", error=error.message)  # jobs for others can still run
        storage = open_storage(self._settings, secret=signing_secret(self._settings, redis))
        return Runner(
            node=self._node,
            settings=self._settings,
            backlog=backlog,
            engine=engine,
            heartbeat=self._heartbeat,
            delivery=self._delivery(backlog, storage),
            events=self._events,
            stall=self._stall,
            stopping=self._stopping,
            wake=self._wake,
            storage=storage,
        )

    @property
    def _may_wait(self) -> bool:
        """Whether results may wait on disk for storage. For a local folder there is no better disk to wait on."""
        return bool(self._settings.s3_bucket and self._settings.spool_mb)

    def _delivery(self, backlog: Backlog, storage: Storage) -> Delivery:
        return Delivery(
            self._node,
            backlog=backlog,
            storage=storage,
            heartbeat=self._heartbeat,
            events=self._events,
            stopping=self._stopping,
            spool=self._spool if self._may_wait else None,
            spool_bytes=self._settings.spool_mb << 20,
            left=self._resumed,
        )

    def _backlog(self, redis: Redis) -> Backlog:
        return Backlog(
            redis,
            self._bell,
            limit=self._settings.backlog_limit,
            lease_s=self._settings.lease_s,
            on_lost=self._events.lost,
        )

    def _wake(self) -> None:
        self._bell.wake([self._node])
