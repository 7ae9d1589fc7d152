"""Jobs as Flower shows them: Celery's task events with a job's uid.

Celery's own tasks are wake-ups and send no events. A row in Flower is a job: its name tells dialect and task, its
arguments whose it is. Prompts, webhooks and keys stay out: the dashboard has other readers than the API.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Final

import structlog
from kombu.exceptions import KombuError
from redis.exceptions import RedisError

from shared.errors import WorkerLost
from shared.job import Status

if TYPE_CHECKING:
    from celery import Celery

    from shared.backlog import Lease

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
            self._send("task-retried", lease.uid, exception=WorkerLost().message, traceback="")
        about = {
            "account": lease.account,
            "track_id": lease.submission.track_id,
            "model": spec.model,
            "size": f"{spec.width}x{spec.height}",
            "steps": spec.num_inference_steps,
            "num_images": spec.num_images,
        }
        name = f"{lease.submission.dialect}.{spec.task}"
        self._send("task-received", lease.uid, name=name, args="()", kwargs=repr(about), retries=lease.attempts - 1)
        self._send("task-started", lease.uid)

    def ended(self, uid: int, status: Status, *, runtime_s: float = 0.0, error: str = "") -> None:
        """Tell that a job has ended; a status that is no end is not told."""
        if status is Status.SUCCEEDED:
            self._send("task-succeeded", uid, result=f"/v1/jobs/{uid}", runtime=runtime_s)
        elif status is Status.FAILED:
            self._send("task-failed", uid, exception=error, traceback="")
        elif status.is_terminal:
            self._send("task-revoked", uid, terminated=True, signum=None, expired=status is Status.EXPIRED)

    def lost(self, uid: int) -> None:
        """Tell that a job has failed with its workers, of which none can."""
        self.ended(uid, Status.FAILED, error=WorkerLost().message)

    def _send(self, kind: str, uid: int, **fields: Any) -> None:
        with self._lock:
            try:
                if self._dispatcher is None:
                    self._dispatcher = self._connect()
                self._dispatcher.send(kind, uuid=str(uid), **fields)
            except (KombuError, RedisError, OSError) as error:
                log.warning("flower.unsent", event_type=kind, uid=uid, error=str(error))
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
