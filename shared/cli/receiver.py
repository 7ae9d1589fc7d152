"""A receiver of webhooks for the demo: one HTTP server, in a thread, on a free port."""

import queue
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class Received:
    """A call as it came in."""

    body: bytes
    headers: Mapping[str, str]
    at: float


class Receiver:
    """Collects what is posted to it. Use inside `with`."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[Received | None] = queue.SimpleQueue()
        calls = self._calls

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                self.send_response(HTTPStatus.NO_CONTENT)
                self.end_headers()
                headers = {name.lower(): value for name, value in self.headers.items()}
                calls.put(Received(body, headers, time.time()))

            def log_message(self, *_: Any) -> None:
                """Stay silent."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        """Where to post to."""
        return f"http://127.0.0.1:{self._server.server_port}/webhook"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.cancel()
        self._server.shutdown()
        self._server.server_close()

    def wait(self, timeout_s: float) -> Received | None:
        """Return the next call, None where none comes in time or the wait is cancelled."""
        try:
            return self._calls.get(timeout=timeout_s)
        except queue.Empty:
            return None

    def cancel(self) -> None:
        """End a wait in another thread."""
        self._calls.put(None)
