"""Hundreds of callers who wait for their pictures at once, in one process of the API, at little memory each."""

import base64
import http.client
import json
import os
from contextlib import ExitStack, closing

import psutil

from shared.accounts import Accounts
from shared.backlog import Backlog
from shared.celery_app import SilentBell
from shared.job import Result, Status
from tests.apibench import png
from tests.liveapi import NODE, running
from tests.services import wait_until

CLIENTS = 200
#: Of a caller who waits, beside what has been sent: a thread, a connection, a record.
MOST_BYTES_EACH = 4 * 2**20
PATIENCE_S = 120
#: A picture as clients send them: half a megabyte that does not compress.
PICTURE = png() + os.urandom(2**19)


def body(number):
    """Return what client `number` sends: OctoAI's call, which answers with the pictures or not at all."""
    asked = {"prompt": f"client {number}", "width": 512, "height": 512}
    if number % 2:
        asked["init_image"] = base64.b64encode(PICTURE).decode()
    return json.dumps(asked)


def send(api, number):
    connection = http.client.HTTPConnection("127.0.0.1", api.port, timeout=PATIENCE_S)
    connection.request("POST", "/generate/sd", body(number), {**api.headers, "Content-Type": "application/json"})
    return connection


def memory(process) -> int:
    return process.memory_info().rss


def end_all(backlog) -> int:
    """End every job with an error that names its prompt; return how many there were."""
    ended = 0
    while leases := backlog.claim(NODE, max_jobs=16, max_images=16).leases:
        for lease in leases:
            error = {"code": "generation_failed", "message": lease.submission.spec.prompt, "retryable": False}
            assert backlog.finish(NODE, lease, Status.FAILED, Result(error=error))
            ended += 1
    return ended


def test_hundreds_wait_in_one_process_and_each_gets_its_own_answer(valkey, valkey_server, tmp_path):
    with ExitStack() as stack:
        api = stack.enter_context(running(valkey_server, tmp_path, SYNC_WAIT_S=str(PATIENCE_S)))
        backlog = Backlog(api.redis, SilentBell())
        backlog.hello(NODE, "1", pool="default", models=["demo"])
        accounts = Accounts(api.redis)
        alice = accounts.create_key("alice").account
        (process,) = psutil.Process(api.service.process.pid).children()
        first = send(api, 0)  # what is loaded once is not theirs
        wait_until(lambda: accounts.waiting(alice) == 1, timeout_s=PATIENCE_S)
        before = memory(process)

        others = [send(api, number) for number in range(1, CLIENTS)]
        clients = [stack.enter_context(closing(connection)) for connection in (first, *others)]
        wait_until(lambda: accounts.waiting(alice) == CLIENTS, timeout_s=PATIENCE_S, what="every job queued")
        each = (memory(process) - before) / (CLIENTS - 1)
        threads = process.num_threads()
        healthy = api.get("/healthz").status_code
        assert end_all(backlog) == CLIENTS
        answers = [client.getresponse() for client in clients]
        told = [json.loads(answer.read()) for answer in answers]

    print(f"{CLIENTS} clients wait in one process of {threads} threads at {each / 2**20:.2f} MB each")
    assert healthy == 200
    assert {answer.status for answer in answers} == {500}
    assert [found["message"] for found in told] == [f"client {number}" for number in range(CLIENTS)]
    assert each < MOST_BYTES_EACH
