"""What follows from an attempt at a webhook: from a receiver's answer, or from there being none."""

import time
from dataclasses import replace
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Final

from shared.outbox import Entry, Outcome, Verdict, after_failure
from shared.safe_http import Answer

#: Of a Retry-After; more would be years.
_PAUSE_DIGITS: Final = 9


def judge(entry: Entry, answer: Answer) -> Verdict:
    """Return what follows from a receiver's answer: only 2xx is delivered, and 410 is for ever."""
    if HTTPStatus.OK <= answer.status < HTTPStatus.MULTIPLE_CHOICES:
        return Verdict(outcome=Outcome.DELIVERED, status=answer.status)
    if answer.status == HTTPStatus.GONE:
        return replace(given_up(entry, answer.body_excerpt), status=answer.status)
    pause_s = asked_pause_s(answer.headers.get("retry-after"))
    return failed(entry, status=answer.status, error=answer.body_excerpt, pause_s=pause_s)


def failed(entry: Entry, *, error: str, status: int | None = None, pause_s: float = 0.0) -> Verdict:
    """Return what follows where a call was of no use: another one later (`pause_s` at least), or no more."""
    return after_failure(entry.tries, status=status, error=error, passing=entry.is_passing, not_before_s=pause_s)


def given_up(entry: Entry, why: str) -> Verdict:
    """Return what follows where no further call would be of use."""
    return Verdict(outcome=Outcome.DROPPED if entry.is_passing else Outcome.DEAD, error=why)


def asked_pause_s(header: str | None) -> float:
    """Return the seconds that a Retry-After header asks for, given as a number or as a date; 0 for anything else."""
    text = (header or "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:_PAUSE_DIGITS])
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return 0.0
