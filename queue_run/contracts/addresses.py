"""Addresses of clients, as limits count them. Pure."""

import ipaddress

#: Bits that the addresses of one client have in common, where they are of IPv6: it has a network
#: at least, and may come from any address in it (RFC 6177).
NETWORK_BITS = 64


def counted_as(address: str) -> str:
    """The text that stands for a client: its IPv4 address, or the network of its IPv6 address.

    Args:
        address: as `ipaddress` writes it; any other text stands for itself.
    """
    if ":" not in address:
        return address
    try:
        network = ipaddress.IPv6Network((address, NETWORK_BITS), strict=False)
    except ValueError:
        return address
    return str(network)
