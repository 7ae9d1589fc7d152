"""Callers who are slow, or say nothing, hold no thread that others need.

A request's head is collected before a thread is given to it. From there on its caller must keep moving: whoever takes
or sends less than a few kilobytes a second is hung up on.
"""

import errno
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

#: What a head may take from its first byte on, and how much is collected of it; more is for gunicorn to refuse.
HEAD_S: Final = 20.0
HEAD_BYTES: Final = 128 * 1024
#: A body, and an answer, may take so long and a second more for each so many bytes.
GRACE_S: Final = 20.0
LEAST_BYTES_PER_S: Final = 4096
_HEAD_END: Final = b"\r\n\r\n"
_PIECE_BYTES: Final = 8192


class CallerSocket(socket.socket):
    """A connection on which both directions must keep moving; `ConnectionResetError` where they do not."""

    _received_by = 0.0

    @classmethod
    def over(cls, sock: socket.socket) -> "CallerSocket":
        """Return the connection of a socket, which itself is left without."""
        return cls(fileno=sock.detach())

    def begin(self) -> None:
        """Give the caller time for the next request's body."""
        self._received_by = time.monotonic() + GRACE_S

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        """Receive what there is."""
        if flags & socket.MSG_DONTWAIT:
            return super().recv(bufsize, flags)
        with self._bounded(self._received_by - time.monotonic()):
            data = super().recv(bufsize, flags)
        self._received_by += len(data) / LEAST_BYTES_PER_S
        return data

    def sendall(self, data: Any, flags: int = 0, /) -> None:
        """Send all of it."""
        with self._bounded(GRACE_S + len(data) / LEAST_BYTES_PER_S):
            super().sendall(data, flags)

    def sendfile(self, file: Any, offset: int = 0, count: int | None = None) -> int:
        """Send a file; each piece of it within `GRACE_S`."""
        with self._bounded(GRACE_S):
            return super().sendfile(file, offset, count)

    @contextmanager
    def _bounded(self, seconds: float) -> Iterator[None]:
        """Give a call so much time, unless somebody has given it less."""
        given = self.gettimeout()
        if given is not None and given <= seconds:
            yield
            return
        if seconds <= 0:
            raise _too_slow()
        self.settimeout(seconds)
        try:
            yield
        except TimeoutError as error:
            raise _too_slow() from error
        finally:
            self.settimeout(given)


def head_came(sock: socket.socket, collected: Any) -> bool:
    """Add to `collected`, a file in memory, what lies there of a request's head; whether that is the whole head.

    True as well where the caller has hung up, or has sent more than a head: somebody must look at it.
    """
    while _HEAD_END not in (text := collected.getvalue()) and len(text) < HEAD_BYTES:
        try:
            piece = sock.recv(_PIECE_BYTES, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        if not piece:
            return True
        collected.seek(0, os.SEEK_END)
        collected.write(piece)
    return True


def _too_slow() -> ConnectionResetError:
    # Told as what gunicorn expects of callers, and makes no words about.
    return ConnectionResetError(errno.ECONNRESET, "the caller is too slow")
