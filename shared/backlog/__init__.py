"""The queue's Python face. Each method is one atomic Lua script (`scripts/*.lua`), safe to repeat.

See `docs/architecture.md` for the rules. Nodes that a script wakes are told through the bell before the method
returns, so a caller cannot forget it.
"""

from shared.backlog.backlog import Backlog, new_handle
from shared.backlog.batches import Batches
from shared.backlog.encoding import INGEST_MODEL, INGEST_POOL
from shared.backlog.operations import Operations
from shared.backlog.records import (
    AccountLoad,
    Claim,
    Gate,
    Idempotency,
    Lane,
    Lease,
    Lost,
    Receipt,
    SetApart,
    Swept,
    WorkerView,
)

__all__ = [
    "INGEST_MODEL",
    "INGEST_POOL",
    "AccountLoad",
    "Backlog",
    "Batches",
    "Claim",
    "Gate",
    "Idempotency",
    "Lane",
    "Lease",
    "Lost",
    "Operations",
    "Receipt",
    "SetApart",
    "Swept",
    "WorkerView",
    "new_handle",
]
