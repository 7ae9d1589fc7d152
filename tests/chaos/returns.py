"""After a run: how soon what a process held when it was ended was with another."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median

from tests.chaos.aftermath import TERMINAL, Aftermath
from tests.chaos.report import Report
from tests.chaos.troubles import Kill, Troubles

#: Promised: a lost job is back in its queue, and where another worker lives with that one, within so long.
BACK_S = 15.0


@dataclass(frozen=True)
class Return:
    """A job that was lost in a kill and came back. Times are epoch milliseconds of Redis' clock."""

    kill: Kill
    uid: int
    #: The kill, or the last restart of Valkey or kill of a courier before it came back: after the one no lease runs out
    #: before its holder, if it lives, had the time to renew it; the other is who sees that it did.
    since_ms: int
    queued_ms: int
    started_ms: int
    #: What was killed or away meanwhile.
    meanwhile: tuple[str, ...]

    @property
    def queued_s(self) -> float:
        """Seconds until it was in its queue again."""
        return (self.queued_ms - self.since_ms) / 1000

    @property
    def started_s(self) -> float:
        """Seconds until it was with a worker again."""
        return (self.started_ms - self.since_ms) / 1000

    @property
    def is_late(self) -> bool:
        """Whether it took longer than is promised. With a worker it can be only where others live and can work."""
        return self.queued_s > BACK_S or (self.started_s > BACK_S and not self.meanwhile)


def check_returns(found: Aftermath, troubles: Troubles, report: Report) -> None:
    """What was lost with a process is soon with another."""
    returns: dict[str, list[Return]] = defaultdict(list)
    for one in _returns(found, troubles):
        returns[one.kill.victim].append(one)
    for victim, those in sorted(returns.items()):
        started = [one.started_s for one in those]
        report.note(
            f"held by a {victim}, with a worker again",
            f"{len(those)}, after {median(started):.1f} s (median), {max(started):.1f} s (longest)",
        )
    every = [one for those in returns.values() for one in those]
    if every:
        report.expect_at_most("longest time until a lost job was queued", max(o.queued_s for o in every), BACK_S, "s")
        alone = [one.started_s for one in every if not one.meanwhile]
        name = "longest time until with a worker, no other being killed"
        report.expect_at_most(name, max(alone, default=0.0), BACK_S, "s")
        report.note("longest time until with a worker, whatever was killed", f"{max(o.started_s for o in every):.1f} s")
    report.complaints += [_story(found, one) for one in every if one.is_late]


def _returns(found: Aftermath, troubles: Troubles) -> Iterable[Return]:
    for kill in troubles.kills:
        for uid in map(int, kill.held):
            later = [(at, event) for at, one, event in found.events if one == uid and at >= kill.at_ms]
            names = [event for _, event in later]
            if "requeued" not in names or set(names[: names.index("requeued")]) & TERMINAL:
                continue  # it had just ended, or is set apart
            queued_ms = later[names.index("requeued")][0]
            if any(kill.at_ms < other.at_ms <= queued_ms and str(uid) in other.held for other in troubles.kills):
                continue  # whoever came next held it on, and was ended as well
            started_ms = next((at for at, event in later if event == "started"), None)
            if started_ms is not None:  # else it was cancelled while it waited
                since_ms = max(at for at in (kill.at_ms, *troubles.hindrances()) if at < queued_ms)
                meanwhile = tuple(troubles.between(kill.at_ms, started_ms))
                yield Return(kill, uid, since_ms, queued_ms, started_ms, meanwhile)


def _story(found: Aftermath, one: Return) -> str:
    told = [f"{(at - one.kill.at_ms) / 1000:+.1f} {event}" for at, uid, event in found.events if uid == one.uid]
    return f"{one.uid} was late after the end of a {one.kill.victim}: {', '.join(told)}; {', '.join(one.meanwhile)}"
