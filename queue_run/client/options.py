"""The arguments of `connect`, and the check that an attempt can be made with them. Pure."""

import re
import ssl as tls
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

import msgspec

from queue_run.client.tokens import Token, problem
from queue_run.settings.masking import without_password

#: The number of messages that may wait to be taken; beyond it the socket is not read.
INBOX = 10_000
#: Seconds beyond its heartbeat after which a silent server counts as gone.
GRACE = 10.0

#: The name of a header (RFC 9110, 5.6.2), and its value: without line ends and the like.
_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*")


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """The arguments of `connect`, which describes them.

    Raises:
        ValueError: for a value with which every attempt would fail.
    """

    urls: tuple[str, ...]
    token: Token | None
    headers: Mapping[str, str]
    ssl: tls.SSLContext | None
    on_gap: Callable[[], object] | None
    on_connected: Callable[[], object] | None
    on_disconnected: Callable[[], object] | None
    connect_timeout: float | None
    grace: float
    inbox: int

    def __post_init__(self) -> None:
        if not self.urls:
            raise ValueError("name at least one address")
        for url in self.urls:
            _check_address(url)
            if self.ssl is not None and not url.lower().startswith("wss:"):
                raise ValueError(
                    f"ssl is for wss:// alone, not for {without_password(url)!r}: leave it out"
                )
        if self.token is not None and not callable(self.token) and (wrong := problem(self.token)):
            raise ValueError(f"the token cannot be sent: {wrong}")
        for name, value in self.headers.items():
            _check_header(name, value)
        for name in ("on_gap", "on_connected", "on_disconnected"):
            hook = getattr(self, name)
            if hook is not None and not callable(hook):
                raise ValueError(f"{name} is a function, not {hook!r}")
        if self.connect_timeout is not None and not self.connect_timeout > 0:
            raise ValueError(
                f"connect_timeout is a number of seconds above 0, or None, not "
                f"{self.connect_timeout!r}"
            )
        if not self.grace >= 0:
            raise ValueError(f"grace is a number of seconds from 0, not {self.grace!r}")
        if self.inbox < 1:
            raise ValueError(f"inbox is a number of messages from 1 on, not {self.inbox}")


def _check_address(url: object) -> None:
    """Check an address.

    Raises:
        ValueError: for a value that is not the address of a WebSocket.
    """
    wrong = "no text" if not isinstance(url, str) else _fault(url)
    if wrong:
        shown = without_password(url) if isinstance(url, str) else url
        raise ValueError(f"{shown!r} is no address of a WebSocket, ws://host:port/path: {wrong}")


def _fault(url: str) -> str | None:
    if not url.isprintable() or " " in url:
        return "it has white space or control characters"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "its host or port is malformed"
    if parts.scheme not in ("ws", "wss"):
        return "it begins with ws:// or wss://"
    if not parts.hostname:
        return "it has no host"
    if port == 0:
        return "a port is a number from 1 to 65535"
    if parts.fragment:
        return "it has a fragment, which no server sees"
    return None


def _check_header(name: object, value: object) -> None:
    """Check a header.

    Raises:
        ValueError: for a header that cannot be sent; its value may be a secret, and is not shown.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name of a header")
    if not isinstance(value, str):
        raise ValueError(f"the header {name} is text, not {type(value).__name__}")
    if not _VALUE.fullmatch(value):
        raise ValueError(f"the header {name} has line ends or other control characters")
