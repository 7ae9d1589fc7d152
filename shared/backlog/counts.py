"""What the backlog's methods count. Called with answers, so that what was refused or fenced off counts as nothing."""

from collections import Counter
from collections.abc import Sequence
from typing import Final

from redis import Redis

from shared.backlog.records import Lease
from shared.errors import DarkroomError, DeadlinePassed, WorkerLost
from shared.job import USUAL_PRIORITY, Result, Status, Submission
from shared.keys import spec_key
from shared.metrics import LEASES_LOST, OUTCOMES, SUBMITS

#: Why a job has ended that no worker ended.
_BY_ITSELF: Final[dict[str, type[DarkroomError]]] = {Status.FAILED: WorkerLost, Status.EXPIRED: DeadlinePassed}


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
    LEASES_LOST.labels(why).inc(requeued + sum(status == Status.FAILED for status in concluded[1::2]))
    ended_by_script(redis, concluded)


def ended_by_script(redis: Redis, concluded: Sequence[str]) -> None:
    """Count jobs that a script has ended by itself: their uids and statuses, by turns."""
    if not concluded:
        return
    texts = redis.mget([spec_key(uid) for uid in concluded[::2]])
    for text, status in zip(texts, concluded[1::2], strict=True):
        if text is not None:  # else erased in between
            why = _BY_ITSELF.get(status)
            ended(Submission.from_json(text), Status(status), code=why.code if why else "")
