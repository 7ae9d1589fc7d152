"""A Redis that speaks TLS only: API, courier and the queue use it, and a certificate of unknown origin stops them."""

from contextlib import ExitStack

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from shared.redis_client import connect
from shared.settings import Settings
from tests.conftest import need
from tests.contract.test_outages import running_courier
from tests.liveapi import LiveApi
from tests.services import receiver, redis_server


@pytest.fixture(scope="module")
def server():
    # Valkey's wheel is built without TLS.
    with redis_server(need("redis-server"), tls=True, password="secret") as server:
        yield server


def test_a_job_and_its_webhook(server, tmp_path):
    with ExitStack() as stack:
        api = LiveApi(server, tmp_path, OUTBOUND_ALLOW="127.0.0.0/8")
        stack.callback(api.redis.close)
        stack.callback(api.service.stop)
        api.start()
        api.make_key()
        stack.enter_context(running_courier(server, tmp_path))
        hook = stack.enter_context(receiver())
        uid = api.submit(webhook_url=f"{hook.url}/hook", track_id="by TLS")
        api.finish(api.begin())

        (told,) = hook.wait_for(1)
        assert b"by TLS" in told.body
        assert api.get(f"/v1/jobs/{uid}").json()["status"] == "succeeded"


def test_a_certificate_of_unknown_origin_is_refused(server):
    url, _, _ = server.url.partition("?")
    with (
        connect(Settings.from_env({"REDIS_URL": url})) as client,
        pytest.raises(RedisConnectionError, match="CERTIFICATE_VERIFY_FAILED"),
    ):
        client.ping()
