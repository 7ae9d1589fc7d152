"""One bound in time for a whole call."""

import http.client
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress


def left(deadline: float) -> float:
    """Return the seconds until a deadline; `TimeoutError` where it has passed."""
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise TimeoutError
    return seconds


@contextmanager
def cut_at(deadline: float, sock: socket.socket) -> Iterator[None]:
    """Shut the connection at the deadline: a socket's own time-out starts anew with every byte that drips in."""
    expired = threading.Event()

    def cut() -> None:
        expired.set()
        with suppress(OSError):  # closed already
            # Below TLS, whose own farewell could wait for the other side.
            socket.socket.shutdown(sock, socket.SHUT_RDWR)

    timer = threading.Timer(left(deadline), cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    except (OSError, http.client.HTTPException) as error:
        if expired.is_set():
            raise TimeoutError from error
        raise
    finally:
        timer.cancel()
    if expired.is_set():  # a body of unknown length looks complete when it is cut
        raise TimeoutError
