"""Origins of pages (RFC 6454), in the one form in which they are compared.

Pure. Browsers send an origin in lower case, without the scheme's own port and with international
names in Punycode; people write it in other ways into settings.
"""

import functools
import ipaddress
import re
import unicodedata
from typing import NamedTuple

#: The ports that a scheme has unless another one is named. The schemes of WebSockets stand for
#: those of the pages: some clients send them.
_PORTS = {"http": 80, "https": 443}
_PAGE_SCHEMES = {"ws": "http", "wss": "https"}
#: What browsers send for a page without an origin: a file, a sandbox.
NULL = "null"

_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://([^/?#\s]*)/?", re.IGNORECASE)
_AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\[\]:@]*)(?::([0-9]{1,5}))?")
#: What Unicode's rules for host names take for a dot (UTS 46).
_DOTS = re.compile("[.\u3002\uff0e\uff61]")
_LABEL = re.compile(r"[a-z0-9_-]+")
#: A last label that makes browsers read the whole host as an address of IPv4.
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
#: Their pages have no origin of their own, or the one of who opened them.
_WITHOUT_ORIGIN = frozenset({"about", "blob", "data", "filesystem", "javascript", "mailto"})


class Origin(NamedTuple):
    """Scheme, host and port; as text it is what a browser sends."""

    scheme: str
    host: str
    #: None for the scheme's own, and where a scheme has none.
    port: int | None

    def __str__(self) -> str:
        if self.scheme == NULL:
            return NULL
        port = "" if self.port is None else f":{self.port}"
        return f"{self.scheme}://{self.host}{port}"

    def is_of(self, host: str) -> bool:
        """True if this is the origin of the pages of a host, as the header Host names it.

        Whether these come by http or https only a proxy knows: the origin's own scheme says which
        port goes without saying.
        """
        if self.scheme not in _PORTS or "/" in host:
            return False
        try:
            other = parse(f"{self.scheme}://{host}")
        except InvalidOrigin:
            return False
        return other == self


class InvalidOrigin(ValueError):
    """A text that is no origin; the text says why."""


# A browser sends its page's with each handshake, and there are few pages.
@functools.lru_cache(maxsize=256)
def parse(text: str) -> Origin:
    """The origin that a text names; a slash at its end makes no difference.

    Raises:
        InvalidOrigin: when it names none, and so can be that of no page.
    """
    if text.lower() == NULL:
        return Origin(NULL, "", None)
    found = _ORIGIN.fullmatch(text)
    if found is None:
        raise InvalidOrigin(_why_not(text))
    scheme, authority = found[1].lower(), found[2]
    scheme = _PAGE_SCHEMES.get(scheme, scheme)
    if scheme in _WITHOUT_ORIGIN:
        raise InvalidOrigin(f"what is opened by {scheme}: has no origin of its own")
    if "@" in authority:
        raise InvalidOrigin("an origin has no user and no password")
    if "*" in authority:
        raise InvalidOrigin("a part of an origin cannot be *: name each origin, or only * for all")
    parts = _AUTHORITY.fullmatch(authority)
    if parts is None:
        raise InvalidOrigin("the host or the port is malformed")
    host = _host(parts[1]) if scheme in _PORTS else _bracketed(parts[1].lower())
    if not host and scheme != "file":
        raise InvalidOrigin("an origin has a host")
    return Origin(scheme, host, _port(scheme, parts[2]))


def _why_not(text: str) -> str:
    if "://" not in text:
        return "an origin begins with a scheme, like https://example.com"
    return "an origin ends with its host or port: it has no path, query or white space"


def _port(scheme: str, text: str | None) -> int | None:
    if text is None:
        return None
    port = int(text)
    if not 0 < port <= 65535:
        raise InvalidOrigin("a port is a number from 1 to 65535")
    return None if port == _PORTS.get(scheme) else port


def _host(text: str) -> str:
    """The host of a page of the web: labels in Punycode, addresses in their short form."""
    if text.startswith("["):
        return _bracketed(text)
    labels = _DOTS.split(unicodedata.normalize("NFKC", text.lower()))
    if len(labels) > 1 and not labels[-1]:
        # The dot of the root, which makes no difference.
        labels.pop()
    host = ".".join(map(_label, labels))
    if len(host) > 253:
        raise InvalidOrigin("the host is too long")
    if _NUMBER.fullmatch(labels[-1]) and not _is_address(host):
        raise InvalidOrigin("an address of IPv4 is written as four numbers from 0 to 255")
    return host


def _is_address(host: str) -> bool:
    try:
        ipaddress.IPv4Address(host)
    except ValueError:
        return False
    return True


def _label(text: str) -> str:
    # What cannot be seen browsers leave out, or refuse.
    label = text if text.isascii() else f"xn--{text.encode('punycode').decode()}"
    if not text.isprintable() or not _LABEL.fullmatch(label) or len(label) > 63:
        raise InvalidOrigin("the host or the port is malformed")
    return label


def _bracketed(text: str) -> str:
    """The host unchanged; an address of IPv6 in its short form."""
    if not text.startswith("["):
        return text
    try:
        return f"[{ipaddress.IPv6Address(text[1:-1])}]"
    except ValueError:
        raise InvalidOrigin("the host or the port is malformed") from None
