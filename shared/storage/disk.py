"""Storage in a local folder. The API serves its objects under links that are signed and expire."""

import os
import shutil
import tempfile
import time
from collections.abc import Mapping
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Final
from urllib.parse import quote, urlencode

from itsdangerous import Signer

from shared.errors import Forbidden, StorageUnavailable
from shared.spec import canonical_json
from shared.storage import (
    SignedLink,
    StoredObject,
    check_content_type,
    check_filename,
    check_key,
    content_type_of,
)

#: What is copied at a time.
_COPIED_BYTES: Final = 1024 * 1024


class LinkInvalid(Forbidden):
    """This link was not made here, or has been changed."""

    code = "link_invalid"


class LinkExpired(Forbidden):
    """This link has expired; read the job again for a new one."""

    code = "link_expired"


class DiskStorage:
    """A folder of files. It keeps no metadata: what belongs to an image is inside it."""

    def __init__(self, root: Path, *, base_url: str, secret: str) -> None:
        self._root = root.absolute()
        self._base_url = base_url.rstrip("/")
        self._signer = Signer(secret, salt="darkroom.media", key_derivation="hmac", digest_method=sha256)

    def put(self, key: str, data: bytes, *, content_type: str, metadata: Mapping[str, str] | None = None) -> None:
        """Write the file beside its place, then rename it there: readers see all of it or nothing."""
        del metadata
        self.put_file(key, BytesIO(data), content_type=content_type)

    def put_file(self, key: str, file: BinaryIO, *, content_type: str) -> None:
        """Copy the file beside its place, then rename it there."""
        check_content_type(key, content_type)
        try:
            target = self._path(key)
            target.parent.mkdir(parents=True, exist_ok=True)
            _write_atomically(target, file)
        except OSError as error:
            raise StorageUnavailable(f"could not store {key}: {error.strerror}") from error

    def get(self, key: str) -> StoredObject:
        """Read a file; `KeyError` where there is none."""
        try:
            return StoredObject(self._path(key).read_bytes(), content_type_of(key))
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            raise KeyError(key) from error
        except OSError as error:
            raise StorageUnavailable(f"could not read {key}: {error.strerror}") from error

    def link(self, key: str, *, ttl_s: int, filename: str | None = None) -> SignedLink:
        """Return a link to the API's media route."""
        expires = int(time.time()) + ttl_s
        query = {"expires": str(expires), "signature": self._sign(check_key(key), expires, filename)}
        if filename is not None:
            query["filename"] = check_filename(filename)
        return SignedLink(f"{self._base_url}/media/{quote(key)}?{urlencode(query)}", expires * 1000)

    def open_link(self, key: str, expires: int, signature: str, filename: str | None = None) -> StoredObject:
        """Return what a link's parts open.

        Raises `LinkInvalid`, `LinkExpired`, or `KeyError` where the object is gone. The signature is compared in
        constant time and before anything else, so a stranger learns nothing about what exists.
        """
        self.check_link(key, expires, signature, filename)
        return self.get(key)

    def check_link(self, key: str, expires: int, signature: str, filename: str | None = None) -> None:
        """Raise `LinkInvalid` or `LinkExpired` unless a link's parts open something."""
        if not self._signer.verify_signature(_signed(key, expires, filename), signature):
            raise LinkInvalid
        if expires <= time.time():
            raise LinkExpired

    def file_of(self, key: str) -> Path:
        """Return the file that holds an object; `KeyError` where there is none."""
        path = self._path(key)
        if not path.is_file():
            raise KeyError(key)
        return path

    def delete_prefix(self, prefix: str) -> int:
        """Delete a folder; return how many files it held."""
        try:
            folder = self._path(prefix)
            if not folder.is_dir():
                return 0
            count = sum(len(files) for _, _, files in os.walk(folder))
            shutil.rmtree(folder)
        except OSError as error:
            raise StorageUnavailable(f"could not delete {prefix}: {error.strerror}") from error
        return count

    def check(self) -> None:
        """Write and drop a small file."""
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self._root) as probe:
                probe.write(b"\0")
                probe.flush()
        except OSError as error:
            raise StorageUnavailable(f"could not write to the storage folder: {error.strerror}") from error

    def _path(self, key: str) -> Path:
        """Return the key's place; `StorageUnavailable` where a symbolic link leads out of the folder."""
        path = self._root / check_key(key)
        if not path.resolve().is_relative_to(self._root.resolve()):
            raise StorageUnavailable(f"{key} leads out of the storage folder")
        return path

    def _sign(self, key: str, expires: int, filename: str | None) -> str:
        return self._signer.get_signature(_signed(key, expires, filename)).decode()


def _signed(key: str, expires: int, filename: str | None) -> str:
    # JSON keeps the parts apart: no two links share a signed text.
    return canonical_json([key, expires, filename])


def _write_atomically(target: Path, file: BinaryIO) -> None:
    with tempfile.NamedTemporaryFile(dir=target.parent, prefix=".", suffix=".part", delete=False) as part:
        try:
            shutil.copyfileobj(file, part, _COPIED_BYTES)
            part.flush()
            os.fsync(part.fileno())
            Path(part.name).replace(target)
        except BaseException:  # whatever ends it, half a file is not left behind
            Path(part.name).unlink(missing_ok=True)
            raise
    _sync_folder(target.parent)


def _sync_folder(folder: Path) -> None:
    """Make the rename itself last over a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
