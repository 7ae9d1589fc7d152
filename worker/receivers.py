"""Who may be called now: a dead or slow receiver holds up nobody else.

Each receiver of each account (a *line*: account, host and port) has a few calls at once and a circuit breaker; an
account and a host have half of this process's calls each. What finds no room is put off to a moment of its own, so
that a crowd of them does not come back together.
"""

import random
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from urllib3.util import parse_url

from shared.safe_http.target import DEFAULT_PORTS

#: So many calls in a row without an answer open the circuit: nothing is called, then one call tries.
FAILURES_TO_OPEN: Final = 5
#: How long it stays open at first; twice as long after each trial that fails.
FIRST_OPEN_S: Final = 5.0
LONGEST_OPEN_S: Final = 300.0
#: What finds no room is put off by so much at least and at most.
SHORTEST_WAIT_S: Final = 0.5
LONGEST_WAIT_S: Final = 60.0
#: Lines that are remembered; those not called for longest are forgotten first.
LINES_KNOWN: Final = 4096


class Busy(Exception):
    """The receiver is not to be called now, but perhaps after `delay_s`."""

    def __init__(self, delay_s: float, why: str) -> None:
        super().__init__(why)
        self.delay_s = delay_s


_Groups = tuple[tuple[str, str], ...]


@dataclass(slots=True)
class _Line:
    """What is known of one receiver of one account. Moments are `time.monotonic`'s."""

    calls: int = 0
    #: How long a call takes, on average of late.
    seconds: float = 0.0
    #: The moment that the last call which found no room was put off to.
    booked: float = 0.0
    failures: int = 0
    open_until: float = 0.0
    open_s: float = 0.0
    trying: bool = False


class Call:
    """A call under way. `answered` tells that the receiver lives; one that ends without counts as a failure."""

    def __init__(self) -> None:
        self.alive = False

    def answered(self) -> None:
        """Note that the receiver said something of its own."""
        self.alive = True


class Receivers:
    """Hands out the right to call. Safe for threads; each process has its own."""

    def __init__(self, *, threads: int = 16, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_line = max(1, threads // 4)
        self._per_group = max(1, threads // 2)
        self._clock = clock
        self._lock = threading.Lock()
        self._lines: OrderedDict[tuple[str, str], _Line] = OrderedDict()
        self._groups: dict[tuple[str, str], int] = {}

    @contextmanager
    def calling(self, account: str, url: str) -> Iterator[Call]:
        """Hold a place for one call of an account's receiver, or raise `Busy`."""
        host = _host(url)
        groups = (("account", account), ("host", host))
        call, started = Call(), self._clock()
        line, is_trial = self._enter((account, host), groups, started)
        try:
            yield call
        finally:
            with self._lock:
                self._leave(line, groups, seconds=self._clock() - started)
                self._judge(line, alive=call.alive, is_trial=is_trial)

    def _enter(self, name: tuple[str, str], groups: _Groups, now: float) -> tuple[_Line, bool]:
        with self._lock:
            line = self._lines.setdefault(name, _Line())
            self._lines.move_to_end(name)
            self._forget()
            if line.open_s and (line.trying or now < line.open_until):
                wait_s = max(line.open_until - now, SHORTEST_WAIT_S) + random.uniform(0, line.open_s)  # noqa: S311
                raise Busy(wait_s, "The receiver has not answered for a while; it is tried again later.")
            if line.calls >= self._per_line or any(self._groups.get(g, 0) >= self._per_group for g in groups):
                raise Busy(self._book(line, now), "The receiver is busy with other calls.")
            is_trial = line.trying = bool(line.open_s)
            line.calls += 1
            for group in groups:
                self._groups[group] = self._groups.get(group, 0) + 1
            return line, is_trial

    def _leave(self, line: _Line, groups: _Groups, *, seconds: float) -> None:
        line.calls -= 1
        for group in groups:
            self._groups[group] -= 1
            if not self._groups[group]:
                del self._groups[group]
        line.seconds = 0.7 * line.seconds + 0.3 * seconds if line.seconds else seconds
        if not line.calls:
            line.booked = 0.0

    def _judge(self, line: _Line, *, alive: bool, is_trial: bool) -> None:
        if is_trial:
            line.trying = False
        if alive:
            line.failures, line.open_s = 0, 0.0
            return
        line.failures += 1
        # Those that were under way when it opened say nothing new.
        if is_trial or (not line.open_s and line.failures >= FAILURES_TO_OPEN):
            line.open_s = min(max(FIRST_OPEN_S, 2 * line.open_s), LONGEST_OPEN_S)
            line.open_until = self._clock() + line.open_s

    def _book(self, line: _Line, now: float) -> float:
        """Return how long to put a call off: each that finds no room gets a moment after the one before it."""
        line.booked = max(line.booked, now) + max(line.seconds, 0.1) / self._per_line
        wait_s = min(line.booked - now, LONGEST_WAIT_S)
        line.booked = now + wait_s
        return max(wait_s, SHORTEST_WAIT_S) * random.uniform(1, 1.2)  # noqa: S311 - no secret

    def _forget(self) -> None:
        while len(self._lines) > LINES_KNOWN:
            self._lines.popitem(last=False)


def _host(url: str) -> str:
    parts = parse_url(url)
    return f"{(parts.host or '').lower()}:{parts.port or DEFAULT_PORTS.get(parts.scheme or '', 0)}"
