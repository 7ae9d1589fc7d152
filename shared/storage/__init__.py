"""Where images live: a local folder or an S3-compatible store, behind one protocol.

Keys are `/`-separated paths such as `results/{handle}/{fence}/0.png`; they never hold a guessable uid.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import BinaryIO, Final, Protocol

from shared.settings import Settings

#: One part of a key: nothing that a shell, a URL or a file system reads otherwise, no hidden name, no way up.
_PART: Final = re.compile(r"[A-Za-z0-9_=-][A-Za-z0-9._=-]{0,127}")
_MOST_PARTS: Final = 16
#: A file has no room for its content type, so the key's suffix tells it.
CONTENT_TYPES: Final = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".webp": "image/webp",
    ".json": "application/json",
    ".zip": "application/zip",
}
DEFAULT_CONTENT_TYPE: Final = "application/octet-stream"


def check_key(key: str) -> str:
    """Return the key, or raise ValueError: up to 16 parts joined by `/`, each of letters, digits and `._=-`."""
    parts = key.split("/")
    if len(parts) > _MOST_PARTS or not all(_PART.fullmatch(part) for part in parts):
        raise ValueError(f"{key!r} is no storage key")
    return key


def check_filename(filename: str) -> str:
    """Return the name a browser shall save an object as, or raise ValueError: one part of a key."""
    if not _PART.fullmatch(filename):
        raise ValueError(f"{filename!r} is no file name")
    return filename


def content_type_of(key: str) -> str:
    """Return what a key's suffix says it holds."""
    return CONTENT_TYPES.get(PurePosixPath(key).suffix, DEFAULT_CONTENT_TYPE)


def check_content_type(key: str, content_type: str) -> str:
    """Return the content type, or raise ValueError where the key's suffix says another."""
    if content_type != content_type_of(key):
        raise ValueError(f"{key!r} names {content_type_of(key)}, not {content_type}")
    return content_type


@dataclass(frozen=True, slots=True)
class SignedLink:
    """A link that opens one object until it expires (epoch milliseconds)."""

    url: str
    expires_ms: int


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object read back."""

    data: bytes
    content_type: str


class Storage(Protocol):
    """Puts, gets, links and deletes objects. Failures are `StorageUnavailable`; a missing object is `KeyError`."""

    def put(self, key: str, data: bytes, *, content_type: str, metadata: Mapping[str, str] | None = None) -> None:
        """Store an object, whole or not at all; an equal key is overwritten. `metadata` is ASCII.

        The key's suffix and the content type must agree.
        """

    def put_file(self, key: str, file: BinaryIO, *, content_type: str) -> None:
        """Store what an open file holds from where it stands, without having all of it in memory; else as `put`."""

    def get(self, key: str) -> StoredObject:
        """Return an object; `KeyError` where there is none."""

    def link(self, key: str, *, ttl_s: int, filename: str | None = None) -> SignedLink:
        """Return a link that opens the object for `ttl_s` seconds, saved by browsers as `filename`."""

    def delete_prefix(self, prefix: str) -> int:
        """Delete every object under `prefix/`; return how many there were."""

    def check(self) -> None:
        """Raise `StorageUnavailable` unless an object could be stored now."""


def open_storage(settings: Settings, *, secret: str) -> Storage:
    """Return the storage the settings name. `secret` signs the local folder's links."""
    if settings.s3_bucket:
        from shared.storage.s3 import S3Storage

        return S3Storage.from_settings(settings)
    from shared.storage.disk import DiskStorage

    return DiskStorage(settings.data_dir / "storage", base_url=settings.base_url, secret=secret)
