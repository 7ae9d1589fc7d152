"""Files of jobs that are gone: whoever stored some for a job that was taken away looks whether it was erased meanwhile.

A job is erased with its files, so what is stored afterwards would be nobody's, and stay.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from shared.errors import BacklogUnavailable, JobNotFound, StorageUnavailable

if TYPE_CHECKING:
    from shared.backlog import Backlog, Lease
    from shared.job import Job
    from shared.storage import Storage

log = structlog.get_logger(__name__)


def read_or_delete(lease: Lease, folder: str, *, backlog: Backlog, storage: Storage) -> Job | None:
    """Return a job as it stands; None, and its files in `folder` deleted, where it is gone.

    None as well where Redis is away: then the job's own end, or the store's rules, see to the files.
    """
    try:
        return backlog.read(lease.uid, account=lease.account)
    except BacklogUnavailable:
        return None
    except JobNotFound:
        _delete(f"{folder}/{lease.handle}", storage)
        return None


def _delete(prefix: str, storage: Storage) -> None:
    try:
        count = storage.delete_prefix(prefix)
    except StorageUnavailable as error:
        log.warning("erased.files_left", prefix=prefix, error=error.message)
        return
    if count:
        log.info("erased.files_deleted", prefix=prefix, files=count)
