"""The client: a POST that is not redirected, a GET whose redirects are judged one by one."""

import http.client
import socket
import ssl
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from shared.errors import OutboundRefused
from shared.networks import Network
from shared.safe_http.connection import connect, default_tls
from shared.safe_http.deadline import cut_at
from shared.safe_http.exchange import EXCERPT_BYTES, exchange, first_bytes, whole_body
from shared.safe_http.failures import translated
from shared.safe_http.lookup import Resolve, look_up
from shared.safe_http.target import Target, check_url, next_url

#: How often a GET follows a redirect.
MAX_REDIRECTS: Final = 5
REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
#: All that a GET tells of us, on every hop: nothing of a caller's, so there is nothing to carry over.
GET_HEADERS: Final = {"Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": "Darkroom/1"}


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    #: The first bytes of the body, for a person to read.
    body_excerpt: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Download:
    """What was found at the end of the redirects."""

    status: int
    #: Whole; empty unless the status is 200.
    body: bytes


class SafeHttp:
    """The client. One per process; safe for threads, keeps no connection."""

    def __init__(
        self,
        *,
        allow: Sequence[Network] = (),
        resolve: Resolve | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._allow = tuple(allow)
        self._resolve = resolve or look_up
        self._tls = tls or default_tls()

    def post(self, url: str, data: bytes, headers: Mapping[str, str], *, timeout_s: float) -> Answer:
        """Send a POST and return the answer, whatever its status.

        Raises `OutboundRefused` where policy forbids the call, `OutboundFailed` where no answer came in time.
        """
        started = time.monotonic()
        target = check_url(url, self._allow)
        deadline = started + timeout_s
        with self._ask("POST", target, data, headers, deadline) as response:
            answered = {name.lower(): value for name, value in response.getheaders()}
            excerpt = first_bytes(response, EXCERPT_BYTES).decode("utf-8", "replace")
        return Answer(response.status, answered, excerpt, time.monotonic() - started)

    def get(self, url: str, *, media_types: Sequence[str], max_bytes: int, timeout_s: float) -> Download:
        """Fetch what a URL names, following redirects.

        `media_types` are beginnings of the content types that are taken; an answer without one is taken too.

        Raises `OutboundRefused` where policy forbids the call or the answer (too many redirects, from https to http,
        another content type, an encoded body, too many bytes), `OutboundFailed` where no whole answer came in time.
        """
        deadline = time.monotonic() + timeout_s
        for _ in range(1 + MAX_REDIRECTS):
            target = check_url(url, self._allow)
            with self._ask("GET", target, None, GET_HEADERS, deadline) as response:
                location = response.getheader("Location")
                if response.status not in REDIRECTS or location is None:
                    found = response.status == HTTPStatus.OK
                    return Download(response.status, whole_body(response, media_types, max_bytes) if found else b"")
            url = next_url(url, location)
        raise OutboundRefused(f"The URL redirects more than {MAX_REDIRECTS} times.")

    @contextmanager
    def _ask(
        self, method: str, target: Target, data: bytes | None, headers: Mapping[str, str], deadline: float
    ) -> Iterator[http.client.HTTPResponse]:
        with (
            translated(),
            closing(self._connect(target, deadline)) as sock,
            cut_at(deadline, sock),
            closing(exchange(sock, method, target, data, headers)) as response,
        ):
            yield response

    def _connect(self, target: Target, deadline: float) -> socket.socket:
        return connect(target, deadline, allow=self._allow, resolve=self._resolve, tls=self._tls)
