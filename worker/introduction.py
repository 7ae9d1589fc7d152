"""How a process introduces itself to the backlog."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.backlog import Backlog, Lease


def _nobody_asks(_uids: frozenset[int]) -> None:
    pass


@dataclass(frozen=True, kw_only=True, slots=True)
class Introduction:
    """Says hello, each time as the same incarnation: another one would end the first one's leases."""

    backlog: Backlog
    node: str
    pool: str
    models: tuple[str, ...]
    #: What a predecessor drew, and whose results lie here; `heard` is told which of these jobs are held.
    results_of: tuple[Lease, ...] = ()
    heard: Callable[[frozenset[int]], None] = _nobody_asks
    incarnation: str = field(default_factory=lambda: secrets.token_hex(8))

    def __call__(self) -> None:
        """Say hello."""
        held = self.backlog.hello(
            self.node, self.incarnation, pool=self.pool, models=self.models, results_of=self.results_of
        )
        self.heard(held)
