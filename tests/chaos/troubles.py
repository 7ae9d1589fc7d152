"""What goes wrong in a run: processes ended at random moments, Valkey restarted twice, storage away for a while."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from redis import Redis

from shared.keys import held_key
from tests.chaos.processes import Deployment, Kept

#: What a process is ended by where it is not SIGKILL: a deployment does so.
GENTLY = " asked to end"
#: (what is ended, how many in fifteen). A machine that is gone takes its worker with it, and the lease has to run out.
VICTIMS = (
    ("worker's child", 4),
    ("worker", 2),
    ("worker's machine", 2),
    ("API", 1),
    ("API's child", 1),
    ("courier", 2),
    (f"worker{GENTLY}", 1),
    (f"API{GENTLY}", 1),
    (f"courier{GENTLY}", 1),
)
#: So long a machine is gone; longer than a lease.
MACHINE_AWAY_S = 20.0
#: A worker that holds nothing is not worth killing; so long a busy one is waited for.
BUSY_S = 2.0
VALKEY_AWAY_S = 1.0


@dataclass(frozen=True, kw_only=True)
class Kill:
    """The end of a process: when, by Redis' clock, and what the victim held."""

    at_ms: int
    victim: str
    #: uids
    held: list[str]


@dataclass
class Troubles:
    """Makes them, in one thread, one after another."""

    deployment: Deployment
    redis: Redis
    chance: random.Random
    kills: list[Kill] = field(default_factory=list)
    #: When Valkey was restarted, by its clock.
    restarts: list[int] = field(default_factory=list)
    #: From when to when storage was away.
    storage_away: tuple[int, int] = (0, 0)
    #: Results that waited on workers' disks when it came back.
    spooled: int = 0

    def run(self, *, until: threading.Event, every_s: float, over_s: float, storage_away_s: float) -> None:
        """Kill until told to stop; the outages come at fixed parts of `over_s`, what the traffic takes."""
        began = time.monotonic()
        outages: list[tuple[float, Callable[[], None]]] = [
            (0.25, lambda: self._restart_valkey(gently=False)),
            (0.4, lambda: self._take_storage(storage_away_s, every_s)),
            (0.7, lambda: self._restart_valkey(gently=True)),
        ]
        while outages or not until.is_set():
            if outages and (until.is_set() or time.monotonic() - began > outages[0][0] * over_s):
                outages.pop(0)[1]()
            self.kill_one()
            until.wait(self.chance.uniform(0.4, 1.6) * every_s)

    def kill_one(self) -> None:
        """End one process, chosen at random."""
        names, weights = zip(*VICTIMS, strict=True)
        victim = self.chance.choices(names, weights)[0]
        # Lost work is promised back where there is somebody to do it.
        if victim == "worker's machine" and any(worker.is_away for worker in self.deployment.workers.values()):
            victim = "worker"
        kept, held = self._chosen(victim)
        at_ms = self._now_ms()
        away_s = MACHINE_AWAY_S if victim == "worker's machine" else 0.0
        if kept.end(gently=victim.endswith(GENTLY), child=victim.endswith("child"), away_s=away_s):
            self.kills.append(Kill(at_ms=at_ms, victim=victim, held=held))

    def _chosen(self, victim: str) -> tuple[Kept, list[str]]:
        """Return a process of that kind, and the jobs it holds."""
        if victim.startswith("API"):
            return self.deployment.web, []
        if victim.startswith("courier"):
            node = self.chance.choice(list(self.deployment.couriers))
            return self.deployment.couriers[node], self._held(node)
        node, held = self._busy_node()
        return self.deployment.workers[node], held

    def _busy_node(self) -> tuple[str, list[str]]:
        """Return a worker and the jobs it holds; one that holds none only where none does for a while."""
        nodes = [node for node, worker in self.deployment.workers.items() if not worker.is_away]
        deadline = time.monotonic() + BUSY_S
        while True:
            node = self.chance.choice(nodes)
            held = self._held(node)
            if held or time.monotonic() > deadline:
                return node, held
            time.sleep(0.01)

    def _held(self, node: str) -> list[str]:
        return sorted(self.redis.smembers(held_key(node)))

    def _restart_valkey(self, *, gently: bool) -> None:
        valkey = self.deployment.valkey
        valkey.stop() if gently else valkey.kill()
        time.sleep(VALKEY_AWAY_S)
        valkey.start()
        self.restarts.append(self._now_ms())

    def _take_storage(self, seconds: float, every_s: float) -> None:
        """Take storage away; processes go on being killed meanwhile."""
        began_ms = self._now_ms()
        self.deployment.s3.service.stop()
        while self._now_ms() - began_ms < 1000 * seconds:
            time.sleep(min(every_s, seconds / 2))
            self.kill_one()
        self.spooled = len(self.deployment.spooled)
        self.deployment.s3.service.start()
        self.storage_away = (began_ms, self._now_ms())

    def _now_ms(self) -> int:
        seconds, microseconds = self.redis.time()
        return seconds * 1000 + microseconds // 1000

    def between(self, after_ms: int, before_ms: int) -> Iterator[str]:
        """Yield what was killed or away between two moments."""
        for kill in self.kills:
            if after_ms < kill.at_ms < before_ms:
                yield f"{kill.victim} {(kill.at_ms - after_ms) / 1000:+.1f}"
        for at_ms in self.restarts:
            if after_ms < at_ms < before_ms:
                yield f"Valkey {(at_ms - after_ms) / 1000:+.1f}"
        if self.storage_away[0] < before_ms and self.storage_away[1] > after_ms:
            yield "storage was away"

    def hindrances(self) -> list[int]:
        """When something went wrong that keeps lost jobs of other workers from coming back."""
        return [*self.restarts, *(kill.at_ms for kill in self.kills if kill.victim.startswith("courier"))]

    def counts(self) -> Counter[str]:
        """How often each victim was ended."""
        return Counter(kill.victim for kill in self.kills)
