"""The Celery tasks. They carry no job: they say "look into the backlog" and "this webhook is due"."""

from celery import shared_task

from shared.celery_app import DELIVER, GENERATE
from worker import roles


@shared_task(name=GENERATE, send_events=False)
def generate() -> None:
    """Look into the backlog, and work until there is nothing left to do."""
    roles.claimer().generate()


@shared_task(name=DELIVER, send_events=False)
def deliver(entry_id: str) -> None:
    """Make one attempt at a webhook."""
    roles.courier().deliver(entry_id)
