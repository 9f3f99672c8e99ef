"""Who may come in: origins, API keys, and the address of a client behind proxies.

Pure: headers in, answers out.
"""

import hmac
import ipaddress
from collections.abc import Sequence
from urllib.parse import urlsplit

from queue_run import api_keys
from queue_run.api_keys import ApiKey
from queue_run.settings import words


class Origins:
    """The pages that may open connections: the server's own, and those on a list."""

    def __init__(self, allowed: str) -> None:
        self._allowed = {origin.lower().rstrip("/") for origin in words(allowed)}

    def admits(self, origin: str, host: str) -> bool:
        """Whether a page of this origin may connect to this host (RFC 6455, 10.2)."""
        if "*" in self._allowed:
            return True
        parts = urlsplit(origin.lower())
        if f"{parts.scheme}://{parts.netloc}" in self._allowed:
            return True
        return bool(parts.netloc) and parts.netloc == host.lower()


class ApiKeys:
    """The keys of programs that may push jobs for nobody in particular."""

    def __init__(self, keys: str) -> None:
        self._keys = [(each.key.encode(), each) for each in api_keys.parse(keys)]

    def find(self, authorization: str) -> ApiKey | None:
        """The key that an Authorization header (RFC 6750, 2.1) has; None when it has none.

        How long it takes says nothing of a key: all of them are compared, each to its end.
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
    """The proxies whose word on a client's address is believed."""

    def __init__(self, trusted: str) -> None:
        self._networks = [ipaddress.ip_network(text, strict=False) for text in words(trusted)]

    def client_address(self, peer: str, forwarded_for: Sequence[str]) -> str:
        """The address of the client behind the proxies that are trusted.

        Args:
            peer: who is connected.
            forwarded_for: what X-Forwarded-For lists; each proxy has added its own peer.
        """
        if not self._networks:
            return peer
        address = peer
        for claimed in reversed([each.strip() for each in forwarded_for]):
            if not self._trusts(address) or not _is_address(claimed):
                break
            address = claimed
        return address

    def _trusts(self, address: str) -> bool:
        if not _is_address(address):
            return False
        parsed = ipaddress.ip_address(address)
        return any(parsed in network for network in self._networks)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
