"""An account that holds thousands of waiting jobs keeps another's single job waiting for two batches at most."""

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
