"""Kill everything, again and again, while clients submit; then see that nothing was lost, doubled or miscounted.

A whole stack runs as its own processes. A client submits with idempotency keys and asks again when it hears nothing,
as a client should; a receiver of webhooks fails now and then; and every few seconds one process, chosen at random, is
ended with SIGKILL. At the end every promise is checked, and it is printed how soon jobs were back.
"""

import json
import os
import random
import signal
import statistics
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import click
import psutil
import requests
from redis import Redis

from shared.accounts import Accounts, Credentials
from shared.keys import PREFIX, account_key, events_key, outbox_key
from tests import services, stack

#: What may die. The parent of the worker and its child are two.
VICTIMS = ("worker", "child", "web", "courier", "valkey")
#: Five deaths of one program in a minute make the stack give up; this keeps well below.
DEATHS_A_MINUTE = 3
#: Jobs of one seed must all show the same picture, whatever happened to them.
SEEDS = 5
CREDITS = 1_000_000
WAIT_S = 300.0
FIELDS = {"width": 128, "height": 128, "num_inference_steps": 12}


@dataclass
class Killer:
    """Ends processes of a stack at random moments, and remembers when."""

    darkroom: stack.Stack
    chance: random.Random
    kills: list[tuple[float, str]] = field(default_factory=list)

    def run(self, *, until: threading.Event, every_s: float) -> None:
        """Kill until told to stop."""
        while not until.wait(self.chance.uniform(0.3, 1.7) * every_s):
            now = time.time()
            deaths = Counter(_program(victim) for moment, victim in self.kills if now - moment < 60)
            willing = [victim for victim in VICTIMS if deaths[_program(victim)] < DEATHS_A_MINUTE]
            if willing and self._kill(victim := self.chance.choice(willing)):
                self.kills.append((now, victim))

    def _kill(self, victim: str) -> bool:
        """Return whether it was there to be killed."""
        pid = self.darkroom.describe()["processes"].get(_program(victim))
        try:
            if victim == "child":
                pid = next((child.pid for child in psutil.Process(pid).children()), None)
            if pid is not None:
                os.kill(pid, signal.SIGKILL)
        except (ProcessLookupError, psutil.NoSuchProcess):
            return False
        return pid is not None


@dataclass
class Client:
    """Submits as a careful client does: an idempotency key for each job, the same one when it asks again."""

    darkroom: stack.Stack
    key: str
    hook: str
    uids: dict[int, int] = field(default_factory=dict)

    def run(self, *, jobs: int, until: threading.Event) -> None:
        """Submit job after job, spread over the time until the end is called for."""
        for number in range(jobs):
            self.uids[number] = self.submit(number)
            until.wait(0.2)

    def submit(self, number: int) -> int:
        """Return the job's uid, however often that takes."""
        body = {
            "prompt": "a red circle",
            "seed": number % SEEDS,
            "track_id": number,
            "webhook_url": self.hook,
            **FIELDS,
        }
        answer = self.call("POST", "/v1/jobs", json=body, headers={"Idempotency-Key": f"chaos-{number}"})
        return int(answer["uid"])

    def call(self, method: str, path: str, *, headers: Mapping[str, str] | None = None, **options) -> dict:
        """Ask until there is an answer that is not about an outage."""
        credentials = {"Authorization": f"Bearer {self.key}", **(headers or {})}
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline:
            try:
                answer = requests.request(method, self.darkroom.url + path, headers=credentials, timeout=30, **options)
            except (requests.ConnectionError, requests.Timeout):
                time.sleep(0.1)
                continue
            if answer.status_code < 500:
                answer.raise_for_status()
                return answer.json()
            time.sleep(0.1)
        raise TimeoutError(f"no answer to {method} {path} within {WAIT_S:g} s")

    def ended(self, uid: int) -> dict:
        """Wait for a job's end."""
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline:
            job = self.call("GET", f"/v1/jobs/{uid}", params={"wait": 10})
            if job["status"] not in {"queued", "running"}:
                return job
        raise TimeoutError(f"job {uid} did not end within {WAIT_S:g} s: {job}")


@dataclass
class Findings:
    """What is wrong at the end, and how soon jobs were back."""

    wrong: list[str] = field(default_factory=list)

    def expect(self, truth: object, complaint: str) -> None:
        """Note a complaint unless the promise was kept."""
        if not truth:
            self.wrong.append(complaint)


def check_jobs(client: Client, findings: Findings) -> Counter[str]:
    """See that each job ended, under the one uid its key stands for, with the picture its seed draws."""
    outcomes: Counter[str] = Counter()
    pictures: dict[int, set[bytes]] = defaultdict(set)
    for number, uid in client.uids.items():
        job = client.ended(uid)
        outcomes[job["status"]] += 1
        findings.expect(client.submit(number) == uid, f"job {uid}: its idempotency key stands for another one now")
        findings.expect(job["track_id"] == number, f"job {uid}: track_id {job['track_id']} instead of {number}")
        if job["status"] == "succeeded":
            pictures[number % SEEDS].add(client.darkroom.session.get(job["outputs"][0]["url"], timeout=30).content)
        else:
            error = (job["error"] or {}).get("code")
            findings.expect(error == "worker_lost", f"job {uid}: {job['status']} with {error}")
    findings.expect(len(set(client.uids.values())) == len(client.uids), "two idempotency keys share a uid")
    for seed, seen in pictures.items():
        findings.expect(len(seen) == 1, f"seed {seed} drew {len(seen)} different pictures")
    return outcomes


