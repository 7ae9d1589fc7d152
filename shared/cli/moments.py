"""Times on the command line: so long from now (90d), or a date (2027-01-31)."""

import re
import time
from datetime import UTC, datetime
from typing import Any, Final

import click

_UNITS_S: Final = {"m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_SPAN: Final = re.compile(rf"([1-9][0-9]{{0,5}})([{''.join(_UNITS_S)}])")


class Moment(click.ParamType[int]):
    """A moment to come, as epoch milliseconds."""

    name = "when"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read it, or fail in words."""
        now_ms = time.time_ns() // 1_000_000
        span = _SPAN.fullmatch(str(value))
        if span:
            return now_ms + int(span[1]) * _UNITS_S[span[2]] * 1000
        try:
            given = datetime.fromisoformat(str(value))
        except ValueError:
            self.fail(f"{value!r} is neither like 90d (m, h, d or w) nor like 2027-01-31.", param, ctx)
        # A date without a zone is one in UTC, as all our times are.
        moment_ms = round((given if given.tzinfo else given.replace(tzinfo=UTC)).timestamp() * 1000)
        if moment_ms <= now_ms:
            self.fail(f"{value!r} is over.", param, ctx)
        return moment_ms


def date_text(epoch_ms: int | None, *, none: str) -> str:
    """Return a time as 2026-01-31 12:00 UTC."""
    return none if epoch_ms is None else f"{datetime.fromtimestamp(epoch_ms / 1000, UTC):%Y-%m-%d %H:%M} UTC"
