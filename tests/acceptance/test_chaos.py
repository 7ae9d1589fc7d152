"""The chaos run, small: whatever is killed, nothing is lost, doubled or miscounted. `make chaos` is the whole of it."""

import pytest

from tests.benchmarks.chaos import Run, survive


@pytest.mark.slow
def test_nothing_is_lost_doubled_or_miscounted():
    report = survive(Run(seed=7, jobs=60, storage_away_s=8.0, refusals=1, sees_messages=False))
    report.show()

    assert report.is_good, report.complaints
