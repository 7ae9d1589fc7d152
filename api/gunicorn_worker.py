"""gunicorn's threaded worker, with slow callers and one connection's farewell kept out of everybody's way."""

import time
from typing import Any

# It has no types; `_DEFER` is how it keeps a connection without a thread, and has no public name.
from gunicorn.workers.gthread import _DEFER, TConn, ThreadWorker  # type: ignore[import-untyped]

from api.callers import HEAD_S, CallerSocket, head_came


class Worker(ThreadWorker):
    """Gives no thread to a request before its head is there, and closes a connection in the thread that served it.

    gunicorn (27.0) reads a head in a thread, for as long as that takes: as many callers as there are threads, each
    with half a line, would hold up all others. And it closes in its main loop, where it waits up to 2 s for the other
    side to close too.
    """

    def handle(self, conn: TConn) -> Any:
        """Serve a request; the result is False where the connection is done with."""
        try:
            came = _head_came(conn)
        except OSError:  # it is gone
            return _close(conn, graceful=False)
        if not came:
            # The rest is waited for without a thread, for a while.
            return _DEFER if self.alive and not _is_late(conn) else _close(conn, graceful=False)
        result = super().handle(conn)
        return _close(conn, graceful=True) if result is False else result


def _head_came(conn: TConn) -> bool:
    if conn.cfg.is_ssl or conn.is_http2:  # the deployments have neither: TLS is the proxy's
        return True
    if not conn.initialized:
        conn.sock = CallerSocket.over(conn.sock)
        conn.head_since = None
        conn.init()
    collected = conn.parser.unreader.buf
    if head_came(conn.sock, collected):
        conn.head_since = None
        conn.sock.begin()
        return True
    if conn.head_since is None and collected.getvalue():
        conn.head_since = time.monotonic()
    return False


def _is_late(conn: TConn) -> bool:
    return conn.head_since is not None and time.monotonic() - conn.head_since > HEAD_S


def _close(conn: TConn, *, graceful: bool) -> bool:
    conn.close(graceful=graceful)
    conn.close = _closed_already
    return False


def _closed_already(graceful: bool = False) -> None:  # noqa: FBT001, FBT002 - gunicorn's signature
    pass
