"""Bounds and circuit breakers of those who are called, on a clock of the test's own."""

from contextlib import ExitStack

import pytest

from worker.receivers import (
    FAILURES_TO_OPEN,
    FIRST_OPEN_S,
    LINES_KNOWN,
    LONGEST_OPEN_S,
    LONGEST_WAIT_S,
    Busy,
    Receivers,
)

URL = "https://slow.example/hook"


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def receivers(clock):
    return Receivers(threads=16, clock=clock)


def call(receivers, account="1", url=URL, *, answers):
    with receivers.calling(account, url) as place:
        if answers:
            place.answered()


def enter(receivers, stack, account="1", url=URL):
    return stack.enter_context(receivers.calling(account, url))


def break_circuit(receivers, **where):
    for _ in range(FAILURES_TO_OPEN):
        call(receivers, answers=False, **where)


def test_a_receiver_has_a_quarter_of_the_calls_and_gives_them_back(receivers):
    with ExitStack() as stack:
        for _ in range(4):
            enter(receivers, stack)
        with pytest.raises(Busy, match="busy"):
            call(receivers, answers=True)
        call(receivers, url="https://slow.example:8443/", answers=True)
        call(receivers, account="2", answers=True)
    call(receivers, answers=True)


def test_an_account_and_a_host_have_half_of_the_calls(receivers):
    with ExitStack() as stack:
        for number in range(8):
            enter(receivers, stack, url=f"https://host{number}.example/")
        with pytest.raises(Busy):
            call(receivers, url="https://another.example/", answers=True)
        call(receivers, account="2", url="https://another.example/", answers=True)
    with ExitStack() as stack:
        for number in range(8):
            enter(receivers, stack, account=str(number))
        with pytest.raises(Busy):
            call(receivers, account="9", answers=True)


def test_what_finds_no_room_is_put_off_one_after_the_other_and_never_for_long(receivers, clock):
    with receivers.calling("1", URL) as place:
        place.answered()
        clock.now += 8.0  # so long a call takes
    with ExitStack() as stack:
        for _ in range(4):
            enter(receivers, stack)
        delays = []
        for _ in range(60):
            with pytest.raises(Busy) as refused:
                call(receivers, answers=True)
            delays.append(refused.value.delay_s)
    assert 2.0 <= delays[0] <= 2.4
    assert delays[5] > delays[0]
    assert max(delays) <= 1.2 * LONGEST_WAIT_S


def test_calls_without_an_answer_open_the_circuit_and_one_trial_closes_it(receivers, clock):
    break_circuit(receivers)
    with pytest.raises(Busy, match="not answered") as refused:
        call(receivers, answers=True)
    assert FIRST_OPEN_S <= refused.value.delay_s <= 2 * FIRST_OPEN_S
    call(receivers, account="2", answers=True)  # another account's receiver is another matter

    clock.now += FIRST_OPEN_S
    with receivers.calling("1", URL) as trial:
        with pytest.raises(Busy):  # one at a time
            call(receivers, answers=True)
        trial.answered()
    for _ in range(FAILURES_TO_OPEN - 1):
        call(receivers, answers=False)
    call(receivers, answers=True)


def test_each_trial_that_fails_doubles_the_pause_up_to_a_bound(receivers, clock):
    break_circuit(receivers)
    pause = FIRST_OPEN_S
    for _ in range(10):
        clock.now += pause
        call(receivers, answers=False)
        pause = min(2 * pause, LONGEST_OPEN_S)
        clock.now += pause - 0.1
        with pytest.raises(Busy):
            call(receivers, answers=True)
        clock.now += 0.1 - pause
    assert pause == LONGEST_OPEN_S


def test_calls_that_were_under_way_when_it_opened_do_not_prolong_it(receivers, clock):
    with ExitStack() as stack:
        for _ in range(3):
            enter(receivers, stack)
        break_circuit(receivers)
    clock.now += FIRST_OPEN_S
    call(receivers, answers=True)


def test_an_answer_between_failures_keeps_it_closed(receivers):
    for _ in range(3):
        for _ in range(FAILURES_TO_OPEN - 1):
            call(receivers, answers=False)
        call(receivers, answers=True)


def test_what_is_remembered_is_bounded(receivers):
    for number in range(LINES_KNOWN + 10):
        call(receivers, url=f"https://h{number}.example/", answers=True)
    assert len(receivers._lines) == LINES_KNOWN
    assert receivers._groups == {}
