"""Signed links into the local folder. They open one object, need no key, and expire.

An S3-compatible store serves its own links; then this route knows nothing.
"""

import re
from typing import Final

from flask import Blueprint, Response, request, send_file
from werkzeug.exceptions import NotFound

from api.responses import PRIVATE, etag_of, file_response, not_modified, unchanged
from api.services import services
from shared.storage.disk import DiskStorage, LinkInvalid

media = Blueprint("media", __name__)
#: How the keys of archives end.
ARCHIVE: Final = ".zip"
_EXPIRES: Final = re.compile(r"[0-9]{1,15}")


@media.get("/media/<path:key>")
def open_link(key: str) -> Response:
    """Serve what a link opens: 403 `link_expired` or `link_invalid`, 404 where the object is gone."""
    storage = services().storage
    if not isinstance(storage, DiskStorage):
        raise NotFound
    filename = request.args.get("filename")
    try:
        if key.endswith(ARCHIVE):
            return _archive(storage, key, filename)
        found = storage.open_link(key, _expires(), request.args.get("signature", ""), filename)
    except KeyError:
        raise NotFound from None
    etag = etag_of(key)  # a key's content never changes
    if not_modified(etag):
        return unchanged(etag)
    return file_response(found.data, found.content_type, filename=filename, etag=etag)


def _archive(storage: DiskStorage, key: str, filename: str | None) -> Response:
    """Serve a file that may be large: as it is read, and in parts where the caller asks for some (Range)."""
    storage.check_link(key, _expires(), request.args.get("signature", ""), filename)
    response = send_file(
        storage.file_of(key),
        mimetype="application/zip",
        as_attachment=True,
        download_name=filename,
        etag=etag_of(key),
        conditional=True,
    )
    response.headers.update(PRIVATE)
    return response


def _expires() -> int:
    text = request.args.get("expires", "")
    if not _EXPIRES.fullmatch(text):
        raise LinkInvalid
    return int(text)
