"""Submitting and claiming with a million jobs waiting, beside the same with next to none.

Two servers: one is filled level by level, the other is kept nearly empty. Every sample is taken on both in turn, so
that a busy machine weighs on both alike; what counts is the ratio of the medians. Samples leave the queue as it was.
"""

import logging
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import click
import structlog
from redis import Redis

from shared.accounts import Accounts
from shared.backlog import Backlog
from shared.celery_app import SilentBell
from shared.job import Submission
from shared.spec import JobSpec
from tests.apibench import ApiBench
from tests.services import valkey

ACCOUNTS = 1000
#: So many wait where next to none do: a claim takes up to eight.
FEW = 64
LIMIT = 2_000_000
NODE = "worker@bench"
BATCH = 8
#: How many were there when memory is measured depends on how fast the queue was filled.
NONCES = "{dr}:n:*"
#: The aims.
MOST_RATIO = 1.3
MOST_BYTES = 1536


@dataclass
class Side:
    """One server with its backlog, and the API on it."""

    redis: Redis
    api: ApiBench
    waiting: int = 0
    samples: dict[str, list[float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.backlog = Backlog(self.redis, SilentBell(), limit=LIMIT)
        accounts = Accounts(self.redis)
        self.accounts = [accounts.create_key(f"account-{number}").account for number in range(ACCOUNTS)]
        self.backlog.hello(NODE, "1", pool="default", models=["demo"])

    def fill(self, level: int) -> None:
        """Submit until so many wait."""
        while self.waiting < level:
            self.submit()
            self.waiting += 1

    def submit(self) -> tuple[int, str]:
        """Submit a job as large as usual ones; return its uid and account."""
        account = self.accounts[self.waiting % ACCOUNTS]
        prompt = f"a large red circle on a blue background, studio light, number {self.waiting}"
        spec = JobSpec(prompt=prompt, model="demo", seed=self.waiting)
        submission = Submission(spec=spec, track_id=self.waiting, priority="normal")  # the API has settled it by then
        return self.backlog.submit(submission, account=account, pool="default").uid, account

    def sample(self) -> None:
        """Time one submit, one request and one claim."""
        uid, account = self._timed("submit", self.submit)
        self._forget(uid, account)
        uid = self._timed("POST /v1/jobs", lambda: self.api.submit(num_inference_steps=20))
        self._forget(uid, self.api.credentials.account)
        claim = self._timed(f"claim of {BATCH}", lambda: self.backlog.claim(NODE, max_jobs=BATCH, max_images=BATCH))
        assert len(claim.leases) == BATCH
        self.backlog.handback(NODE, claim.leases)

    def bytes_used(self) -> int:
        """Return the memory of all that the server keeps for longer than submits may be repeated."""
        cursor, begun = 0, False
        while cursor or not begun:
            cursor, nonces = self.redis.scan(cursor, match=NONCES, count=10_000)
            begun = True
            if nonces:
                self.redis.delete(*nonces)
        return int(self.redis.info("memory")["used_memory"])

    def bytes_of_nonce(self) -> int:
        """Return the memory that lets one submit be repeated, for two minutes."""
        uid, account = self.submit()
        self._forget(uid, account)
        return int(self.redis.memory_usage(next(self.redis.scan_iter(NONCES, count=10_000))) or 0)

    def _forget(self, uid: int, account: str) -> None:
        self.backlog.cancel(uid, account=account)
        self.backlog.erase(uid, account=account)

    def _timed(self, name, call):
        started = time.perf_counter()
        result = call()
        self.samples.setdefault(name, []).append(time.perf_counter() - started)
        return result


def compare(few: Side, many: Side, *, samples: int) -> dict[str, tuple[float, float, float]]:
    """Return what is timed -> medians in microseconds, with few and with many, and their ratio."""
    few.samples.clear()
    many.samples.clear()
    for _ in range(samples):
        few.sample()
        many.sample()
    found = {}
    for name in many.samples:
        small, large = (statistics.median(side.samples[name]) * 1e6 for side in (few, many))
        found[name] = (small, large, large / small)
    return found


@click.command()
@click.option("--level", "levels", type=int, multiple=True, default=(0, 100_000, 1_000_000), show_default=True)
@click.option("--samples", default=400, show_default=True, help="At each level, on each server.")
def main(levels: tuple[int, ...], samples: int) -> None:
    """Measure and print; exit status 1 where an aim is missed."""
    missed = False
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    with ExitStack() as stack:
        few, many = (open_side(stack) for _ in range(2))
        few.fill(FEW)
        many.fill(FEW)
        nonce = many.bytes_of_nonce()
        began = many.bytes_used()
        for level in sorted(levels):
            many.fill(level)
            found = compare(few, many, samples=samples)
            size = (many.bytes_used() - began) / (many.waiting - FEW) if many.waiting > FEW else 0.0
            told = f", {size:.0f} bytes a job (and {nonce} more for its first two minutes)" if size else ""
            click.echo(f"{many.waiting:,} waiting{told}")
            for name, (small, large, ratio) in found.items():
                click.echo(f"  {name:<14}{large:8.0f} µs   beside {small:6.0f} µs with {FEW} waiting: {ratio:.2f}")
            missed |= size + nonce > MOST_BYTES or any(ratio > MOST_RATIO for _, _, ratio in found.values())
    click.echo(f"aims: at most {MOST_RATIO} times the time, {MOST_BYTES} bytes a job: {'missed' if missed else 'held'}")
    sys.exit(missed)


def open_side(stack: ExitStack) -> Side:
    """Return a side with a server of its own, which ends with the stack."""
    server = stack.enter_context(valkey())
    redis = server.client()
    stack.callback(redis.close)
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    api = ApiBench(redis, folder, backlog_limit=LIMIT)
    stack.callback(api.parts.hub.close)
    return Side(redis, api)


if __name__ == "__main__":
    main()
