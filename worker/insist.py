"""Storage that is away is waited for. Only what it will not do although it is well fails."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, TypeVar

import structlog

from shared.errors import StorageUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.storage import Storage

#: Seconds that storage, which answers otherwise, may refuse something.
PATIENCE_S: Final = 60.0
FIRST_PAUSE_S: Final = 0.25
LONGEST_PAUSE_S: Final = 4.0

T = TypeVar("T")

log = structlog.get_logger(__name__)


def insist(attempt: Callable[[], T], storage: Storage, *, pause: Callable[[float], None]) -> T:
    """Return what `attempt` returns, made again as long as storage is away.

    `pause` waits so many seconds; what it raises ends this. Raises `StorageUnavailable` where storage is well and has
    refused for `PATIENCE_S` all the same.
    """
    well_since: float | None = None
    seconds = FIRST_PAUSE_S
    while True:
        try:
            return attempt()
        except StorageUnavailable as error:
            now = time.monotonic()
            well_since = (well_since or now) if _is_well(storage) else None
            if well_since is not None and now - well_since >= PATIENCE_S:
                raise
            log.warning("storage.awaited", again_in_s=seconds, error=error.message)
        pause(seconds)
        seconds = min(2 * seconds, LONGEST_PAUSE_S)


def _is_well(storage: Storage) -> bool:
    try:
        storage.check()
    except StorageUnavailable:
        return False
    return True
