"""Admission of requests: origins, host names, API keys, and client addresses behind proxies.

Pure: headers in, answers out.
"""

import hmac
import ipaddress
import re
from collections.abc import Sequence
from typing import TypeAlias

from queue_run.settings import api_keys, origins, words
from queue_run.settings.api_keys import ApiKey
from queue_run.settings.origins import InvalidOrigin

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network


class Origins:
    """The pages that may open connections: the server's own, and those on a list."""

    def __init__(self, allowed: str) -> None:
        listed = words(allowed)
        self._all = "*" in listed
        self._allowed = {origins.parse(each) for each in listed if each != "*"}

    def admits(self, origin: str, host: str) -> bool:
        """Tell whether a page of this origin may connect to this host (RFC 6455, 10.2)."""
        if self._all:
            return True
        try:
            parsed = origins.parse(origin)
        except InvalidOrigin:
            return False
        return parsed in self._allowed or parsed.is_of(host)


class Hosts:
    """The names by which this server may be called.

    Any web page can make its own host name lead to this machine (DNS rebinding), and is then of the
    same origin. But the header Host still has the name of the page.
    """

    def __init__(self, allowed: str) -> None:
        names = words(allowed)
        #: Whether any name will do.
        self.any = not names or "*" in names
        self._networks = [_network(each) for each in names if _is_network(each)]
        self._names = {each.strip("[]").rstrip(".").lower() for each in names}

    def admits(self, host: str) -> bool:
        """Tell whether the header Host names this server."""
        if self.any:
            return True
        try:
            name = origins.parse(f"http://{host}").host.strip("[]")
        except InvalidOrigin:
            return False
        address = _address(name)
        if address is not None and any(address in each for each in self._networks):
            return True
        parents = name.split(".")
        return name in self._names or any(
            "." + ".".join(parents[start:]) in self._names for start in range(1, len(parents))
        )


class ApiKeys:
    """The keys of programs, which may push jobs that have no user."""

    def __init__(self, keys: str) -> None:
        self._keys = [(each.key.encode(), each) for each in api_keys.parse(keys)]

    def find(self, authorization: str) -> ApiKey | None:
        """The key that an Authorization header (RFC 6750, 2.1) has; None when it has none.

        All keys are compared, each to its end: the time that this takes tells nothing of a key.
        """
        scheme, _, credentials = authorization.partition(" ")
        if scheme.lower() != "bearer":
            return None
        # Tornado gives the bytes of a header as Latin-1.
        given = credentials.strip().encode("latin-1", "replace")
        found = None
        for secret, key in self._keys:
            if hmac.compare_digest(given, secret):
                found = key
        return found


class Proxies:
    """The proxies that are trusted to name a client's address."""

    def __init__(self, trusted: str) -> None:
        self._networks = [_network(text) for text in words(trusted)]

    def client_address(self, peer: str, forwarded_for: Sequence[str]) -> str:
        """The address of the client behind the proxies that are trusted.

        Args:
            peer: the address at the other end of the socket.
            forwarded_for: what X-Forwarded-For lists; each proxy has added its own peer.
        """
        if not self._networks and ":" not in peer:
            # As most are. An address of IPv4 has one form only.
            return peer
        address = _address(peer)
        if address is None:
            return peer
        if self._networks:
            for claimed in reversed(forwarded_for):
                before = _claimed_address(claimed.strip())
                if before is None or not any(address in each for each in self._networks):
                    break
                address = before
        return str(address)


#: What X-Forwarded-For may say, with a port or without.
_CLAIMED = re.compile(
    r"\[(?P<six>[0-9A-Fa-f:.]+)\](:[0-9]+)?|(?P<four>[0-9.]+)(:[0-9]+)?|(?P<any>.+)"
)


def _claimed_address(text: str) -> Address | None:
    found = _CLAIMED.fullmatch(text)
    return None if found is None else _address(found["six"] or found["four"] or found["any"])


def _address(text: str) -> Address | None:
    """The address that a text names; that of IPv4, where it is only mapped into IPv6."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if "%" in text:
        # A zone says something on this machine alone, and may be any text.
        address = ipaddress.ip_address(text.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _is_network(text: str) -> bool:
    try:
        ipaddress.ip_network(text.strip("[]"), strict=False)
    except ValueError:
        return False
    return True


def _network(text: str) -> Network:
    """The network that a text names; that of IPv4, where it is only mapped into IPv6."""
    network = ipaddress.ip_network(text.strip("[]"), strict=False)
    if isinstance(network, ipaddress.IPv6Network) and network.prefixlen >= 96:
        mapped = network.network_address.ipv4_mapped
        if mapped is not None:
            return ipaddress.IPv4Network((mapped, network.prefixlen - 96))
    return network
