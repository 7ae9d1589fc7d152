"""The GPU worker's Celery app: `celery -A worker.app worker --pool prefork --concurrency 1`."""

from shared import logs, tracing
from shared.celery_app import make_celery
from shared.settings import Settings
from worker import tasks
from worker.signals import WorkerRole

__all__ = ["app", "tasks"]

settings = Settings.from_env()
logs.configure(settings)
tracing.require(settings)
app = make_celery(settings)
WorkerRole(app, settings).wire()
