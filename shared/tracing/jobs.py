"""What spans tell of a job, after OpenTelemetry's conventions for messaging as far as they go."""

from typing import Final

from shared import tracing
from shared.job import Status, Submission

#: What work goes by in those conventions.
SYSTEM: Final = "darkroom"
_MS: Final = 1_000_000


def about_job(submission: Submission, *, uid: int, account: str, pool: str) -> dict[str, str | int]:
    """Return which job it is, whose, and what for; nothing that its caller wrote."""
    spec = submission.spec
    return {
        "messaging.system": SYSTEM,
        "messaging.destination.name": f"{pool}/{spec.model}",
        "messaging.message.id": str(uid),
        "darkroom.uid": uid,
        "darkroom.account": account,
        "darkroom.dialect": submission.dialect,
        "darkroom.model": spec.model,
        "darkroom.pool": pool,
        "darkroom.task": str(spec.task),
        "darkroom.images": spec.num_images,
    }


def ended_by_queue(
    submission: Submission,
    status: Status,
    *,
    uid: int,
    account: str,
    handle: str,
    pool: str,
    attempts: int,
    created_ms: int,
    finished_ms: int,
    error: str = "",
) -> None:
    """Tell of the end of a job that no worker tells of: from its acceptance, by Redis' clock. `error` is a code."""
    trace = tracing.of_job(submission.trace, handle)
    # Where no request left a place in its own trace, the job's begins with its first wait, or with this.
    begins = submission.trace is None and attempts == 0
    tracing.tracer().emit(
        "end",
        begun_ns=created_ms * _MS,
        ended_ns=finished_ms * _MS,
        parent=None if begins else trace,
        own=trace if begins else None,
        attributes={
            **about_job(submission, uid=uid, account=account, pool=pool),
            "darkroom.attempt": attempts,
            "darkroom.status": str(status),
        },
        error=error,
    )
