from shared.stack.restarts import Restarts


def test_the_first_restart_comes_at_once_and_later_ones_wait_longer():
    restarts = Restarts()

    waits = [restarts.died(float(second)) for second in range(4)]

    assert waits == [0.0, 1.0, 2.0, 4.0]


def test_the_fifth_death_within_a_minute_is_the_last():
    restarts = Restarts()

    waits = [restarts.died(float(second)) for second in (0, 10, 20, 30, 59)]

    assert waits[-1] is None
    assert None not in waits[:-1]


def test_deaths_are_forgotten_after_the_window():
    restarts = Restarts()
    for second in range(4):
        restarts.died(float(second))

    assert restarts.died(63.0) == 0.0


def test_a_program_that_dies_every_twenty_seconds_is_restarted_for_ever():
    restarts = Restarts()

    assert None not in [restarts.died(20.0 * count) for count in range(50)]
