"""How a process introduces itself to the backlog."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shared.backlog import Backlog


@dataclass(frozen=True, kw_only=True, slots=True)
class Introduction:
    """Says hello, each time as the same incarnation: another one would end the first one's leases."""

    backlog: Backlog
    node: str
    pool: str
    models: tuple[str, ...]
    incarnation: str = field(default_factory=lambda: secrets.token_hex(8))

    def __call__(self) -> None:
        """Say hello."""
        self.backlog.hello(self.node, self.incarnation, pool=self.pool, models=self.models)
