"""One account holds 10,000 waiting jobs; another asks for one. In which batch is it begun?

And how often is a model loaded where accounts want two of them, for fairness must not cost more than it has to?

The backlog's scripts on a real Valkey; one worker claims batch after batch, as a worker does that draws in no time.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import click
from redis import Redis

from shared.accounts import Accounts
from shared.backlog import Backlog
from shared.celery_app import SilentBell
from shared.job import Result, Status, Submission
from shared.keys import account_key
from shared.spec import JobSpec
from tests import services

POOL, NODE, LOADED, OTHER = "default", "worker@fair", "demo", "other"
CROWD = 10_000
#: What a batch holds.
JOBS, IMAGES = 8, 16
#: Batches that are begun between two newcomers: none, a few, and what no multiple of anything hides.
PAUSES = (0, 3, 17)
#: Accounts that want two models, and jobs that each has waiting where they have many.
EQUALS, MANY = 4, 80
#: Batches over which loads of a model are counted where accounts go on asking.
BATCHES = 60
#: Submissions sent in one go.
AT_ONCE = 1000


@dataclass(frozen=True, kw_only=True)
class Newcomer:
    """What the other account asks for, beside a crowd of 64 pixels and 20 steps; and the batch that it must be in."""

    name: str
    within: int
    fields: dict[str, Any] = field(default_factory=dict)


NEWCOMERS = (
    Newcomer(name="a job like the crowd's", within=2),
    Newcomer(name="a job of another size", within=2, fields={"width": 128}),
    Newcomer(name="a job of 100 steps and 4 images", within=2, fields={"num_inference_steps": 100, "num_images": 4}),
    Newcomer(name="a job for a model that is not loaded", within=2, fields={"model": OTHER}),
)


class Repeating:
    """A client that has what is submitted once submitted many times, in bulk."""

    def __init__(self, redis: Redis, times: int) -> None:
        self._redis, self._times = redis, times
        self.script_load = redis.script_load

    def evalsha(self, sha: str, keys: int, nonce: str, *args: Any) -> list[Any]:
        """Send it so often, each time as another submission; return the last answer."""
        answers: list[Any] = []
        for first in range(0, self._times, AT_ONCE):
            with self._redis.pipeline(transaction=False) as pipe:
                for number in range(first, min(first + AT_ONCE, self._times)):
                    pipe.evalsha(sha, keys, f"{nonce}{number}", *args)
                answers = pipe.execute()
        return list(answers[-1])


class Scene:
    """A crowd, newcomers and a worker."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._backlog = Backlog(redis, SilentBell())
        self._accounts = Accounts(redis)
        self._backlog.hello(NODE, "1", pool=POOL, models=(LOADED, OTHER))
        self._loaded = LOADED
        self.loads = 0

    def crowd(self, count: int = CROWD) -> None:
        """Let one account submit so many jobs."""
        self._submit_many("crowd", count, model=LOADED)

    def batches_until(self, newcomer: Newcomer) -> Iterator[int]:
        """Yield in which batch each of several newcomers' jobs is begun, counted from when it is asked for."""
        for number, pause in enumerate(PAUSES):
            for _ in range(pause):
                self._batch()
            uid = self._submit(f"{newcomer.name} {number}", **newcomer.fields)
            yield next(count for count in range(1, CROWD) if uid in self._batch())

    def with_many_each(self) -> float:
        """Return the batches to a load, where equal accounts have many jobs, half of them for either model."""
        for number in range(EQUALS):
            self._submit_many(f"many {number}", MANY, model=(LOADED, OTHER)[number % 2])
        return self._batches_to_a_load(list(iter(self._batch, set())))

    def with_one_each(self) -> float:
        """Return the batches to a load, where equal accounts have a job each, and the next once that is begun."""
        chance, begun = random.Random(1), set(range(EQUALS))
        uids: dict[int, int] = {}
        batches = []
        for _ in range(BATCHES):
            # No two jobs share a call.
            fields = {"width": 64, "height": 64, "guidance_scale": 1 + len(batches) / 8}
            uids |= {self._submit(f"one {n}", model=chance.choice((LOADED, OTHER)), **fields): n for n in begun}
            batches.append(self._batch())
            begun = {uids.pop(uid) for uid in batches[-1]}
        return self._batches_to_a_load(batches)

    def beside_the_crowd(self) -> float:
        """Return the batches to a load, where one account beside the crowd has always one job for the other model."""
        uid, batches = None, []
        for _ in range(BATCHES):
            uid = uid or self._submit("small", model=OTHER)
            batches.append(self._batch())
            uid = None if uid in batches[-1] else uid
        return self._batches_to_a_load(batches)

    def _batches_to_a_load(self, batches: list[set[int]]) -> float:
        found, self.loads = len(batches) / max(1, self.loads), 0
        return found

    def _submit_many(self, name: str, count: int, *, model: str) -> None:
        account = self._accounts.create_key(name).account
        backlog = Backlog(Repeating(self._redis, count), SilentBell())
        backlog.submit(_job(model=model), account=account, pool=POOL)
        waiting = int(self._redis.hget(account_key(account), "waiting"))
        if waiting != count:
            raise RuntimeError(f"{waiting} jobs of {name!r} wait, not {count}")

    def _submit(self, name: str, **fields: Any) -> int:
        account = self._accounts.create_key(name).account
        return self._backlog.submit(_job(**fields), account=account, pool=POOL).uid

    def _batch(self) -> set[int]:
        """Draw a batch; return its jobs, none where none waits."""
        leases = self._backlog.claim(NODE, max_jobs=JOBS, max_images=IMAGES, loaded_model=self._loaded).leases
        for lease in leases:
            self._backlog.finish(NODE, lease, Status.SUCCEEDED, Result())
        models = {lease.submission.spec.model for lease in leases} or {self._loaded}
        self.loads += models != {self._loaded}
        (self._loaded,) = models
        return {lease.uid for lease in leases}


def _job(**fields: Any) -> Submission:
    given = {"model": LOADED, "width": 64, "height": 64, "num_inference_steps": 20, **fields}
    return Submission(spec=JobSpec(prompt="a circle", seed=1, **given))


@click.command(help=__doc__)
def main() -> None:
    """Print in which batch each newcomer is begun; exit 1 where one comes too late."""
    late = False
    with services.valkey() as server, server.client() as redis:
        scene = Scene(redis)
        scene.crowd()
        click.echo(f"beside an account with {CROWD:,} waiting jobs, batches of {JOBS}")
        for newcomer in NEWCOMERS:
            worst = max(scene.batches_until(newcomer))
            late |= worst > newcomer.within
            click.echo(f"  {newcomer.name:<38} begun in batch {worst}, at most {newcomer.within}")
        click.echo("batches that are drawn with a model before another is loaded")
        click.echo(f"  {'the crowd, and jobs for another, singly':<38} {scene.beside_the_crowd():.1f}")
        for name, loads in (("many", Scene.with_many_each), ("one job", Scene.with_one_each)):
            redis.flushall()
            click.echo(f"  {f'two models, {EQUALS} accounts with {name} each':<38} {loads(Scene(redis)):.1f}")
    if late:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
