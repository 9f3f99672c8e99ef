"""Entries that were found among our messages and cannot be read: logged, and set aside.

A list in Redis keeps the newest of them, `<namespace>:unreadable`, so that a bad message neither
ends a worker nor holds up others, and yet is there to be looked at.
"""

import hashlib
import logging
import time
from collections.abc import Iterable
from typing import Any

import msgspec
import redis
from redis.exceptions import RedisError

from queue_run.storage.script_files import load

log = logging.getLogger(__name__)

#: Entries that the list holds, and characters of each: 16 MB in all, about.
MOST_KEPT = 1000
LONGEST_KEPT = 16 * 1024
#: Characters that a line of the log shows.
LONGEST_SHOWN = 200
#: Characters of a reason: it may quote what it is about.
LONGEST_REASON = 300
#: Hexadecimal digits of an entry's id.
ID_DIGITS = 12

_KEEP = load("broker/keep_unreadable")


class SetAside(msgspec.Struct, frozen=True, kw_only=True, rename={"source": "from"}):
    """An entry of the list.

    Its id is made of its text: entries that are the same byte by byte are one.
    """

    id: str
    #: Unix time, by the clock of the process that set it aside.
    at: float
    #: Where it lay, for example the Celery queue.
    source: str
    reason: str
    #: Of the data, whole: bytes, or characters of a text.
    length: int
    #: The beginning of the data.
    data: str


def entry(data: bytes | str, *, source: str, reason: object) -> str:
    """Encode what the list keeps of something that cannot be read, as JSON.

    Args:
        source: where it lay, for example the Celery queue.
        reason: why it cannot be read.
    """
    text = _text(data)
    kept = {
        "at": round(time.time(), 3),
        "from": source,
        "reason": _why(reason),
        "length": len(data),
        "data": text[:LONGEST_KEPT],
    }
    return msgspec.json.encode(kept).decode()


def tell(data: bytes | str, *, source: str, reason: object, key: str) -> None:
    """Log what is set aside in the list `key`: one line, whatever it contains."""
    log.error(
        "what lay in %s cannot be read (%s) and is set aside in the Redis list %s: %s",
        *(source, _why(reason), key, excerpt(data)),
        extra={"action": "unreadable"},
    )


def excerpt(data: bytes | str) -> str:
    """The beginning of something that may be anything, fit for one line of a log."""
    text = _text(data[: LONGEST_SHOWN + 1])
    more = "" if len(data) <= LONGEST_SHOWN else f"… ({len(data):,} in all)"
    return f"{text[:LONGEST_SHOWN]!r}{more}"


def set_aside(
    client: "redis.Redis", key: str, data: bytes | str, *, source: str, reason: object
) -> None:
    """Log it and keep it in the list `key`, where nothing else is to be changed with it.

    Never raises: where Redis is away, the line in the log is what is left.
    """
    tell(data, source=source, reason=reason, key=key)
    try:
        kept = entry(data, source=source, reason=reason)
        client.eval(*_KEEP.given([key], [kept, str(MOST_KEPT - 1)]))
    except (RedisError, OSError) as error:
        log.error("it could not be set aside: %s", error)


def newest(client: "redis.Redis", key: str) -> list[SetAside]:
    """The entries of the list `key`, the newest first.

    Raises:
        redis.exceptions.RedisError: when Redis does not answer.
    """
    return [_entry_of(text) for text in _texts(client, key)]


def drop(client: "redis.Redis", key: str, ids: Iterable[str]) -> set[str]:
    """Remove entries from the list `key`; the ids of those that were there.

    Raises:
        redis.exceptions.RedisError: when Redis does not answer.
    """
    wanted, dropped = set(ids), set()
    for text in _texts(client, key):
        # A text that is no UTF-8 is taken as it is, too, whatever the stub says.
        if (found := _id_of(text)) in wanted and client.lrem(key, 0, text):  # type: ignore[arg-type]
            dropped.add(found)
    return dropped


def _texts(client: "redis.Redis", key: str) -> list[bytes]:
    found: Any = client.lrange(key, 0, -1)
    # Of a client that decodes, too.
    return [text if isinstance(text, bytes) else text.encode() for text in found]


def _entry_of(text: bytes) -> SetAside:
    try:
        fields = msgspec.json.decode(text, type=dict[str, Any])
        return msgspec.convert({**fields, "id": _id_of(text)}, SetAside)
    except msgspec.MsgspecError as error:
        # Somebody else has written there: it is shown, and can be dropped.
        reason = _why(f"this entry of the list is none of ours: {error}")
        return SetAside(
            id=_id_of(text),
            at=0.0,
            source="an unknown place",
            reason=reason,
            length=len(text),
            data=_text(text)[:LONGEST_KEPT],
        )


def _id_of(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()[:ID_DIGITS]


def _text(data: bytes | str) -> str:
    if isinstance(data, bytes):
        return data.decode(errors="backslashreplace")
    # Half a surrogate pair has no form in UTF-8.
    return data.encode(errors="backslashreplace").decode()


def _why(reason: object) -> str:
    text = str(reason) if isinstance(reason, str) else f"{type(reason).__name__}: {reason}"
    return repr(_text(text[:LONGEST_REASON]))[1:-1]
