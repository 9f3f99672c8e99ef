"""What somebody has left where our messages lie, and nobody can read: logged, and set aside.

A list in Redis keeps the newest of them, `<namespace>:unreadable`, so that a bad message neither
ends a worker nor holds up others, and yet is there to be looked at.
"""

import logging
import time

import msgspec
import redis
from redis.exceptions import RedisError

log = logging.getLogger(__name__)

#: Entries that the list holds, and characters of each: 16 MB in all, about.
MOST_KEPT = 1000
LONGEST_KEPT = 16 * 1024
#: Characters that a line of the log shows.
LONGEST_SHOWN = 200
#: Characters of a reason: it may quote what it is about.
LONGEST_REASON = 300


def entry(data: bytes | str, *, source: str, reason: object) -> str:
    """What the list keeps of something that cannot be read, as JSON.

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
        with client.pipeline() as pipe:
            pipe.lpush(key, entry(data, source=source, reason=reason))
            pipe.ltrim(key, 0, MOST_KEPT - 1)
            pipe.execute()
    except (RedisError, OSError) as error:
        log.error("it could not be set aside: %s", error)


def _text(data: bytes | str) -> str:
    if isinstance(data, bytes):
        return data.decode(errors="backslashreplace")
    # Half a surrogate pair has no form in UTF-8.
    return data.encode(errors="backslashreplace").decode()


def _why(reason: object) -> str:
    text = str(reason) if isinstance(reason, str) else f"{type(reason).__name__}: {reason}"
    return repr(_text(text[:LONGEST_REASON]))[1:-1]
