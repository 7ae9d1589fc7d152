"""Jobs as Flower shows them: Celery's task events with a job's uid, and Flower's Revoke button.

Celery's own tasks are wake-ups and send no events. A row in Flower is a job: its name tells dialect and task, its
arguments whose it is. Prompts, webhooks and keys stay out: the dashboard has other readers than the API.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

import structlog
from celery.worker.control import Panel
from kombu.exceptions import KombuError
from redis.exceptions import RedisError

from shared.errors import BacklogUnavailable, JobNotFound
from shared.job import Status
from shared.keys import job_key

if TYPE_CHECKING:
    from celery import Celery
    from redis import Redis

    from shared.backlog import Backlog, Lease

#: A dashboard must not hold up a job: what cannot be sent at once is not sent.
PATIENCE_S: Final = 1.0

log = structlog.get_logger(__name__)


class JobEvents:
    """Sends the events. Losing one is logged and harmless. Safe for threads."""

    def __init__(self, app: Celery, node: str) -> None:
        self._app = app
        self._node = node
        self._lock = threading.Lock()
        self._dispatcher: Any = None

    def started(self, lease: Lease) -> None:
        """Tell that a job runs; one that ran before is told as retried first, else its row stays as it was."""
        spec = lease.submission.spec
        if lease.attempts > 1:
            self._send("task-retried", lease, exception="WorkerLost()", traceback="")
        about = {
            "account": lease.account,
            "track_id": lease.submission.track_id,
            "model": spec.model,
            "size": f"{spec.width}x{spec.height}",
            "steps": spec.num_inference_steps,
            "num_images": spec.num_images,
        }
        name = f"{lease.submission.dialect}.text_to_image"
        self._send("task-received", lease, name=name, args="()", kwargs=repr(about), retries=lease.attempts - 1)
        self._send("task-started", lease)

    def ended(self, lease: Lease, status: Status, *, runtime_s: float = 0.0, error: str = "") -> None:
        """Tell that a job has ended; a status that is no end is not told."""
        if status is Status.SUCCEEDED:
            self._send("task-succeeded", lease, result=f"/v1/jobs/{lease.uid}", runtime=runtime_s)
        elif status is Status.FAILED:
            self._send("task-failed", lease, exception=error, traceback="")
        elif status.is_terminal:
            self._send("task-revoked", lease, terminated=True, signum=None, expired=status is Status.EXPIRED)

    def _send(self, kind: str, lease: Lease, **fields: Any) -> None:
        with self._lock:
            try:
                if self._dispatcher is None:
                    self._dispatcher = self._connect()
                self._dispatcher.send(kind, uuid=str(lease.uid), **fields)
            except (KombuError, RedisError, OSError) as error:
                log.warning("flower.unsent", event_type=kind, uid=lease.uid, account=lease.account, error=str(error))
                self._dispatcher = None

    def _connect(self) -> Any:
        options = {
            **self._app.conf.broker_transport_options,
            "socket_timeout": PATIENCE_S,
            "socket_connect_timeout": PATIENCE_S,
            "connect_retries_timeout": PATIENCE_S,
            "max_retries": 1,
            "interval_start": 0.1,
        }
        connection = self._app.connection_for_write(transport_options=options)
        return self._app.events.Dispatcher(connection, hostname=self._node, buffer_while_offline=False)


def cancel_on_revoke(backlog: Callable[[], Backlog], redis: Callable[[], Redis]) -> None:
    """Make the control command `revoke`, behind Flower's button, cancel jobs before it does what it did.

    It is a broadcast, so several processes cancel the same job: only the first cancel changes anything. Both
    arguments are called at the first revoke, in the process that heard it.
    """
    original = Panel.data["revoke"]

    def revoke(state: Any, task_id: Any, *args: Any, **options: Any) -> Any:
        for uid in uids(task_id):
            _cancel(uid, backlog(), redis())
        return original(state, task_id, *args, **options)

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
