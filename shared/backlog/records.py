"""What the backlog's methods take and give. Frozen; times are epoch milliseconds."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from shared.job import Submission

#: A worker that was not heard of for so long counts as dead; heartbeats come every 2 s.
DEAD_MS: Final = 6000


@dataclass(frozen=True, slots=True)
class Idempotency:
    """A caller's Idempotency-Key, with a digest of the request it came with."""

    key: str
    digest: str


@dataclass(frozen=True, slots=True)
class Receipt:
    """What `submit` answers. `replayed` is true where an idempotency key gave an earlier job back."""

    uid: int
    handle: str
    created_ms: int
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class BatchReceipt:
    """What opening a batch answers. `replayed` is true where an idempotency key gave an earlier batch back.

    `kept` is false where what was uploaded is not the batch's: its images are of no use.
    """

    id: int
    replayed: bool
    kept: bool


@dataclass(frozen=True, slots=True)
class Lease:
    """A job a worker holds. It may change the job only while `fence` is the job's current one."""

    uid: int
    fence: int
    handle: str
    account: str
    attempts: int
    created_ms: int
    started_ms: int
    submission: Submission


@dataclass(frozen=True, slots=True)
class Claim:
    """A batch: jobs that share one pipeline call; empty where nothing was claimable and the worker is now idle."""

    leases: tuple[Lease, ...]


@dataclass(frozen=True, slots=True)
class Lost:
    """Leases that are no longer the worker's: cancelled, expired, or taken over. Stop them; tell nobody."""

    uids: frozenset[int]


@dataclass(frozen=True, slots=True)
class Swept:
    """What one sweep did."""

    requeued: int
    quarantined: int
    woken: int


class Gate(StrEnum):
    """What an operator lets a pool or a lane do."""

    OPEN = "open"  #: takes jobs and begins them
    PAUSED = "paused"  #: takes jobs and begins none
    DRAINING = "draining"  #: takes no more jobs, and begins those that wait


@dataclass(frozen=True, kw_only=True, slots=True)
class Lane:
    """How a pool's queue for one model stands."""

    pool: str
    model: str
    gate: Gate
    waiting: int
    running: int
    #: Live workers that serve it, and how many of them have nothing to do.
    workers: int
    idle: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Running:
    """A job that a worker holds: drawn, waiting for its batch-mates or being stored."""

    uid: int
    #: The account's name.
    account: str
    lane: str
    step: int
    steps: int
    #: Since it was claimed.
    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerView:
    """A worker or courier as operators see it."""

    node: str
    pool: str
    models: tuple[str, ...]
    #: Since it was heard of.
    silent_s: float
    #: Whether its last claim found nothing.
    idle: bool
    jobs: tuple[Running, ...]

    @property
    def is_silent(self) -> bool:
        """Whether it counts as dead."""
        return self.silent_s * 1000 > DEAD_MS


@dataclass(frozen=True, kw_only=True, slots=True)
class AccountLoad:
    """How much of an account's waits and runs."""

    name: str
    waiting: int
    running: int


@dataclass(frozen=True, kw_only=True, slots=True)
class SetApart:
    """A job that was lost with its worker too often, and has failed with `worker_lost`."""

    uid: int
    #: The account's name.
    account: str
    lane: str
    #: The last worker that was lost with it.
    worker: str | None
    attempts: int
    at_ms: int
