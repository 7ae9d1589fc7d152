"""The queues that workers are woken by, on a real server."""

from shared.celery_app import CeleryBell, delete_node_queue, make_celery, node_queue
from shared.settings import Settings


def test_a_worker_that_leaves_takes_its_wake_ups_along(valkey_server, valkey):
    app = make_celery(Settings(redis_url=valkey_server.url))
    bell = CeleryBell(app)
    bell.wake(["leaver", "leaver", "stayer"])
    assert valkey.llen(node_queue("leaver")) == 2

    delete_node_queue(app, "leaver")

    assert valkey.keys("*leaver*") == []
    assert valkey.llen(node_queue("stayer")) == 1
