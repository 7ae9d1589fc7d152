"""A URL, taken apart once and judged as far as that goes without looking anything up."""

import socket
import string
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, urljoin

from urllib3.exceptions import LocationParseError
from urllib3.util import parse_url

from shared.errors import OutboundRefused
from shared.networks import Address, Network, is_permitted, parse_address

DEFAULT_PORTS: Final = {"http": 80, "https": 443}
FIRST_UNPRIVILEGED_PORT: Final = 1024


@dataclass(frozen=True, slots=True)
class Target:
    """A URL, taken apart once: what is checked is what is called."""

    scheme: str
    #: A name or an address, without brackets.
    host: str
    port: int
    request_uri: str

    @property
    def host_header(self) -> str:
        """What the receiver is called by."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"


def check_url(url: str, allow: Sequence[Network] = ()) -> Target:
    """Take a URL apart, or raise `OutboundRefused`. Looks up no name: addresses are judged when the call is made.

    What can be told without a lookup is told here: the form, the port, literal addresses in every notation
    (127.1, 0x7f000001), and names that always mean this machine.
    """
    try:
        parts = parse_url(url)
    except LocationParseError as error:
        raise OutboundRefused("This is not a URL.") from error
    if parts.scheme not in DEFAULT_PORTS:
        raise OutboundRefused("Only http:// and https:// URLs can be called.")
    if not parts.host:
        raise OutboundRefused("The URL names no host.")
    if parts.auth is not None:
        raise OutboundRefused("The URL must not hold credentials.")
    port = DEFAULT_PORTS[parts.scheme] if parts.port is None else parts.port
    if port not in DEFAULT_PORTS.values() and port < FIRST_UNPRIVILEGED_PORT:
        raise OutboundRefused(f"Port {port} is not called: only 80, 443 and those from 1024 up are.")
    target = Target(parts.scheme, parts.host.strip("[]"), port, parts.request_uri)
    literal = literal_addresses(target)
    if literal and not any(is_permitted(address, allow) for address in literal):
        raise OutboundRefused
    return target


def is_https(url: str) -> bool:
    """Whether a URL asks for TLS."""
    return url[:8].lower() == "https://"


def is_allowed(url: str, allow: Sequence[Network]) -> bool:
    """Whether a URL's host is an address inside `allow`; a name is not, whatever it may resolve to."""
    literal = literal_addresses(check_url(url, allow))
    return bool(literal) and all(any(address in network for network in allow) for address in literal)


def literal_addresses(target: Target) -> list[Address]:
    """Return the address a host spells out, in any notation the system would understand; empty for a name."""
    host = target.host.rstrip(".")  # dots that end a name change nothing about what it means
    if host == "localhost" or host.endswith(".localhost"):
        return [parse_address("127.0.0.1"), parse_address("::1")]
    try:
        found = socket.getaddrinfo(host, target.port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except (OSError, ValueError):
        return []
    return [parse_address(str(address[0])) for *_, address in found]


def next_url(url: str, location: str) -> str:
    """Return where a redirect leads. What was asked for over TLS is not fetched in the clear."""
    try:
        # Bytes outside ASCII, which http.client reads as latin-1, go back as they came.
        following = urljoin(url, quote(location.encode("latin-1"), safe=string.punctuation))
    except ValueError as error:
        raise OutboundRefused("The URL redirects to what is no URL.") from error
    if url.lower().startswith("https:") and following.lower().startswith("http:"):
        raise OutboundRefused("The URL redirects from https to http.")
    return following
