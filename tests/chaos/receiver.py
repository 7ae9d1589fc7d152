"""A receiver of webhooks that fails half the time, and serves the picture that some jobs start from."""

import random
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests import services
from tests.chaos.traffic import picture

#: How likely a call is refused, by how often one end of a job may be, in one call or several: about half of all calls
#: fail, and a run ends before the schedule's longer waits.
ODDS = {1: 0.9, 2: 0.6}
STATUSES = (500, 502, 503, 408)


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call, and what it was answered."""

    path: str
    #: Its `webhook-id`.
    id: str
    body: bytes
    status: int


@dataclass
class Moody:
    """Decides what each call is answered, and remembers it. Safe for threads."""

    chance: random.Random
    refusals: int
    calls: list[Call] = field(default_factory=list)
    #: outbox entry -> how often it was refused
    refused: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, request: services.Received) -> services.Reply:
        """Answer one request."""
        if request.method == "GET":
            return services.Reply(headers={"Content-Type": "image/png"}, body=picture(128))
        headers = {name.lower(): value for name, value in request.headers.items()}
        id_ = headers["webhook-id"]
        entry = "_".join(id_.split("_")[:3])
        with self.lock:
            refuse = self.refused[entry] < self.refusals and self.chance.random() < ODDS[self.refusals]
            self.refused[entry] += refuse
            status = self.chance.choice(STATUSES) if refuse else 200
            self.calls.append(Call(path=request.path, id=id_, body=request.body, status=status))
        return services.Reply(status=status)


@contextmanager
def moody_receiver(seed: int, *, refusals: int) -> Iterator[tuple[Moody, str]]:
    """Run one; yields it and its address."""
    moody = Moody(random.Random(seed), refusals)
    with services.receiver() as server:
        server.decide = moody.answer
        yield moody, server.url
