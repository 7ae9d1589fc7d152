"""Images that a caller names by a link of ours: taken from the storage, never fetched from ourselves.

An output's link is a natural input of the next request. Behind it is this installation, where outgoing calls do not go.
"""

from dataclasses import replace
from typing import Final
from urllib.parse import parse_qs, unquote, urlsplit

from shared.errors import Forbidden
from shared.order import Order, content_name
from shared.storage import Storage
from shared.storage.disk import DiskStorage

#: Digits of a link's time.
LONGEST_TIME: Final = 15
_ROUTE: Final = "/media/"


def bring_home(order: Order, storage: Storage) -> Order:
    """Return the order with what its links open in our storage. Others, and links that open no more, stay as they are.

    An S3-compatible store's links lead to the store, and are fetched as any other.
    """
    if not isinstance(storage, DiskStorage):
        return order
    remote = order.submission.spec.remote_inputs()
    found = {name: data for name, url in remote.items() if (data := _open(url, storage)) is not None}
    names = {remote[name]: content_name(data) for name, data in found.items()}
    submission = replace(order.submission, spec=order.submission.spec.with_images(names))
    return replace(order, submission=submission, inputs={**order.inputs, **found})


def _open(url: str, storage: DiskStorage) -> bytes | None:
    """Return what a link opens. Its host may be any that leads here: the signature tells that it is ours."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    key, expires = unquote(parts.path.removeprefix(_ROUTE)), query.get("expires", "")
    if (
        not parts.path.startswith(_ROUTE)
        or not (expires.isascii() and expires.isdigit())
        or len(expires) > LONGEST_TIME
    ):
        return None
    try:
        return storage.open_link(key, int(expires), query.get("signature", ""), query.get("filename")).data
    except (Forbidden, KeyError):
        return None
