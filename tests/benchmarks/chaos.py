"""Kill everything, again and again, while clients submit; then see that nothing was lost, doubled or miscounted.

Real processes on a real Valkey and a real S3 store: an API, two couriers, three workers. Clients of four accounts
submit 1,000 jobs in six wire formats, cancel some, and ask again where nobody answers. Every few seconds one process is
ended, most by SIGKILL; Valkey is restarted twice, the store is away for a while, the receiver of webhooks fails half
the time. With --model stub a worker's model is one that draws plain pictures; with --model demo it is the embedded one.
"""

import random
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import click
from redis import Redis
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from shared.keys import PREFIX, archives_key
from tests.chaos import checks, leftovers, returns
from tests.chaos.aftermath import Aftermath
from tests.chaos.processes import Deployment, deployed
from tests.chaos.receiver import Moody, moody_receiver
from tests.chaos.report import Report
from tests.chaos.traffic import Client, Told, open_accounts, send
from tests.chaos.troubles import Troubles
from tests.chaos.wishes import Scale, Wish, wishes
from tests.services import wait_until

#: Once nobody is killed any more, everything comes to its end within so long; webhooks wait for their schedule, and
#: messages that a killed worker had read for Celery's visibility timeout.
CALM_S = 400.0
#: Few jobs are asked for more slowly, so that there is something to disturb.
SHORTEST_S = 30.0
SCALES = {
    "stub": Scale(has_poison=True),
    "demo": Scale(sides=(64, 128), steps=(4, 8), every_s=0.5),
}


@dataclass(frozen=True, kw_only=True)
class Run:
    """What a run is to be."""

    seed: int
    jobs: int = 1000
    model: str = "stub"
    #: Seconds between two kills, about.
    every_s: float = 4.0
    storage_away_s: float = 15.0
    #: The receiver refuses what is told of one end of a job at most so often. More have longer pauses between them.
    refusals: int = 2
    #: Whether to see messages acknowledged that a killed process had read, which takes Celery's visibility timeout.
    sees_messages: bool = True


def patient(url: str) -> Redis:
    """Return a client that lives through restarts."""
    retry = Retry(ExponentialBackoff(cap=0.5, base=0.05), 40)
    errors = [RedisConnectionError, RedisTimeoutError]
    return Redis.from_url(url, decode_responses=True, socket_timeout=10, retry=retry, retry_on_error=errors)


def wait_for_calm(redis: Redis, deployment: Deployment, run: Run, report: Report) -> None:
    """Return once no job, webhook or message is under way, and note how long each took."""

    def still(key: str) -> bool:
        return not any(int(value) for value in redis.hgetall(key).values())

    conditions: dict[str, Callable[[], object]] = {
        "all jobs had ended": lambda: still(f"{PREFIX}count"),
        "all webhooks were delivered": lambda: not redis.zcard(f"{PREFIX}ob"),
        "all archives were written": lambda: not redis.zcard(archives_key()),
        "the service was ready": deployment.is_ready,
    }
    if run.sees_messages:
        conditions["all messages were read"] = lambda: not redis.exists("unacked")
    began = time.monotonic()
    for what, condition in conditions.items():
        wait_until(condition, timeout_s=CALM_S, what=f"that {what}")
        report.note(f"once calm, until {what}", f"{time.monotonic() - began:.0f} s")


def disturb(troubles: Troubles, clients: Mapping[str, Client], wanted: Sequence[Wish], run: Run) -> list[Told]:
    """Submit all while things go wrong, and return what the clients were told."""
    calm = threading.Event()
    pace_s = max(SCALES[run.model].every_s, SHORTEST_S / len(wanted))
    with ThreadPoolExecutor(1, thread_name_prefix="troubles") as pool:
        trouble = pool.submit(
            troubles.run,
            until=calm,
            every_s=run.every_s,
            over_s=len(wanted) * pace_s,
            storage_away_s=run.storage_away_s,
        )
        try:
            told = send(clients, wanted, every_s=pace_s)
        finally:
            calm.set()
        trouble.result()
    return told


