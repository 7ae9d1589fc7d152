"""The storage: whether objects can be put, read back and deleted."""

import secrets
from collections.abc import Iterator
from typing import Final

from shared.doctor.finding import Finding, error, good
from shared.errors import StorageUnavailable
from shared.settings import Settings
from shared.storage import Storage, open_storage

_AREA: Final = "storage"


def look_at_storage(settings: Settings) -> Iterator[Finding]:
    """Put, get and delete a probe; yield how each went, up to the first that fails."""
    where = f"bucket {settings.s3_bucket}" if settings.s3_bucket else str(settings.data_dir / "storage")
    folder = f"probe/{secrets.token_hex(8)}"
    step = "put"
    try:
        storage = open_storage(settings, secret=secrets.token_hex(16))
        storage.put(f"{folder}/probe.json", b"{}", content_type="application/json")
        step = "get"
        _check(storage, f"{folder}/probe.json")
        step = "delete"
        if storage.delete_prefix(folder) != 1:
            raise StorageUnavailable("the probe was not found again")  # noqa: TRY301 - told as the others
    except (StorageUnavailable, OSError, KeyError, ValueError) as failure:
        yield error(_AREA, f"{step} of a probe in {where} failed: {failure}", _advice(settings, step))
        return
    yield good(_AREA, f"put, get and delete work in {where}")


def _check(storage: Storage, key: str) -> None:
    if storage.get(key).data != b"{}":
        raise StorageUnavailable("the probe came back changed")


def _advice(settings: Settings, step: str) -> str:
    if not settings.s3_bucket:
        return "Let DARKROOM_DATA_DIR be a folder that this user may write, on a disk with room."
    right = {"put": "s3:PutObject", "get": "s3:GetObject", "delete": "s3:ListBucket and s3:DeleteObject"}[step]
    return f"Check S3_ENDPOINT_URL, S3_BUCKET and the AWS_ credentials, and that these have the right {right}."
