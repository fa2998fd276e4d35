"""Which addresses the gateway may fetch from on somebody's behalf: those of the public internet."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_UNICAST = IPv6Network("2000::/3")
_TRANSLATED = IPv6Network("64:ff9b::/96")
_NOT_PUBLIC_IN_TRUTH = (
    IPv4Network("192.88.99.0/24"),  # relays of 6to4
    IPv4Network(
        "168.63.129.16/32"
    ),  # a cloud's own service, for its machines alone, behind what looks like anybody's address
)


def is_permitted(text: str, permitted: Sequence[Network] = ()) -> bool:
    """Whether a numeric address is public or in one of the networks that are permitted all the same.

    An IPv6 address that stands for an IPv4 address is judged as that.
    """
    try:
        address = _true_address(ip_address(text.partition("%")[0]))
    except ValueError:
        return False
    return any(address in network for network in permitted) or is_public(address)


def is_public(address: Address) -> bool:
    """Whether an address belongs to the public internet: not private, shared, loopback, link-local, multicast or reserved."""
    if isinstance(address, IPv6Address) and address not in _UNICAST:
        return False
    if any(address in network for network in _NOT_PUBLIC_IN_TRUTH):
        return False
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)


def _true_address(address: Address) -> Address:
    """The IPv4 address within an IPv6 one (mapped, 6to4, NAT64), where there is one."""
    if isinstance(address, IPv4Address):
        return address
    if address in _TRANSLATED:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address
