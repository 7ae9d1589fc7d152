"""Fixtures that several folders use. Servers are started once a session and flushed before each test."""

import io
import logging
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import fakeredis
import hypothesis
import pytest
import structlog
from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from shared import logs
from shared.settings import Settings
from tests import services
from tests.distribution import (  # noqa: F401 - pytest finds its hooks here
    pytest_collection_modifyitems,
    pytest_xdist_auto_num_workers,
    pytest_xdist_make_scheduler,
)

# Threads of torch that wait for their mates must not spin on a busy machine's few cores. Read when torch loads.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
if "PYTEST_XDIST_WORKER" in os.environ:
    # Each of the processes that share the cores uses one.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# The one that structlog comes with prints every frame's variables; a tensor among them can take it a minute.
structlog.get_config()["processors"][-1].exception_formatter = structlog.dev.plain_traceback


def _usual_logs() -> None:
    """Log to the test process's own stderr: what a command answers, or writes to its own, is kept apart from that."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.__stderr__))


_usual_logs()

# An example's time says more of the machine than of the code.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

#: On CI everything must be there: what is skipped elsewhere for want of a Debian package fails.
ON_CI = os.environ.get("CI") == "true"


def need(program: str, package: str = "") -> str:
    """Return a Debian program's path; skip where it is missing, fail on CI. `package` where it has another name."""
    path = shutil.which(program)
    if path is None:
        (pytest.fail if ON_CI else pytest.skip)(f"needs Debian's {package or program}")
    return str(path)


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[services.RedisServer]:
    with services.valkey() as server:
        yield server


@pytest.fixture(scope="session")
def server_pool() -> Iterator[dict[str, services.RedisServer]]:
    """Servers of several makes, started when first asked for."""
    with ExitStack() as stack:
        yield _Servers(stack)


class _Servers(dict):
    def __init__(self, stack: ExitStack) -> None:
        super().__init__()
        self._stack = stack

    def __missing__(self, make: str) -> services.RedisServer:
        start = {
            "valkey9": services.valkey,
            "redis62": services.redis62,
            "redis7": lambda: services.redis_server(need("redis-server")),
        }[make]
        self[make] = self._stack.enter_context(start())
        return self[make]


@pytest.fixture
def valkey(valkey_server: services.RedisServer) -> Iterator[Redis]:
    """A flushed Valkey."""
    client = _client(valkey_server)
    client.flushall()
    yield client
    client.close()


@pytest.fixture(params=["fakeredis", "redis62", "redis7", "valkey9"])
def any_redis(request: pytest.FixtureRequest, server_pool: dict[str, services.RedisServer]) -> Iterator[Redis]:
    """A flushed server of each make that Darkroom runs on."""
    if request.param == "fakeredis":
        yield _FakeRedis(decode_responses=True)
        return
    client = _client(server_pool[request.param])
    client.flushall()
    yield client
    client.close()


@pytest.fixture
def log_lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], str]]:
    """What the process writes to its log from here on, as JSON."""
    stream, root = io.StringIO(), logging.getLogger()
    handlers, level = list(root.handlers), root.level
    monkeypatch.setattr("sys.stderr", stream)
    logs.configure(Settings(log_format="json", log_level="DEBUG"))
    structlog.configure(cache_logger_on_first_use=False)  # other tests have other ways with the same loggers
    yield stream.getvalue
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()
    _usual_logs()


class _FakeRedis(fakeredis.FakeRedis):
    """fakeredis knows no INFO; the sweep asks it for the server's run id."""

    def info(self, *_sections, **_options) -> dict[str, str]:
        return {"run_id": "fake"}


def _client(server: services.RedisServer) -> Redis:
    return server.client(socket_timeout=30, retry=Retry(NoBackoff(), 0))
