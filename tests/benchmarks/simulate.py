"""Workers that crash at random drain bursts of jobs: how long that takes beside the ideal, and who idles meanwhile.

The backlog's scripts run on a real Valkey; workers are threads that sleep instead of drawing. A worker may die at every
step: most say hello again after a moment, some stay away until their lease has run out, as a machine that is gone does.
Some wake-ups are lost. Nothing brings work back but what does so in earnest: hello, the sweep and the bell.
"""

import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import click
import structlog
from redis import Redis

from shared.accounts import Accounts
from shared.backlog import Backlog, Lease
from shared.job import Artifact, Result, Status, Submission
from shared.keys import PREFIX
from shared.spec import JobSpec
from tests import services

POOL, MODEL = "default", "demo"
SWEEP_S = 0.7
SAMPLE_S = 0.02
RENEW_S = 2.0
#: A process that is started again is there after so long; a machine that is gone, after so long.
RESTART_S, GONE_S = 1.0, 15.0
#: A backlog that is not empty after so long never will be.
LONGEST_S = 600.0
ARTIFACT = Artifact(key="results/x/1/0.png", seed=1, width=64, height=64, content_type="image/png", bytes=9)


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What is simulated: so many jobs of so many steps, and how likely a worker dies at each.

    They come in bursts, so that workers fall idle in between and have to be woken.
    """

    jobs: int
    burst: int
    every_s: float
    workers: int
    steps: int
    step_s: float
    crash: float
    #: How many of those that die stay away for long.
    gone: float = 0.1

    @property
    def work_s(self) -> float:
        """Worker-seconds that drawing takes."""
        return self.jobs * self.steps * self.step_s

    @property
    def ideal_s(self) -> float:
        """Seconds until all is drawn where no worker dies and nothing costs anything but drawing."""
        over_s = 0.0
        for number, first in enumerate(range(0, self.jobs, self.burst)):
            size = min(self.burst, self.jobs - first)
            over_s = max(over_s, number * self.every_s) + size * self.steps * self.step_s / self.workers
        return over_s


class LossyBell:
    """Rings workers by name, and loses some of it."""

    def __init__(self, chance: random.Random, loss: float) -> None:
        self.rung: dict[str, threading.Event] = {}
        self.count = self.lost = 0
        self._chance, self._loss = chance, loss

    def wake(self, nodes: Sequence[str]) -> None:
        """Ring for these workers."""
        for node in nodes:
            self.count += 1
            if self._chance.random() < self._loss:
                self.lost += 1
            elif node in self.rung:
                self.rung[node].set()

    def deliver(self, entries: Sequence[str]) -> None:
        """Nobody asked for a webhook."""


@dataclass(kw_only=True)
class Worker:
    """One simulated worker, and what became of its time."""

    node: str
    setup: Setup
    backlog: Backlog
    bell: LossyBell
    chance: random.Random
    over: threading.Event
    is_idle: bool = False
    drawn_s: float = 0.0
    lost_s: float = 0.0
    away_s: float = 0.0
    crashes: int = 0

    def run(self) -> None:
        """Live, die and live again until all is over."""
        rung = self.bell.rung.setdefault(self.node, threading.Event())
        incarnation = 0
        while not self.over.is_set():
            incarnation += 1
            self.backlog.hello(self.node, str(incarnation), pool=POOL, models=(MODEL,))
            rung.set()  # a worker that is ready looks for work itself
            self._live(rung)
            self._stay_away()

    def _live(self, rung: threading.Event) -> None:
        while not self.over.is_set():
            self.is_idle = not rung.is_set()
            heard = rung.wait(RENEW_S)
            self.is_idle = False
            if not heard:
                self.backlog.renew(self.node, {})  # as a heartbeat would
                continue
            rung.clear()
            while leases := self.backlog.claim(self.node, max_jobs=1, max_images=8, loaded_model=MODEL).leases:
                if not self._draw(leases):
                    return

    def _draw(self, leases: Sequence[Lease]) -> bool:
        """Draw a batch; False where the worker died over it."""
        began = renewed = time.monotonic()
        for step in range(self.setup.steps):
            time.sleep(self.setup.step_s)
            if self.chance.random() < self.setup.crash:
                self.lost_s += time.monotonic() - began
                self.crashes += 1
                return False
            if time.monotonic() - renewed > RENEW_S:
                self.backlog.renew(self.node, dict.fromkeys(leases, (step, self.setup.steps)))
                renewed = time.monotonic()
        for lease in leases:
            self.backlog.finish(self.node, lease, Status.SUCCEEDED, Result(artifacts=(ARTIFACT,)))
        self.drawn_s += time.monotonic() - began
        return True

    def _stay_away(self) -> None:
        began = time.monotonic()
        self.over.wait(GONE_S if self.chance.random() < self.setup.gone else RESTART_S)
        self.away_s += time.monotonic() - began


def submit_all(redis: Redis, backlog: Backlog, setup: Setup) -> None:
    """Submit bursts from four accounts, each job with a prompt of its own."""
    accounts = [Accounts(redis).create_key(f"account {number}").account for number in range(4)]
    began = time.monotonic()
    for number in range(setup.jobs):
        time.sleep(max(0.0, began + number // setup.burst * setup.every_s - time.monotonic()))
        spec = JobSpec(prompt=f"number {number}", model=MODEL, width=64, height=64, seed=number)
        backlog.submit(Submission(spec=spec), account=accounts[number % 4], pool=POOL)


@contextmanager
def working(workers: Sequence[Worker], bell: LossyBell, over: threading.Event) -> Iterator[None]:
    """Let the workers live while the block runs."""
    with ThreadPoolExecutor(len(workers)) as pool:
        futures = [pool.submit(worker.run) for worker in workers]
        try:
            yield
        finally:
            over.set()
            for event in bell.rung.values():
                event.set()
        for future in futures:
            future.result()


def drain(redis: Redis, backlog: Backlog, workers: Sequence[Worker], submitted: Future[None]) -> tuple[float, float]:
    """Sweep and look until all are submitted and none is left.

    Returns the seconds it took, and those of workers that were idle while work waited.
    """
    began = last = time.monotonic()
    swept = 0.0
    idle_s = 0.0
    while (now := time.monotonic()) - began < LONGEST_S:
        are_all_there = submitted.done()
        waiting, running = (int(value or 0) for value in redis.hmget(f"{PREFIX}count", "waiting", "running"))
        if are_all_there and waiting + running == 0:
            return now - began, idle_s
        idle_s += (now - last) * min(waiting, sum(worker.is_idle for worker in workers))
        last = now
        if now - swept > SWEEP_S:
            backlog.sweep()
            swept = now
        time.sleep(SAMPLE_S)
    raise TimeoutError(f"the backlog was not empty after {LONGEST_S:g} s")


def simulate(setup: Setup, *, loss: float, seed: int) -> int:
    """Run it and print the figures; return how many jobs have no outcome."""
    chance, over = random.Random(seed), threading.Event()
    bell = LossyBell(random.Random(seed), loss)
    with services.valkey() as server, server.client() as redis:
        backlog = Backlog(redis, bell)
        workers = [
            Worker(
                node=f"worker{number}@simulated",
                setup=setup,
                backlog=Backlog(redis, bell),
                bell=bell,
                chance=random.Random(chance.random()),
                over=over,
            )
            for number in range(setup.workers)
        ]
        with working(workers, bell, over), ThreadPoolExecutor(1) as client:
            submitted = client.submit(submit_all, redis, backlog, setup)
            took_s, idle_s = drain(redis, backlog, workers, submitted)
            submitted.result()
        ended = Counter(redis.hget(key, "status") for key in redis.scan_iter(f"{PREFIX}j:*", count=1000))
    click.echo(f"{setup.jobs} jobs, {setup.workers} workers, {bell.lost} of {bell.count} wake-ups lost, seed {seed}")
    show(setup, workers, took_s, idle_s)
    click.echo(f"  outcomes                 {dict(ended)}")
    return setup.jobs - ended["succeeded"] - ended["failed"]


def show(setup: Setup, workers: Sequence[Worker], took_s: float, idle_s: float) -> None:
    """Print where the time went."""
    count = setup.workers
    spent = [(worker.drawn_s, worker.lost_s, worker.away_s) for worker in workers]
    drawn, lost, away = map(sum, zip(*spent, strict=True))
    crashes = sum(worker.crashes for worker in workers)
    click.echo(
        f"  drained in               {took_s:6.1f} s, {setup.ideal_s:.1f} s where nothing cost anything but drawing"
    )
    click.echo(f"  worker-seconds in all    {took_s * count:6.0f}")
    click.echo(f"    drawing                {drawn:6.1f}, of which {setup.work_s:.1f} s is drawing itself")
    click.echo(f"    lost in {crashes:4} crashes    {lost:6.1f}")
    click.echo(f"    away after crashes     {away:6.1f}")
    click.echo(f"    idle, work waited      {idle_s:6.1f}")
    click.echo(f"    idle, none waited      {took_s * count - drawn - lost - away - idle_s:6.1f}")


@click.command(help=__doc__)
@click.option("--jobs", default=800, show_default=True)
@click.option("--burst", default=100, show_default=True, help="Jobs that come at once.")
@click.option("--every", "every_s", default=2.0, show_default=True, help="Seconds between two bursts.")
@click.option("--workers", default=8, show_default=True)
@click.option("--steps", default=10, show_default=True, help="Of each job.")
@click.option("--step-ms", default=10.0, show_default=True)
@click.option("--crash", default=0.005, show_default=True, help="How likely a worker dies at a step.")
@click.option("--loss", default=0.05, show_default=True, help="How likely a wake-up is lost.")
@click.option("--seed", default=None, type=int)
def main(*, step_ms: float, loss: float, seed: int | None, **options) -> None:
    """Run it; exit 1 where a job is lost."""
    # That leases are lost is what this is about.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    seed = random.SystemRandom().getrandbits(32) if seed is None else seed
    lost = simulate(Setup(step_s=step_ms / 1000, **options), loss=loss, seed=seed)
    if lost:
        raise SystemExit(f"{lost} jobs have no outcome")


if __name__ == "__main__":
    main()