def check_webhooks(client: Client, receiver: services.Receiver, redis: Redis, findings: Findings) -> int:
    """See that each job's end was told under one id, and return how often one was told again."""
    services.wait_until(lambda: not redis.zcard(outbox_key()), timeout_s=WAIT_S, what="the outbox empty")
    ids: dict[int, set[str]] = defaultdict(set)
    for request in receiver.requests:
        ids[json.loads(request.body)["uid"]].add(request.headers["webhook-id"])
    for uid in client.uids.values():
        findings.expect(len(ids[uid]) == 1, f"job {uid}: told under {len(ids[uid])} ids")
    return len(receiver.requests) - len(client.uids)


def check_books(redis: Redis, account: str, outcomes: Mapping[str, int], findings: Findings) -> None:
    """See that every credit and every counter is right now that nothing is under way."""
    books = redis.hgetall(account_key(account))
    balance, settled = int(books["balance"]), int(books.get("settled", 0))
    granted = balance + int(books.get("reserved", 0)) + settled
    findings.expect(int(books.get("reserved", 0)) == 0, f"{books.get('reserved')} millicredits are still reserved")
    findings.expect(granted == CREDITS * 1000, f"balance and settled make {granted} of {CREDITS * 1000} millicredits")
    findings.expect((settled > 0) == (outcomes["succeeded"] > 0), f"settled {settled} for {outcomes}")
    for counter in ("waiting", "running"):
        findings.expect(int(books.get(counter, 0)) == 0, f"{books.get(counter)} jobs count as {counter}")
    findings.expect(not redis.zcard(f"{PREFIX}lease"), "leases are left")


def returns(redis: Redis, kills: list[tuple[float, str]]) -> list[float]:
    """Return how many seconds after the kill each job that lost its worker was begun again."""
    begun: dict[str, float] = {}
    waits = []
    for entry, event in redis.xrange(events_key()):
        moment, uid = int(entry.partition("-")[0]) / 1000, event["uid"]
        if event["event"] != "started":
            continue
        lost = [time_ for time_, _ in kills if begun.get(uid, moment) < time_ < moment]
        if lost:
            waits.append(moment - lost[0])
        begun[uid] = moment
    return waits


def _program(victim: str) -> str:
    return "worker" if victim == "child" else victim


def _account(darkroom: stack.Stack) -> Credentials:
    with Redis.from_url(darkroom.describe()["redis_url"], decode_responses=True) as redis:
        return Accounts(redis).create_key(name="chaos", plan="paid", credits_=CREDITS)


@click.command()
@click.option("--jobs", default=150, show_default=True)
@click.option("--every", "every_s", default=5.0, show_default=True, help="Seconds between two kills, on average.")
@click.option("--seed", default=None, type=int, help="Of the kills; random unless given.")
def main(jobs: int, every_s: float, seed: int | None) -> None:
    """Run it and print what came of it; exit 1 where a promise was broken."""
    seed = random.SystemRandom().getrandbits(32) if seed is None else seed
    findings, calm = Findings(), threading.Event()
    with tempfile.TemporaryDirectory() as folder, services.receiver() as receiver, ExitStack() as exits:
        darkroom = exits.enter_context(stack.running(Path(folder) / "data"))
        receiver.replies = [services.Reply(status=500 if number % 10 == 3 else 200) for number in range(jobs)]
        account = _account(darkroom)
        client = Client(darkroom, account.key, f"{receiver.url}/hook")
        killer = Killer(darkroom, random.Random(seed))
        thread = threading.Thread(target=killer.run, kwargs={"until": calm, "every_s": every_s})
        thread.start()
        exits.callback(calm.set)
        started = time.monotonic()
        client.run(jobs=jobs, until=calm)
        last = max(client.uids.values())
        client.ended(last)
        calm.set()
        thread.join()
        outcomes = check_jobs(client, findings)
        took = time.monotonic() - started
        with Redis.from_url(darkroom.describe()["redis_url"], decode_responses=True) as redis:
            again = check_webhooks(client, receiver, redis, findings)
            check_books(redis, account.account, outcomes, findings)
            back = returns(redis, killer.kills)
    killed = Counter(victim for _, victim in killer.kills)
    click.echo(f"{jobs} jobs in {took:.0f} s, seed {seed}")
    click.echo(f"  killed          {', '.join(f'{count} x {name}' for name, count in sorted(killed.items()))}")
    click.echo(f"  outcomes        {dict(outcomes)}")
    click.echo(f"  webhooks        each job's end under one id; {again} told again")
    if back:
        median, longest = statistics.median(back), max(back)
        click.echo(
            f"  begun again     {len(back)} jobs, {median:.1f} s after the kill (median), {longest:.1f} s at most"
        )
    for complaint in findings.wrong:
        click.secho(f"  broken          {complaint}", fg="red")
    if findings.wrong:
        raise SystemExit(1)
    click.echo("  nothing was lost, doubled or miscounted")


if __name__ == "__main__":
    main()
