"""The courier's Celery app, and Flower's: `celery -A worker.courier_app worker --pool threads`. No torch."""

from shared import logs, tracing
from shared.celery_app import make_celery
from shared.settings import Settings
from worker import tasks
from worker.signals import CourierRole

__all__ = ["app", "tasks"]

settings = Settings.from_env()
logs.configure(settings)
tracing.require(settings)
app = make_celery(settings)
CourierRole(app, settings).wire()
