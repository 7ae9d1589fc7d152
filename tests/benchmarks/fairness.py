"""One account holds 10,000 waiting jobs; another asks for one. In which batch is it begun?

The backlog's scripts on a real Valkey; one worker claims batch after batch, as a worker does that draws in no time.
"""

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

POOL, NODE, LOADED = "default", "worker@fair", "demo"
CROWD = 10_000
#: What a batch holds.
JOBS, IMAGES = 8, 16
#: Batches that are begun between two newcomers: none, a few, and what no multiple of anything hides.
PAUSES = (0, 3, 17)
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
    # A worker stays with the model that it has loaded for at most four batches.
    Newcomer(name="a job for a model that is not loaded", within=5, fields={"model": "other"}),
)


class Repeating:
    """A client that has what is submitted once submitted many times, in bulk."""

    def __init__(self, redis: Redis, times: int) -> None:
        self._redis, self._times = redis, times
        self.script_load = redis.script_load

    def evalsha(self, sha: str, keys: int, _nonce: str, *args: Any) -> list[Any]:
        """Send it so often, each time as another submission; return the last answer."""
        answers: list[Any] = []
        for first in range(0, self._times, AT_ONCE):
            with self._redis.pipeline(transaction=False) as pipe:
                for number in range(first, min(first + AT_ONCE, self._times)):
                    pipe.evalsha(sha, keys, f"crowd{number}", *args)
                answers = pipe.execute()
        return list(answers[-1])


class Scene:
    """A crowd, newcomers and a worker."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._backlog = Backlog(redis, SilentBell())
        self._accounts = Accounts(redis)
        self._backlog.hello(NODE, "1", pool=POOL, models=(LOADED, "other"))

    def crowd(self, count: int = CROWD) -> None:
        """Let one account submit so many jobs."""
        account = self._accounts.create_key("crowd").account
        Backlog(Repeating(self._redis, count), SilentBell()).submit(_job(), account=account, pool=POOL)
        waiting = int(self._redis.hget(account_key(account), "waiting"))
        if waiting != count:
            raise RuntimeError(f"{waiting} jobs wait, not {count}")

    def batches_until(self, newcomer: Newcomer) -> Iterator[int]:
        """Yield in which batch each of several newcomers' jobs is begun, counted from when it is asked for."""
        for number, pause in enumerate(PAUSES):
            for _ in range(pause):
                self._batch()
            account = self._accounts.create_key(f"{newcomer.name} {number}").account
            uid = self._backlog.submit(_job(**newcomer.fields), account=account, pool=POOL).uid
            yield next(count for count in range(1, CROWD) if uid in self._batch())

    def _batch(self) -> set[int]:
        leases = self._backlog.claim(NODE, max_jobs=JOBS, max_images=IMAGES, loaded_model=LOADED).leases
        for lease in leases:
            self._backlog.finish(NODE, lease, Status.SUCCEEDED, Result())
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
    if late:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