def judge(run: Run, report: Report, found: Aftermath, deployment: Deployment, moody: Moody) -> None:
    """Report what a run came to."""
    checks.check_jobs(found, report)
    checks.check_failures(found, report)
    checks.check_webhooks(found, moody, report)
    checks.check_ledger(found, report)
    leftovers.check_queue(found, report)
    leftovers.check_files(found, deployment, report, plain=run.model == "stub")
    if run.sees_messages:
        leftovers.check_messages(found.redis, report)


def tell(troubles: Troubles, report: Report) -> None:
    """Note what went wrong in a run."""
    killed = ", ".join(f"{count} x {victim}" for victim, count in sorted(troubles.counts().items()))
    away_s = (troubles.storage_away[1] - troubles.storage_away[0]) / 1000
    report.note("processes ended", f"{len(troubles.kills)}: {killed}")
    report.note("Valkey restarted", f"{len(troubles.restarts)} times, once by SIGKILL")
    report.note("store away", f"{away_s:.0f} s; {troubles.spooled} results waited on workers' disks when it came back")


def erase_all(found: Aftermath) -> None:
    """Erase every job as its owner would."""
    for client in found.clients.values():
        for uid, job in found.jobs.items():
            if job.account == client.credentials.account:
                client.ask("DELETE", f"/v1/jobs/{uid}")


def survive(run: Run, *, show_logs: bool = False) -> Report:
    """Run it once, and return what it came to; the logs are printed where something is off."""
    report = Report()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="darkroom-chaos-")))
        moody, hook = stack.enter_context(moody_receiver(run.seed, refusals=run.refusals))
        deployment = stack.enter_context(deployed(folder, stub=run.model == "stub"))
        redis = stack.enter_context(patient(deployment.valkey.url))
        accounts = open_accounts(redis, hook)
        clients = {name: Client(deployment.url, opened, hook) for name, opened in accounts.items()}
        wanted = wishes(run.jobs, chance=random.Random(run.seed), scale=SCALES[run.model])
        troubles = Troubles(deployment, redis, random.Random(run.seed))
        try:
            began = time.monotonic()
            told = disturb(troubles, clients, wanted, run)
            report.note("until all jobs were accepted and all outages over", f"{time.monotonic() - began:.0f} s")
            wait_for_calm(redis, deployment, run, report)
            tell(troubles, report)
            found = Aftermath.read(redis, clients, told)
            judge(run, report, found, deployment, moody)
            returns.check_returns(found, troubles, report)
            erase_all(found)
            leftovers.check_erased(redis, deployment.bucket, report)
        except BaseException:
            click.echo(deployment.logs())
            raise
        if show_logs or not report.is_good:
            click.echo(deployment.logs(20_000))
    return report


@click.command(help=__doc__)
@click.option("--jobs", default=Run.jobs, show_default=True)
@click.option("--model", type=click.Choice(tuple(SCALES)), default=Run.model, show_default=True)
@click.option("--every", "every_s", default=Run.every_s, show_default=True, help="Seconds between two kills, about.")
@click.option("--storage-away", "storage_away_s", default=Run.storage_away_s, show_default=True, help="Seconds.")
@click.option("--seed", default=None, type=int, help="Of the jobs and the kills; random unless given.")
@click.option("--logs", "show_logs", is_flag=True, help="Print the processes' logs.")
def main(*, seed: int | None, show_logs: bool, **options) -> None:
    """Run it and print what came of it; exit 1 where a promise was broken."""
    run = Run(seed=random.SystemRandom().getrandbits(32) if seed is None else seed, **options)
    click.echo(f"{run.jobs} jobs on the {run.model} model, seed {run.seed}")
    began = time.monotonic()
    report = survive(run, show_logs=show_logs)
    report.show()
    click.echo(f"  {time.monotonic() - began:.0f} s in all")
    if not report.is_good:
        raise SystemExit(1)
    click.echo("  nothing was lost, doubled or miscounted")


if __name__ == "__main__":
    main()
