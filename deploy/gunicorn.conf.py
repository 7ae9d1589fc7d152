# ruff: noqa: INP001 - gunicorn reads this file by its path
"""gunicorn's settings, read from Darkroom's own: `gunicorn --config deploy/gunicorn.conf.py api.wsgi:app`.

Threads, because callers wait: for a job's end, and on its events. Three quarters of the threads may wait so; the rest
answer everybody else.
"""

import os
import shutil
import signal
import tempfile
from pathlib import Path
from types import FrameType
from typing import Any

from shared import logs, tracing
from shared.settings import Settings

_settings = Settings.from_env()
logs.configure(_settings)
tracing.require(_settings)
# Where the processes put what they count, so that a scrape of any of them tells of all. prometheus_client reads the
# variable when it is imported.
_METRICS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
_PREFIX = "darkroom-metrics-"
if _METRICS_FOLDER not in os.environ:
    os.environ[_METRICS_FOLDER] = tempfile.mkdtemp(prefix=_PREFIX)

bind = f"{_settings.host}:{_settings.port}"
worker_class = "api.gunicorn_worker.Worker"
workers = _settings.web_processes
threads = _settings.web_threads
worker_connections = max(1000, 4 * _settings.web_threads)
#: Longer than the idle time of common proxies, which otherwise write into a connection just closed.
keepalive = 75
#: Below the 10 s that supervisors commonly grant.
graceful_timeout = 8
timeout = 60
#: gunicorn speaks of itself only: a line per request would bury what matters.
accesslog = None
logger_class = "api.gunicorn_log.Log"
loglevel = _settings.log_level.lower()
control_socket_disable = True


def post_worker_init(worker: Any) -> None:
    """On SIGTERM let go of callers who wait, so that the process can leave at once. They connect again."""
    hub = worker.wsgi.extensions["darkroom"].hub

    def leave(number: int, frame: FrameType | None) -> None:
        hub.close()
        worker.handle_exit(number, frame)

    signal.signal(signal.SIGTERM, leave)


def worker_exit(server: Any, worker: Any) -> None:  # noqa: ARG001 - gunicorn's signature
    """Let go of callers however the process leaves: their threads would keep it alive. Spans are sent first."""
    if worker.wsgi is not None:
        worker.wsgi.extensions["darkroom"].hub.close()
    tracing.end()


def on_exit(server: Any) -> None:
    """Remove what was counted, unless the folder is somebody else's or a successor (SIGUSR2) goes on with it."""
    folder = Path(os.environ[_METRICS_FOLDER])
    if folder.name.startswith(_PREFIX) and not server.reexec_pid:
        shutil.rmtree(folder, ignore_errors=True)
