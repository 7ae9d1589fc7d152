"""A stack for all who only use it."""

import pytest

from tests import stack


@pytest.fixture(scope="package")
def darkroom():
    """A running stack that several files share (`tests.distribution`); they leave it running, and nothing queued."""
    with stack.running() as running:
        yield running
