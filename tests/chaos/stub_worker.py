"""A GPU worker that draws plain pictures: the real worker, less what needs torch.

Claim, batches, heartbeat, inputs, delivery, storage and finish are the worker's own. Run it as
`celery -A tests.chaos.stub_worker worker …`, with the worker's own options.
"""

from tests.chaos import stub_model

stub_model.install()

from worker.app import app, tasks

__all__ = ["app", "tasks"]
