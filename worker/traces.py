"""What workers and couriers tell of jobs' traces: waiting, attempts with their stages, webhooks' calls.

An attempt is told when it is over, all at once: no span is open while a job goes from thread to thread, or lies on
disk. Of one whose process was killed nothing is told; the next says that it is the second.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from shared import tracing
from shared.job import Job, Status
from shared.tracing import Kind
from shared.tracing.jobs import about_job

if TYPE_CHECKING:
    from collections.abc import Iterable
    from contextlib import AbstractContextManager

    from shared.backlog import Lease
    from shared.batch import Batch
    from shared.job import Result
    from shared.outbox import Entry
    from shared.tracing import Span
    from worker.heartbeat import Held

_MS: Final = 1_000_000


def claimed(leases: Iterable[Lease], *, pool: str) -> None:
    """Tell how long jobs waited that run for the first time, by Redis' clock."""
    tracer = tracing.tracer()
    if not tracer.is_on:
        return
    for lease in leases:
        if lease.attempts == 1:
            trace = tracing.of_job(lease.submission.trace, lease.handle)
            tracer.emit(
                "wait",
                begun_ns=lease.created_ms * _MS,
                ended_ns=lease.started_ms * _MS,
                # Where no request left a place in its own trace, the job's begins here.
                parent=trace if lease.submission.trace else None,
                own=None if lease.submission.trace else trace,
                attributes=about_job(lease.submission, uid=lease.uid, account=lease.account, pool=pool),
            )


def ended(job: Held, status: Status, result: Result) -> None:
    """Tell of an attempt that is over, and of its stages. One that was taken away ended as the job stands now."""
    tracer, lease = tracing.tracer(), job.lease
    if not tracer.is_on:
        return
    attempt = tracer.emit(
        "process",
        begun_ns=lease.started_ms * _MS,
        ended_ns=time.time_ns(),
        kind=Kind.CONSUMER,
        parent=tracing.of_job(lease.submission.trace, lease.handle),
        attributes={
            **about_job(lease.submission, uid=lease.uid, account=lease.account, pool=job.pool),
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "darkroom.attempt": lease.attempts,
            "darkroom.status": str(status),
        },
        error=str((result.error or {}).get("code", "")) if status is Status.FAILED else "",
    )
    for stage in job.stages:
        tracer.emit(stage.name, begun_ns=stage.begun_ns, ended_ns=stage.ended_ns, parent=attempt)


def fetching(lease: Lease, *, pool: str) -> AbstractContextManager[Span]:
    """Trace a courier that fetches a job's images."""
    return tracing.tracer().span(
        "fetch",
        kind=Kind.CONSUMER,
        parent=tracing.of_job(lease.submission.trace, lease.handle),
        attributes=about_job(lease.submission, uid=lease.uid, account=lease.account, pool=pool),
    )


def calling(entry: Entry, subject: Job | Batch, url: str) -> AbstractContextManager[Span]:
    """Trace one call of a webhook; a batch's is a trace of its own. A URL's path may be a secret: its host is told."""
    host = urlsplit(url)
    about: dict[str, str | int] = {
        "http.request.method": "POST",
        "server.address": host.hostname or "",
        "server.port": host.port or (443 if host.scheme == "https" else 80),
        "darkroom.account": entry.account,
        "darkroom.webhook.event": entry.event,
        "darkroom.attempt": entry.attempt,
    }
    parent: str | None = ""
    if isinstance(subject, Job):
        submission = subject.submission
        about |= {"darkroom.uid": entry.uid, "darkroom.dialect": submission.dialect}
        about |= {"darkroom.model": submission.spec.model}
        parent = tracing.of_job(submission.trace, subject.handle)
    else:
        about |= {"darkroom.batch": entry.uid}
    return tracing.tracer().span("webhook", kind=Kind.CLIENT, parent=parent, attributes=about)
