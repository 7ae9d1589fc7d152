"""What spans tell of a job, after OpenTelemetry's conventions for messaging as far as they go."""

from typing import Final

from shared.job import Submission

#: What work goes by in those conventions.
SYSTEM: Final = "darkroom"


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
