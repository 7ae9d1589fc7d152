"""Fetches the images that callers named by URL, before a job may take a GPU's time.

A courier claims such jobs from a lane of their own, under leases like a worker's, and sends each on to its model's lane
with the images stored. The job keeps the place that it was given when it was submitted.
"""

from __future__ import annotations

import os
import signal
import threading
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import structlog

from shared.accounts import Accounts
from shared.backlog import INGEST_MODEL, INGEST_POOL, Backlog
from shared.errors import BacklogUnavailable, DarkroomError, InvalidField, StorageUnavailable, StoringFailed
from shared.inputs import FORMATS, CheckedImage, fetch_image, normalized
from shared.job import Result, Status
from shared.logs import about
from shared.metrics import INGESTS
from shared.redis_client import connect, signing_secret
from shared.safe_http import SafeHttp
from shared.spec import input_key
from shared.storage import Storage, open_storage
from worker import traces
from worker.erased import read_or_delete
from worker.heartbeat import Heartbeat, Held
from worker.insist import insist
from worker.introduction import Introduction
from worker.stopping import GivenUp
from worker.watchdogs import Pulse

if TYPE_CHECKING:
    from shared.celery_app import Bell
    from shared.settings import Settings
    from shared.tracing import Span

#: Images that are fetched at the same time.
THREADS: Final = 8
#: Between two claims while fetches are under way.
PAUSE_S: Final = 0.25
#: The heartbeat asks Redis with this much patience.
HEARTBEAT_TIMEOUT_S: Final = 1.0
#: Between two claims while Redis is away.
OUTAGE_PAUSE_S: Final = 1.0

log = structlog.get_logger(__name__)


