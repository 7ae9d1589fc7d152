"""What Flower's buttons do to our processes: Revoke cancels the job, and those that would do harm are refused.

All of them are Celery's control commands, which every worker and courier hears.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import structlog
from celery.worker.control import Panel
from redis.exceptions import RedisError

from shared.errors import BacklogUnavailable, JobNotFound
from shared.keys import job_key

if TYPE_CHECKING:
    from redis import Redis

    from shared.backlog import Backlog

_ONE_CHILD: Final = "a worker draws in one process: start another worker; COURIER_THREADS is the size of a courier"
_OWN_QUEUES: Final = "a worker reads its own queue and no other; `darkroom queue pause` and `drain` hold work back"
_NO_LIMIT: Final = "wake-ups carry no job, so limits on them would only lose time; plans limit jobs"
#: Control commands that a worker must not obey -> why.
REFUSED: Final = {
    # A second child would say hello under the name of the first, which would lose its jobs.
    "pool_grow": _ONE_CHILD,
    "pool_shrink": _ONE_CHILD,
    "pool_restart": _ONE_CHILD,
    "autoscale": _ONE_CHILD,
    "add_consumer": _OWN_QUEUES,
    "cancel_consumer": _OWN_QUEUES,
    "rate_limit": _NO_LIMIT,
    "time_limit": _NO_LIMIT,
}

log = structlog.get_logger(__name__)


def refuse_what_harms() -> None:
    """Answer the commands in `REFUSED` with why they are not obeyed; Flower shows that."""
    for name, reason in REFUSED.items():
        Panel.data[name] = partial(_refuse, name, reason)


def _refuse(name: str, reason: str, _state: Any, **_arguments: Any) -> dict[str, str]:
    log.warning("flower.refused", command=name)
    return {"error": reason}


def cancel_on_revoke(backlog: Callable[[], Backlog], redis: Callable[[], Redis]) -> None:
    """Make the control command `revoke`, behind Flower's button, cancel jobs before it does what it did.

    It is a broadcast, so several processes cancel the same job: only the first cancel changes anything. Both
    arguments are called at the first revoke, in the process that heard it. No process is ended by it: that would take
    the jobs along which are drawn beside the one that is meant.
    """
    original = Panel.data["revoke"]

    def revoke(state: Any, task_id: Any, *_: Any, **options: Any) -> Any:
        for uid in uids(task_id):
            _cancel(uid, backlog(), redis())
        return original(state, task_id, **{**options, "terminate": False})

    Panel.data["revoke"] = revoke


def uids(task_id: str | Sequence[str] | None) -> Iterator[int]:
    """Return the jobs' uids among task ids; Celery's own ids are none."""
    ids = [task_id] if isinstance(task_id, str | int) else task_id or ()
    for text in map(str, ids):
        if text.isascii() and text.isdigit():
            yield int(text)


def _cancel(uid: int, backlog: Backlog, redis: Redis) -> None:
    account = None
    try:
        account = redis.hget(job_key(uid), "account")
        if account is None:
            return
        job = backlog.cancel(uid, account=str(account))
    except (BacklogUnavailable, JobNotFound, RedisError) as error:
        log.warning("flower.cancel_failed", uid=uid, account=account, error=str(error))
    else:
        log.info("flower.cancelled", uid=uid, account=account, status=str(job.status))
