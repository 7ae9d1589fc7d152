"""What the backlog's methods count, log and trace. Called with answers: what was refused or fenced off is nothing."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

import structlog
from redis import Redis

from shared import tracing
from shared.backlog.records import Lease
from shared.errors import DarkroomError, DeadlinePassed, WorkerLost
from shared.job import USUAL_PRIORITY, Result, Status, Submission
from shared.keys import job_key, spec_key
from shared.metrics import LEASES_LOST, OUTCOMES, SUBMITS
from shared.tracing.jobs import ended_by_queue

log = structlog.get_logger(__name__)

#: Why a job has ended that no worker ended.
_BY_ITSELF: Final[dict[str, type[DarkroomError]]] = {Status.FAILED: WorkerLost, Status.EXPIRED: DeadlinePassed}
#: What is told of such a job, by its record.
_OF_AN_END: Final = ("account", "handle", "lane", "attempts", "created", "started", "finished")


def kind_of(submission: Submission) -> tuple[str, str, str]:
    """Return what accepted jobs are counted by: dialect, model, priority."""
    return submission.dialect, submission.spec.model, submission.priority or USUAL_PRIORITY


def submitted(kinds: Counter[tuple[str, str, str]]) -> None:
    """Count jobs that were accepted: how many of each kind."""
    for kind, jobs in kinds.items():
        SUBMITS.labels(*kind).inc(jobs)


def ended(submission: Submission, status: Status, *, code: str = "") -> None:
    """Count the end of a job."""
    OUTCOMES.labels(submission.dialect, submission.spec.model, str(status), code).inc()


def finished(lease: Lease, status: Status, result: Result) -> None:
    """Count the end of a job that its worker told."""
    ended(lease.submission, status, code=str((result.error or {}).get("code", "")))


def lost(redis: Redis, why: str, requeued: int, concluded: Sequence[str]) -> None:
    """Count leases that were lost, and jobs that the script which found out has ended."""
    leases = requeued + sum(status == Status.FAILED for status in concluded[1::2])
    LEASES_LOST.labels(why).inc(leases)
    if leases:
        log.warning("leases.lost", why=why, leases=leases, requeued=requeued)
    ended_by_script(redis, concluded)


def ended_by_script(redis: Redis, concluded: Sequence[str]) -> None:
    """Count, log and trace jobs that a script has ended by itself: their uids and statuses, by turns."""
    pipe = redis.pipeline(transaction=False)
    for uid in concluded[::2]:
        pipe.get(spec_key(uid))
        pipe.hmget(job_key(uid), _OF_AN_END)
    found = iter(pipe.execute())
    for uid, status, text, state in zip(concluded[::2], concluded[1::2], found, found, strict=True):
        if text is not None:  # else erased in between
            submission, code = Submission.from_json(text), _BY_ITSELF[status].code if status in _BY_ITSELF else ""
            ended(submission, Status(status), code=code)
            log.info("job.ended", uid=int(uid), account=state[0], status=status, code=code or None)
            _trace(submission, Status(status), int(uid), state, code=code)


def cancelled(redis: Redis, uid: int, submission: Submission) -> None:
    """Count and trace a job that somebody has cancelled."""
    ended(submission, Status.CANCELLED)
    if tracing.tracer().is_on:
        state: Any = redis.hmget(job_key(uid), _OF_AN_END)
        _trace(submission, Status.CANCELLED, uid, state)


def _trace(submission: Submission, status: Status, uid: int, state: Sequence[str | None], *, code: str = "") -> None:
    """Trace the end of a job that waited, or whose worker is gone; of any other its worker tells."""
    account, handle, lane, attempts, created, started, finished = (value or "" for value in state)
    if not tracing.tracer().is_on or not finished or (started and status is not Status.FAILED):
        return
    ended_by_queue(
        submission,
        status,
        uid=uid,
        account=account,
        handle=handle,
        pool=lane.partition("/")[0],
        attempts=int(attempts or 0),
        created_ms=int(created),
        finished_ms=int(finished),
        error=code if status is Status.FAILED else "",
    )