class Ingest:
    """A courier's fetching side. `generate` may be called from any thread."""

    def __init__(
        self,
        node: str,
        *,
        backlog: Backlog,
        accounts: Accounts,
        storage: Storage,
        http: SafeHttp,
        heartbeat: Heartbeat,
        pulse: Pulse | None = None,
    ) -> None:
        self._node = node
        self._backlog = backlog
        self._accounts = accounts
        self._storage = storage
        self._http = http
        self._heartbeat = heartbeat
        #: Ends a courier whose consumer has gone quiet: it would deliver no webhook either.
        self._pulse = pulse or Pulse(lambda: None)
        #: Whoever is woken asks for a look at the backlog, which one thread at a time takes.
        self._asked = threading.Event()
        self._turn = threading.Lock()
        self._stopping = threading.Event()
        self._jobs: dict[Future[None], Held] = {}
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="ingest")

    @classmethod
    def from_settings(cls, settings: Settings, bell: Bell, *, node: str) -> Ingest:
        """Return one with connections of its own, not yet started."""

        def backlog(**options: Any) -> Backlog:
            return Backlog(connect(settings, **options), bell, limit=settings.backlog_limit, lease_s=settings.lease_s)

        redis = connect(settings)
        beating = backlog(timeout_s=HEARTBEAT_TIMEOUT_S, retries=0)
        introduce = Introduction(backlog=beating, node=node, pool=INGEST_POOL, models=(INGEST_MODEL,))
        pulse = Pulse(lambda: bell.wake([node]), end=lambda: os.kill(os.getpid(), signal.SIGTERM))
        return cls(
            node,
            backlog=backlog(),
            accounts=Accounts(redis),
            storage=open_storage(settings, secret=signing_secret(settings, redis)),
            http=SafeHttp(allow=settings.outbound_allow),
            heartbeat=Heartbeat(beating, node, introduce=introduce, pulse=pulse.beat),
            pulse=pulse,
        )

    def start(self) -> None:
        """Say hello, and go on saying so."""
        self._heartbeat.start()

    def stop(self) -> None:
        """Hand back what is not fetched yet; nothing is claimed any more."""
        self._stopping.set()
        unfinished = [held.lease for future, held in list(self._jobs.items()) if not future.done()]
        try:
            self._backlog.handback(self._node, unfinished)
        except BacklogUnavailable:
            log.warning("ingest.handback_failed")  # the leases run out instead
        self._heartbeat.stop()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def generate(self) -> None:
        """Answer a wake-up: fetch until there is nothing left to fetch.

        Returns at once where another thread is at it: these threads are the webhooks' as well.
        """
        self._pulse.rest()
        self._heartbeat.introduced.wait()
        self._asked.set()
        while self._asked.is_set() and self._turn.acquire(blocking=False):
            try:
                self._asked.clear()
                self._work()
            finally:
                self._turn.release()

    def _work(self) -> None:
        while not self._stopping.is_set():
            self._claim()
            if not self._jobs:
                return
            done, _ = wait(self._jobs, PAUSE_S, return_when=FIRST_COMPLETED)
            for future in done:
                self._heartbeat.release(self._jobs.pop(future))

    def _claim(self) -> None:
        free = THREADS - len(self._jobs)
        if not free:
            return
        try:
            leases = self._backlog.claim(self._node, max_jobs=free, max_images=2**31).leases
        except BacklogUnavailable:
            log.warning("ingest.backlog_unavailable")
            self._stopping.wait(OUTAGE_PAUSE_S)
            return
        jobs = [Held(lease) for lease in leases]
        self._heartbeat.hold(jobs)
        self._jobs |= {self._pool.submit(self._run, job): job for job in jobs}

    def _run(self, job: Held) -> None:
        lease = job.lease
        with about(lease), traces.fetching(lease, pool=INGEST_POOL) as span:
            try:
                self._ingest(job, span)
            except BacklogUnavailable:
                log.warning("ingest.postponed")  # its lease runs out, and it is fetched again
            except GivenUp:
                log.warning("ingest.given_up")
                if job.lost.is_set():
                    read_or_delete(lease, "inputs", backlog=self._backlog, storage=self._storage)
            except Exception:  # nobody reads the future; without this the cause would be lost
                log.exception("ingest.failed")

    def _ingest(self, job: Held, span: Span) -> None:
        lease = job.lease
        spec = lease.submission.spec
        try:
            formats = str(lease.submission.option("image_formats") or "").split() or FORMATS
            remote = spec.remote_inputs()
            images = {name: fetch_image(self._http, url, field=name, formats=formats) for name, url in remote.items()}
            keys = {remote[name]: self._store(job, name, image) for name, image in images.items()}
        except (InvalidField, StorageUnavailable) as error:
            log.info("ingest.refused", error=str(error))
            span.fail(error.code)
            INGESTS.labels("refused").inc()
            self._backlog.finish(self._node, lease, Status.FAILED, Result(error=_told(error)))
            return
        pool = self._accounts.get(lease.account).pool
        if lease.submission.any_pool:
            pool = self._backlog.pool_for(spec.model, own=pool, record_format=lease.submission.format)
        submission = replace(lease.submission, spec=spec.with_images(keys))
        sent = self._backlog.advance(self._node, lease, submission, pool=pool)
        INGESTS.labels("done" if sent else "taken_away").inc()
        log.info("ingest.done" if sent else "ingest.taken_away")
        if not sent:
            read_or_delete(lease, "inputs", backlog=self._backlog, storage=self._storage)

    def _store(self, job: Held, name: str, image: CheckedImage) -> str:
        key, data = input_key(job.lease.handle, name), normalized(image)

        def pause(seconds: float) -> None:
            if self._stopping.wait(seconds) or job.lost.is_set():
                raise GivenUp

        insist(partial(self._storage.put, key, data, content_type="image/png"), self._storage, pause=pause)
        return key


def _told(error: DarkroomError) -> dict[str, Any]:
    if isinstance(error, InvalidField):
        message = f"{error.field}: {error.message}"
        return {"code": error.code, "message": message, "retryable": error.retryable}
    return {"code": StoringFailed.code, "message": "The image could not be stored.", "retryable": True}
