"""When to start a dead program again, and when to give up.

The first restart comes at once (a lone crash should cost nothing), the next ones wait ever longer; too many deaths
within the window mean that starting again will not mend it.
"""

from collections import deque
from typing import Final

WINDOW_S: Final = 60.0
MAX_DEATHS: Final = 5
#: Seconds before the second restart within the window; each further one waits twice as long.
FIRST_WAIT_S: Final = 1.0


class Restarts:
    """Counts one program's deaths."""

    def __init__(
        self, *, window_s: float = WINDOW_S, max_deaths: int = MAX_DEATHS, first_wait_s: float = FIRST_WAIT_S
    ) -> None:
        self._window_s = window_s
        self._max_deaths = max_deaths
        self._first_wait_s = first_wait_s
        self._deaths: deque[float] = deque()

    def died(self, now_s: float) -> float | None:
        """Note a death at this time (monotonic seconds). Return the seconds to wait, None to give up."""
        self._deaths.append(now_s)
        while now_s - self._deaths[0] >= self._window_s:
            self._deaths.popleft()
        recent = len(self._deaths)
        if recent >= self._max_deaths:
            return None
        return 0.0 if recent == 1 else self._first_wait_s * 2.0 ** (recent - 2)
