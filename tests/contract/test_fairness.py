"""An account that holds thousands of waiting jobs keeps another's single job waiting for two batches at most.

Nor does a worker load a model for every job that wants another one.
"""

import pytest

from tests.benchmarks.fairness import NEWCOMERS, Scene


@pytest.fixture
def scene(valkey):
    made = Scene(valkey)
    made.crowd()
    return made


def test_a_single_job_starts_within_two_batches(scene):
    for newcomer in NEWCOMERS:
        batches = list(scene.batches_until(newcomer))
        assert max(batches) <= newcomer.within, newcomer.name


def test_equal_accounts_that_want_two_models_share_each_load(valkey):
    # Strictly in turn a model would be loaded for every batch.
    assert Scene(valkey).with_many_each() >= 4
    valkey.flushall()
    assert Scene(valkey).with_one_each() >= 4
