"""The names by which connections, users and requests are known, and how they are made."""

import operator
import re
import secrets
from collections.abc import Iterable, Mapping
from typing import Any, NewType, SupportsIndex

#: `<server id>-<counter>`: the push server's incarnation and the connection's number in it.
ConnectionId = NewType("ConnectionId", str)
UserId = NewType("UserId", str)
#: `<connection id>-<counter>`.
RequestId = NewType("RequestId", str)
#: What is no Unicode text where it stands alone.
_HALF_CHARACTER = re.compile("[\ud800-\udfff]")
#: One start of a push server process.
ServerId = NewType("ServerId", str)


def new_server_id() -> ServerId:
    return ServerId(secrets.token_hex(5))


def server_of(connection: ConnectionId) -> ServerId:
    """The push server that holds the connection."""
    return ServerId(connection.rpartition("-")[0])


def server_of_request(request: RequestId) -> ServerId:
    """The push server that took the request."""
    return server_of(ConnectionId(request.rpartition("-")[0]))


def plain_text(text: str) -> str:
    """The text itself of a member of an enum, a text of numpy and the like: envelopes take these
    for what they are not."""
    return text if type(text) is str else str.__str__(text)


def user_id(value: object) -> UserId:
    """A user's id as text: ints become text.

    Raises:
        TypeError: for anything but a non-empty text or an int; of text with half a character (a
            lone surrogate), which no key in Redis can have.
    """
    if isinstance(value, str) and value:
        text = plain_text(value)
        if not text.isascii() and _HALF_CHARACTER.search(text):
            raise TypeError(f"the user id {text!r} has half a character (a lone surrogate)")
        return UserId(text)
    if isinstance(value, SupportsIndex) and not isinstance(value, bool):
        # An int, a member of an IntEnum, an integer of numpy.
        return UserId(str(operator.index(value) + 0))
    raise TypeError(f"a user id is a non-empty text or an int, not {value!r}")


def user_ids(users: str | int | Iterable[str | int]) -> list[UserId]:
    """One id or any iterable of ids as a list of texts, each once, in the order given."""
    if isinstance(users, str) or not isinstance(users, Iterable):
        return [user_id(users)]
    if isinstance(users, bytes | bytearray | Mapping):
        # Iterable too, but over bytes and field names.
        raise TypeError(f"users are one id or several, not {type(users).__name__}: name the id")
    return list(dict.fromkeys(user_id(each) for each in users))


def id_of_user(user: Any) -> UserId | None:
    """The id of what `on_authenticate` returned; None for an anonymous user.

    Raises:
        TypeError: for a user without a usable `id`.
    """
    if user is None:
        return None
    if not isinstance(user, dict) or "id" not in user:
        raise TypeError('a user is an object with an "id"')
    return user_id(user["id"])
