"""Fixtures of the dialects' tests."""

from pathlib import Path

import pytest

from api import events
from tests.dialects import rig

#: What the services' own documents name.
ASSETS = Path(__file__).with_name("assets.toml")


@pytest.fixture
def service(valkey, tmp_path, monkeypatch):
    monkeypatch.setattr(events, "BLOCK_MS", 50)  # the reader of events ends with its service, not a second later
    waits = {"sync_wait_s": 30.0, "short_wait_s": 20.0}
    with rig.service(valkey, tmp_path, models_catalog=ASSETS, **waits) as (bench, worker):
        yield bench, worker


@pytest.fixture
def bench(service):
    return service[0]


@pytest.fixture
def worker(service):
    return service[1]
