"""Secrets that stand in URLs: they must be in no log, no error and no `repr`.

Pure. The rule of this file: where it is unclear what is a password, more is hidden, not less. A URL
with a mistake in it has a secret in it all the same.
"""

import re
from collections.abc import Iterator
from urllib.parse import quote, unquote

MASK = "***"

#: What the name of a parameter is like that carries a secret.
_SECRET_NAME = re.compile(
    r"pass|pwd|secret|token|credential|api_?key|access_?key|signature|auth|(^|_)(pw|key)$", re.I
)
#: The name of a parameter, and what is before its value.
_PARAMETER = re.compile(r"(?:^|[?&;,\s#])([^?&;,\s#=@/:]{1,100})=")
#: Where the value of one ends: at the next one. An & that begins none is a part of the value which
#: somebody has forgotten to quote.
_NEXT_PARAMETER = re.compile(r"&(?=[^&=]*=)|$")
#: How a value begins that has names and values of its own.
_NESTED = ("{", "%7B", "%7b")
#: Where one URL of several ends: brokers of a failover are listed so.
_NEXT_URL = re.compile(r"([;,\s]+)(?=[A-Za-z][A-Za-z0-9+.-]{0,30}://)")
#: A URL whose host was forgotten: in the place of its port stands a text that is not a port.
_NO_PORT = re.compile(
    r"([A-Za-z][A-Za-z0-9+.-]{0,30}://[^:@/?#\[\]]*:)(?!\d{1,5}(?:\W|$))([^@/?#]+)"
)
#: Characters of a scheme, at most.
_LONGEST_SCHEME = 30
#: A secret that is shorter is hidden where it stands in a URL alone: anywhere else the same letters
#: may mean something else.
SHORTEST_SECRET = 6


class SecretUrl(str):
    """A URL whose `repr` has no password in it: for settings that others print."""

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(without_password(self))


def without_password(url: str) -> str:
    """A URL, or several, fit for a log: also one that nothing could parse."""
    return "".join(
        part if index % 2 else _without_password(_without_port(part))
        for index, part in enumerate(_NEXT_URL.split(url))
    )


def masked(text: str) -> str:
    """Any text, with the passwords of the URLs in it hidden."""
    at = text.find("://")
    if at < 0:
        return text
    parts, done = [], 0
    while at >= 0:
        start = _start_of_scheme(text, at, done)
        end = _end_of_url(text, at)
        parts += [text[done:start], without_password(text[start:end])]
        done, at = end, text.find("://", end)
    return "".join((*parts, text[done:]))


def secrets_in(url: str) -> set[str]:
    """The passwords in a URL, or in several, in each form in which something may show them."""
    found: set[str] = set()
    for part in _NEXT_URL.split(url)[::2]:
        _, mark, rest = part.partition("://")
        userinfo, at, _ = (rest if mark else part).rpartition("@")
        if at:
            found.add(userinfo.partition(":")[2])
        elif no_port := _NO_PORT.match(part):
            found.add(no_port[2])
        found |= {part[start:end] for start, end in _secret_parameters(part)}
    plain = found | {unquote(each) for each in found}
    return {each for each in plain | {quote(each, safe="") for each in plain} if each}


def _without_port(url: str) -> str:
    """Mask the text in the place of a URL's port that is not a port.

    A URL with an @ stays as it is: its user is hidden in any case.
    """
    return url if "@" in url else _NO_PORT.sub(lambda found: f"{found[1]}{MASK}", url, count=1)


def _without_password(url: str) -> str:
    scheme, mark, rest = url.partition("://")
    if not mark:
        scheme, rest = "", url
    head, question, query = rest.partition("?")
    hidden = _without_parameters(f"{question}{query}")
    user, colon, _ = head.partition(":")
    if "@" in hidden:
        # Either of a parameter, or the password has a question mark in it.
        shown = f"{user}:{MASK}@{hidden.rpartition('@')[2]}"
    elif "@" in query:
        shown = f"{user}{colon and f':{MASK}'}{hidden}"
    elif "@" in head:
        shown = f"{_without_userinfo(head, bare=not mark)}{hidden}"
    else:
        shown = f"{_without_parameters(head)}{hidden}"
    return f"{scheme}{mark}{shown}"


def _without_userinfo(head: str, *, bare: bool) -> str:
    userinfo, _, host = head.rpartition("@")
    user, colon, _ = userinfo.partition(":")
    if colon:
        return f"{user}:{MASK}@{host}"
    # Without a scheme nobody knows whether it is a name or a password.
    return f"{MASK}@{host}" if bare else head


def _without_parameters(text: str) -> str:
    parts, done = [], 0
    for start, end in _secret_parameters(text):
        parts += [text[done:start], MASK]
        done = end
    return "".join((*parts, text[done:]))


def _secret_parameters(text: str) -> Iterator[tuple[int, int]]:
    """Find the values of parameters that are secrets, or may hold some: start and end of each."""
    at = 0
    while found := _PARAMETER.search(text, at):
        at = found.end()
        nested = text.startswith(_NESTED, at)
        if not nested and not _is_secret(found[1]):
            continue
        end = _NEXT_PARAMETER.search(text, at)
        assert end is not None
        if _is_secret(found[1]) or _SECRET_NAME.search(unquote(text[at : end.start()])):
            yield at, end.start()
        at = end.start()


def _is_secret(name: str) -> bool:
    return _SECRET_NAME.search(unquote(name)) is not None


def _start_of_scheme(text: str, at: int, done: int) -> int:
    start = at
    while start > max(done, at - _LONGEST_SCHEME) and (
        text[start - 1].isalnum() or text[start - 1] in "+.-"
    ):
        start -= 1
    return start


def _end_of_url(text: str, at: int) -> int:
    """Find the end of a URL: the position of the next white space, or the end of the text."""
    found = re.compile(r"\s").search(text, at)
    return len(text) if found is None else found.start()
