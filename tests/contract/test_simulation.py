"""Workers that die at random, wake-ups that are lost: the backlog is drained all the same. `make simulate` times it."""

from tests.benchmarks.simulate import Setup, simulate


def test_the_backlog_is_drained_whatever_dies():
    setup = Setup(jobs=60, burst=20, every_s=0.3, workers=3, steps=3, step_s=0.002, crash=0.02, gone=0.0)

    assert simulate(setup, loss=0.3, seed=1) == 0
