"""A socket that is connected to a judged address."""

import socket
import ssl
from collections.abc import Sequence
from typing import Final

import certifi

from shared.errors import OutboundRefused
from shared.networks import Address, Network, is_permitted
from shared.safe_http.deadline import left
from shared.safe_http.failures import OutboundFailed
from shared.safe_http.lookup import Resolve
from shared.safe_http.target import Target, literal_addresses

#: Longest wait for a name's addresses, and for one address to accept a connection.
LOOKUP_S: Final = 5.0
CONNECT_S: Final = 5.0
#: Of a name's permitted addresses, how many are tried.
ADDRESSES_TRIED: Final = 3


def connect(
    target: Target, deadline: float, *, allow: Sequence[Network], resolve: Resolve, tls: ssl.SSLContext
) -> socket.socket:
    """Return a socket connected to a permitted address, with TLS where the scheme asks for it.

    Raises `OutboundRefused` where none of the addresses is permitted.
    """
    addresses = literal_addresses(target) or resolve(target.host, target.port, min(LOOKUP_S, left(deadline)))
    permitted = [address for address in addresses if is_permitted(address, allow)]
    if not permitted:
        raise OutboundRefused
    sock = _first_connection(permitted[:ADDRESSES_TRIED], target.port, deadline)
    sock.settimeout(left(deadline))
    if target.scheme == "http":
        return sock
    try:
        # Server name and certificate are those of the URL, not of the address.
        return tls.wrap_socket(sock, server_hostname=target.host)
    except BaseException:
        sock.close()
        raise


def default_tls() -> ssl.SSLContext:
    """Trust what the system trusts (and SSL_CERT_FILE names), and what a slim image may lack."""
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context


def _first_connection(addresses: Sequence[Address], port: int, deadline: float) -> socket.socket:
    refusal: OSError | None = None
    for address in addresses:
        timeout_s = min(CONNECT_S, left(deadline))
        try:
            return socket.create_connection((str(address), port), timeout=timeout_s)
        except OSError as error:
            refusal = error
    raise OutboundFailed("The connection could not be made.") from refusal
