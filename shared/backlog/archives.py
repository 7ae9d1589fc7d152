"""Archives that are due: which batches' images are to be written into zips, and how far that is."""

import secrets
from dataclasses import dataclass
from typing import Any

from redis import Redis

from shared.backlog.scripts import OUTAGES, Script
from shared.batch import ArchivePart
from shared.errors import BacklogUnavailable
from shared.keys import archives_key
from shared.redis_client import now_ms


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """A batch that is leased to be archived: so many parts are written, the last of them as told."""

    batch: int
    account: str
    token: str
    #: How often the batch has ended.
    outcome: int
    parts: int
    last: ArchivePart | None


class Archives:
    """Leases batches to whoever writes their archives. All raise `BacklogUnavailable` when Redis is away.

    A lease of `lease_s` seconds begins anew with every call; one that runs out is given to the next who asks, who goes
    on behind the last part.
    """

    def __init__(self, redis: Redis, *, lease_s: float) -> None:
        self._redis = redis
        self._lease_ms = int(lease_s * 1000)
        self._script = Script("archive")

    def due(self, limit: int) -> list[int]:
        """Return batches whose archive nobody writes now, the longest due first."""
        try:
            found: Any = self._redis.zrangebyscore(archives_key(), "-inf", now_ms(self._redis), start=0, num=limit)
        except OUTAGES as error:
            raise BacklogUnavailable from error
        return [int(number) for number in found]

    def claim(self, batch: int) -> Work | None:
        """Lease a batch; None where it is not due, or another's."""
        token = secrets.token_hex(8)
        found = self._script(self._redis, batch, "claim", token, self._lease_ms, "")
        if not found:
            return None
        account, outcome, parts, last = found
        return Work(
            batch=batch,
            account=account,
            token=token,
            outcome=int(outcome),
            parts=int(parts),
            last=ArchivePart.from_json(last) if last else None,
        )

    def hold(self, work: Work) -> bool:
        """Begin the lease anew; False where it is another's by now, or the batch runs once more."""
        return self._tell(work, "hold", self._lease_ms)

    def add(self, work: Work, part: ArchivePart, *, is_last: bool) -> bool:
        """Note that a part is written; with the last one the batch has its archive. False as for `hold`."""
        return self._tell(work, "last" if is_last else "part", self._lease_ms, part.to_json())

    def put_off(self, work: Work, *, delay_s: float) -> None:
        """Let it be done later."""
        self._tell(work, "later", int(delay_s * 1000))

    def _tell(self, work: Work, what: str, ms: int, part: str = "") -> bool:
        return bool(self._script(self._redis, work.batch, what, work.token, ms, part))
