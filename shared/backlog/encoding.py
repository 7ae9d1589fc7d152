"""How a submission is told to the scripts: lanes, bands, hooks, and a line of a batch."""

import hashlib
from typing import Final

from shared.batch import BatchLine
from shared.formats import marked
from shared.job import Submission

#: Priority -> band: 0 goes first.
BANDS: Final = {"high": 0, "normal": 1, "low": 2}
#: Couriers register under this pool, and fetch for jobs in this lane.
INGEST_POOL: Final = "ingest"
INGEST_MODEL: Final = "fetch"

_HOOK_LETTERS: Final = {
    "queued": "q",
    "started": "r",
    "progress": "p",
    "succeeded": "s",
    "failed": "f",
    "cancelled": "c",
    "expired": "x",
}


def lane_of(submission: Submission, *, pool: str) -> str:
    """Return the lane in which a job is drawn."""
    return f"{pool}/{marked(submission.spec.model, submission.format)}"


def first_lane(submission: Submission, *, pool: str) -> str:
    """Return the lane in which a job waits first: the couriers' while its images have still to be fetched."""
    if submission.spec.remote_inputs():
        return f"{INGEST_POOL}/{marked(INGEST_MODEL, submission.format)}"
    return lane_of(submission, pool=pool)


def is_ingest(lane: str) -> bool:
    """Whether a lane is the couriers'."""
    return lane.startswith(f"{INGEST_POOL}/")


def hooks_of(submission: Submission) -> str:
    """Return the events that a job's webhook is called for, a letter each."""
    if submission.webhook_url is None:
        return ""
    return "".join(_HOOK_LETTERS[event] for event in submission.webhook_events)


def track_digest(track_id: str | int) -> str:
    """Return what a track_id's list is called by. The type counts: 7 and "7" are two ids."""
    return hashlib.sha256(repr(track_id).encode()).hexdigest()[:16]


def deadlines_ms(submission: Submission) -> tuple[int, int]:
    """Return the milliseconds until a job must have started, and for which it may run; 0 for none."""
    return int(1000 * (submission.start_deadline_s or 0)), int(1000 * (submission.run_deadline_s or 0))


def line_text(line: BatchLine) -> str:
    """Return a line as `feed` reads it: fields that end in a tab, a line break, the submission as JSON."""
    submission, spec = line.submission, line.submission.spec
    fields = (
        first_lane(submission, pool=line.pool),
        BANDS[submission.priority or "normal"],
        spec.batch_key(),
        spec.num_images,
        spec.work(),
        line.price,
        line.handle,
        hooks_of(submission),
        "" if submission.track_id is None else track_digest(submission.track_id),
        *deadlines_ms(submission),
    )
    return "".join(f"{field}\t" for field in fields) + "\n" + submission.to_json()


def submission_of(text: str) -> Submission:
    """Return the submission in `line_text`'s form."""
    return Submission.from_json(text.partition("\n")[2])


def handle_of(text: str) -> str:
    """Return the handle in `line_text`'s form."""
    return text.split("\t", 7)[6]
