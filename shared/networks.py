"""Which addresses are the public internet's, and which lead inward."""

from collections.abc import Sequence
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import Final

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

#: Not public although `ipaddress` in some Python that we support says so, or public in name only.
INWARD: Final[tuple[Network, ...]] = tuple(
    ip_network(network)
    for network in (
        "100.64.0.0/10",  # shared with the provider; its metadata services live there too
        "168.63.129.16/32",  # a cloud's own agent, on a public address
        "192.0.0.0/24",  # protocol assignments, with a cloud's metadata service
        "192.88.99.0/24",  # 6to4 relays
        "2001::/23",  # protocol assignments, Teredo, ORCHID
        "2001:db8::/32",  # documentation
        "3fff::/20",  # documentation
    )
)
#: All public IPv6 unicast lies here: outside are loopback, private, link-local, multicast, mapped and NAT64.
GLOBAL_UNICAST: Final = IPv6Network("2000::/3")
SIX_TO_FOUR: Final = IPv6Network("2002::/16")
#: Prefixes whose last 32 bits are an IPv4 address.
CARRIES_IPV4: Final = tuple(
    IPv6Network(network)
    for network in (
        "::/96",  # IPv4-compatible
        "::ffff:0:0/96",  # IPv4-mapped
        "::ffff:0:0:0/96",  # IPv4-translated
        "64:ff9b::/96",  # NAT64
        "64:ff9b:1::/48",  # NAT64, local
    )
)


def parse_address(text: str) -> Address:
    """Return the address, without an IPv6 zone."""
    return ip_address(text.partition("%")[0])


def is_permitted(address: Address, allow: Sequence[Network] = ()) -> bool:
    """Whether a caller's URL may lead to the address: it is public, or inside one of `allow`.

    An IPv6 address that carries an IPv4 one is never public; where `allow` names it, the carried one must be permitted
    too, so that allowing NAT64 does not open private networks behind it.
    """
    allowed = any(address in network for network in allow)
    carried = carried_ipv4(address)
    if carried is not None:
        return allowed and is_permitted(carried, allow)
    return allowed or _is_public(address)


def carried_ipv4(address: Address) -> IPv4Address | None:
    """Return the IPv4 address that an IPv6 one stands for, if it does."""
    if isinstance(address, IPv4Address) or address.is_loopback or address.is_unspecified:
        return None
    if address in SIX_TO_FOUR:
        return address.sixtofour
    if any(address in network for network in CARRIES_IPV4):
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return None


def _is_public(address: Address) -> bool:
    if not address.is_global or address.is_multicast or address.is_reserved:
        return False
    if any(address in network for network in INWARD):
        return False
    return isinstance(address, IPv4Address) or address in GLOBAL_UNICAST
