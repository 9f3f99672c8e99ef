"""The names by which connections, users and requests are known, and how they are made; and what
can be a name at all.

Names come from clients, tokens and applications, and become parts of keys in Redis. So they are
whole characters, and not too many. Any of those characters may be in them: the log escapes what a
terminal would obey.
"""

import operator
import re
import secrets
import uuid
from collections.abc import Iterable, Mapping
from typing import Any, NewType, SupportsIndex

from queue_run.errors import InvalidName

#: `<server id>-<counter>`: the push server's incarnation and the connection's number in it.
ConnectionId = NewType("ConnectionId", str)
UserId = NewType("UserId", str)
#: `<connection id>-<counter>`.
RequestId = NewType("RequestId", str)
#: Bytes of an id, at most: applications make them of what clients send.
MAX_ID_BYTES = 1_024
#: Characters of a wrong value that are shown.
_SHOWN = 100
#: What is no Unicode text where it stands alone.
_HALF_CHARACTER = re.compile("[\ud800-\udfff]")
_QUEUE_NAME = re.compile(r"[\w-]+(\.[\w-]+)*")
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


def check_characters(what: str, text: str) -> None:
    """
    Args:
        what: of which the text is to be the name, as in "user id".

    Raises:
        InvalidName: for half a character (a lone surrogate), which no key in Redis can have.
    """
    if not text.isascii() and _HALF_CHARACTER.search(text):
        raise InvalidName(f"the {what} {_shown(text)} has half a character (a lone surrogate)")


def text_id(what: str, value: object, *, limit: int | None = MAX_ID_BYTES) -> str:
    """An id as text: ints become text.

    Args:
        what: whose it is, for people, as in "user id".
        limit: bytes that it may have; None for an id that is no part of a key as it is.

    Raises:
        InvalidName: for anything but a non-empty text or an int; of text with half a character (a
            lone surrogate), and of too long a one.
    """
    if isinstance(value, str) and value:
        text = plain_text(value)
        check_characters(what, text)
    elif isinstance(value, SupportsIndex) and not isinstance(value, bool):
        # An int, a member of an IntEnum, an integer of numpy.
        text = str(operator.index(value) + 0)
    else:
        raise InvalidName(f"a {what} is a non-empty text or an int, not {_shown(value)}")
    # A character has four bytes at most.
    if limit is not None and len(text) * 4 > limit and (size := len(text.encode())) > limit:
        raise InvalidName(f"a {what} has {limit:,} bytes at most, not {size:,}: {_shown(text)}")
    return text


def user_id(value: object) -> UserId:
    """A user's id as text: ints become text.

    Raises:
        InvalidName: see `text_id`.
    """
    return UserId(text_id("user id", value))


def job_id(value: object) -> str:
    """A job's id as text: that of a Celery task, of whatever length.

    Raises:
        InvalidName: for anything but a non-empty text, an int or a UUID; of text with half a
            character.
    """
    return text_id("job id", str(value) if isinstance(value, uuid.UUID) else value, limit=None)


def queue_name(value: object) -> str:
    """The name of a queue: that of a file, `a.b` for `queues/a/b.py`.

    Raises:
        InvalidName: for what no file of a queue is named.
    """
    if not isinstance(value, str) or not _QUEUE_NAME.fullmatch(value):
        raise InvalidName(
            "a queue is named after its file, with letters, digits, '_' and '-', and dots for "
            f"folders: not {_shown(value)}"
        )
    return plain_text(value)


def _shown(value: object) -> str:
    shown = ascii(value) if isinstance(value, str) and not value.isprintable() else repr(value)
    return shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}…"


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
        TypeError: for a user without an `id`.
        InvalidName: for one that cannot be used.
    """
    if user is None:
        return None
    if not isinstance(user, dict) or "id" not in user:
        raise TypeError('a user is an object with an "id"')
    return user_id(user["id"])
