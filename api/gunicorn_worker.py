"""gunicorn's threaded worker, with one connection's farewell kept out of everybody's way."""

from typing import Any

from gunicorn.workers.gthread import TConn, ThreadWorker  # type: ignore[import-untyped]


class Worker(ThreadWorker):
    """Closes a connection in the thread that served it.

    gunicorn (27.0) does so in its main loop, where it waits up to 2 s for the other side to close too: one caller who
    does not would hold up all others.
    """

    def handle(self, conn: TConn) -> Any:
        """Serve a request; the result is False where the connection is done with."""
        result = super().handle(conn)
        if result is False:
            conn.close(graceful=True)
            conn.close = _closed_already
        return result


def _closed_already(graceful: bool = False) -> None:  # noqa: FBT001, FBT002 - gunicorn's signature
    pass
