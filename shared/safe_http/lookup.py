"""From a name to its addresses."""

import queue
import socket
import threading
from collections.abc import Callable, Sequence

from shared.networks import Address, parse_address
from shared.safe_http.failures import OutboundFailed

#: (host, port, timeout in seconds) -> its addresses, best first. Raises `OutboundFailed`.
Resolve = Callable[[str, int, float], Sequence[Address]]


def look_up(host: str, port: int, timeout_s: float) -> Sequence[Address]:
    """Ask the system's resolver, in a thread: it has no time-out of its own."""
    answers: queue.SimpleQueue[list[Address] | Exception] = queue.SimpleQueue()

    def ask() -> None:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
            answers.put([parse_address(str(address[0])) for *_, address in found])
        except (OSError, ValueError) as error:  # ValueError: a label too long to look up
            answers.put(error)

    threading.Thread(target=ask, name="look-up", daemon=True).start()
    try:
        answer = answers.get(timeout=timeout_s)
    except queue.Empty:
        raise OutboundFailed("Looking up the host's name took too long.") from None
    if isinstance(answer, Exception):
        raise OutboundFailed("The host's name is not known.") from answer
    return answer
