"""A batch: many jobs that are submitted, paused, cancelled and fetched together. Frozen records.

Times are epoch milliseconds, prices millicredits.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Final, Self

from shared.formats import known
from shared.job import Job, Status, Submission
from shared.spec import canonical_json

#: Lines that one batch may have.
MAX_LINES: Final = 100_000
#: How the events of batches begin; the status at which it ended follows.
BATCH_EVENTS: Final = "batch."


class BatchStatus(StrEnum):
    """Where a batch stands."""

    RUNNING = "running"  #: its jobs are queued, about a thousand at a time, and drawn
    PAUSED = "paused"  #: nothing of it begins
    COMPLETED = "completed"  #: all of its jobs have ended
    CANCELLED = "cancelled"  #: its owner ended it

    @property
    def is_over(self) -> bool:
        """Whether nothing of it begins any more."""
        return self in {BatchStatus.COMPLETED, BatchStatus.CANCELLED}


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchOptions:
    """What belongs to a batch as a whole."""

    name: str = ""
    webhook_url: str | None = None
    #: The most it may cost; None: whatever it costs.
    budget: int | None = None
    #: Whether its images are written into archives when it has ended.
    archive: bool = True

    def to_json(self) -> str:
        """Return compact JSON."""
        return canonical_json(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read `to_json`'s form."""
        return cls(**known(cls, json.loads(text)))


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchLine:
    """A job of a batch before it is one: checked, priced, with its seeds drawn."""

    submission: Submission
    pool: str
    price: int
    #: The job's, under which its images are stored already.
    handle: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ArchivePart:
    """A stored zip with the images of the lines from `first` to `last`. `size` is in bytes."""

    key: str
    first: int
    last: int
    images: int
    size: int

    def to_json(self) -> str:
        """Return compact JSON."""
        return canonical_json(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read `to_json`'s form."""
        return cls(**known(cls, json.loads(text)))


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """A batch's record as read."""

    id: int
    handle: str
    account: str
    status: BatchStatus
    total: int
    price: int
    spent: int
    created_ms: int
    finished_ms: int | None
    #: How many of its jobs stand where; lines that were not fed count as queued or, once it is cancelled, as such.
    counts: Mapping[Status, int]
    options: BatchOptions = field(default_factory=BatchOptions)
    #: None until all of it was written.
    archive: tuple[ArchivePart, ...] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchRow:
    """One line of a batch, from 1, and what has become of it."""

    line: int
    status: Status | None
    #: None until the line was fed, and once the job was erased.
    job: Job | None = None
    #: None where `job` tells it, and once the job was erased.
    submission: Submission | None = None
    uid: int | None = None
