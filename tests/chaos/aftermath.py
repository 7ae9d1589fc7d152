"""All jobs that were accepted, as their records tell them once all is calm."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from redis import Redis

from shared.backlog import Backlog
from shared.celery_app import SilentBell
from shared.job import Job, Status
from shared.keys import events_key, index_key, job_key
from tests.chaos.traffic import Client, Told
from tests.chaos.wishes import Wish

TERMINAL = {str(status) for status in Status if status.is_terminal}


@dataclass(frozen=True)
class Aftermath:
    """What is left, read once."""

    redis: Redis
    clients: Mapping[str, Client]
    told: Sequence[Told]
    #: uid -> job
    jobs: dict[int, Job] = field(default_factory=dict)
    #: uid -> its state as it lies in Redis
    states: dict[int, dict[str, str]] = field(default_factory=dict)
    #: event id in milliseconds, uid, event; in the order they happened
    events: list[tuple[int, int, str]] = field(default_factory=list)
    #: a wish's number -> the jobs that came of it
    by_wish: dict[int, list[Job]] = field(default_factory=lambda: defaultdict(list))

    @classmethod
    def read(cls, redis: Redis, clients: Mapping[str, Client], told: Sequence[Told]) -> "Aftermath":
        """Read everything."""
        found = cls(redis, clients, told)
        backlog = Backlog(redis, SilentBell())
        for client in clients.values():
            account = client.credentials.account
            uids = [int(uid) for uid in redis.lrange(index_key(account), 0, -1)]
            found.jobs.update({uid: backlog.read(uid, account=account) for uid in uids})
        for uid, job in found.jobs.items():
            found.states[uid] = redis.hgetall(job_key(uid))
            found.by_wish[number_of(job)].append(job)
        for id_, event in redis.xrange(events_key()):
            found.events.append((int(id_.partition("-")[0]), int(event["uid"]), event["event"]))
        return found

    @property
    def wishes(self) -> dict[int, Wish]:
        """The wishes by number."""
        return {one.wish.number: one.wish for one in self.told}

    def wish_of(self, job: Job) -> Wish:
        """Return the wish that a job came of."""
        return self.wishes[number_of(job)]


def number_of(job: Job) -> int:
    """Return the number of a job's wish, which its prompt tells."""
    found = re.search(r"number (\d+)", job.submission.spec.prompt)
    if found is None:
        raise ValueError(f"job {job.uid} is nobody's wish: {job.submission.spec.prompt!r}")
    return int(found[1])
