"""The longest silence of a link: the rule for every link to Redis, and to the broker.

A link can die without an end: a host vanishes, a firewall forgets the connection. Then nothing
comes any more, and nothing says so. Therefore:

    Whoever waits for an answer waits for a limited time, drops the link when it is over, and asks
    again over a new one. The limit is half of the time for which it is patient, at most, so that a
    dead link costs no more than the other half.

Where nobody waits for anything, the kernel looks after the link (`KEEPALIVE`).

A node may also answer that it does not do its part now: it loads its data, has become a replica,
cannot write to its disk. Then the address may stand for another node meanwhile: the link is dropped
and opened anew, and whoever asked sees a connection error (`Unready`), which everybody waits out.
"""

import functools
import logging
import re
import socket
import threading
from typing import Any

from redis import ConnectionError as RedisConnectionError
from redis import Redis, RedisError
from redis import TimeoutError as RedisTimeoutError
from redis.connection import Connection
from redis.exceptions import (
    AskError,
    BusyLoadingError,
    ClusterDownError,
    ReadOnlyError,
    TryAgainError,
)

from queue_run.storage.fullness import is_full

log = logging.getLogger(__name__)

#: What a command raises when Redis did not do it, or may not have done it.
FAILURES = (RedisError, OSError)
#: Seconds that an answer, or a new link, may take; less where somebody has less patience.
LONGEST_ANSWER = 2.5
#: Seconds between two looks at a link on which nobody waits for anything.
PROBE_INTERVAL = 2.0

#: What the kernel does about a silent peer, by the names of TCP options: it asks after some seconds
#: of silence, and then again; and it waits so many milliseconds until what was sent has arrived.
_WANTED = {
    "TCP_KEEPIDLE": 4,
    "TCP_KEEPINTVL": 2,
    "TCP_KEEPCNT": 2,
    "TCP_USER_TIMEOUT": 8_000,
}
#: The same as this platform takes it. Not all have all of them.
KEEPALIVE: dict[int, int] = {
    getattr(socket, name): value for name, value in _WANTED.items() if hasattr(socket, name)
}


def longest_answer(patience: float) -> float:
    """Seconds that one answer may take, where somebody waits for so many."""
    return min(LONGEST_ANSWER, patience / 2)


def redis_options(url: str, *, timeout: float | None, connect_timeout: float) -> dict[str, Any]:
    """The options of redis-py for a link, beside its URL.

    Args:
        timeout: seconds that an answer may take; None where the caller has a limit of its own.
        connect_timeout: seconds.
    """
    limits: dict[str, Any] = {"socket_timeout": timeout, "socket_connect_timeout": connect_timeout}
    if not url.startswith("unix:"):
        limits |= {"socket_keepalive": True, "socket_keepalive_options": KEEPALIVE}
    return limits


#: What such an answer begins with; and the classes by which redis-py knows some of them.
UNREADY = frozenset(
    (
        *("READONLY", "LOADING", "MASTERDOWN", "MISCONF", "UNBLOCKED", "BUSY", "TRYAGAIN"),
        *("CLUSTERDOWN", "NOREPLICAS", "MOVED", "ASK"),
    )
)
#: Redis 6.2 puts the answer that a command of a script had behind words of its own.
_IN_SCRIPT = re.compile(rf"Error running script .*: -(?:{'|'.join(sorted(UNREADY))})\b", re.DOTALL)
#: What redis-py puts before the answer that a command of a pipeline had.
_IN_PIPELINE = " of pipeline caused error: "
#: What remains of such answers where redis-py, and then kombu, have made other classes of them.
_PHRASES = (
    "max number of clients reached",
    "You can't write against a read only replica",
    "Redis is loading the dataset in memory",
)
_UNREADY_CLASSES = (AskError, BusyLoadingError, ClusterDownError, ReadOnlyError, TryAgainError)
#: What READONLY says, without that word.
_READ_ONLY = "You can't write against a read only replica"


class Unready(RedisConnectionError):
    """Redis answered that it does not do its part now; the link was dropped."""


def is_unready(error: Exception) -> bool:
    """True if an error is the answer of a Redis that will soon work again, here or elsewhere."""
    text = str(error).rpartition(_IN_PIPELINE)[2]
    return (
        isinstance(error, _UNREADY_CLASSES)
        or text.partition(" ")[0] in UNREADY
        or any(phrase in text for phrase in _PHRASES)
        or _IN_SCRIPT.search(text) is not None
    )


def is_passing(error: Exception) -> bool:
    """True if Redis will soon work again: it is away, or answers that it is not ready."""
    return isinstance(error, RedisConnectionError) or is_unready(error)


def refusal(error: BaseException) -> str:
    """Say what Redis answered, and what to do where that is known."""
    if is_full(error):
        return f"Redis is full, raise its maxmemory or remove data: {error}"
    return f"Redis refused: {error}"


class Standstills:
    """The count of this process's links that died without an end.

    Where one link has fallen silent, the others to the same place have, too: each is opened anew
    before it is used again, instead of being waited for in vain. That costs little where it was
    not so.
    """

    def __init__(self) -> None:
        #: How many links were given up as silent.
        self.count = 0

    def note(self, link: object, seconds: float | None) -> None:
        """Count a link that was given up."""
        self.count += 1
        log.warning("%s gave no answer within %g s: it is opened anew", link, seconds or 0)


#: Of this process.
standstills = Standstills()


class Unconfirmed(threading.local):
    """The count, for one thread, of messages that a broker may have got and has not confirmed."""

    #: How many there have been.
    count = 0


unconfirmed = Unconfirmed()


@functools.cache
def watched(kind: type[Connection]) -> type[Connection]:
    """Make connections of redis-py that take part in this process's count of standstills."""

    class Watched(kind):  # type: ignore[misc, valid-type]
        #: How many there had been when this link was opened; None before that is known.
        _known: int | None = None

        def send_packed_command(self, command: Any, check_health: bool = True) -> None:
            if self._known != standstills.count:
                if self._known is not None:
                    self.disconnect()
                self._known = standstills.count
            try:
                super().send_packed_command(command, check_health)
            except RedisTimeoutError:
                self._give_up()
                raise

        def read_response(self, *arguments: Any, **options: Any) -> Any:
            try:
                return super().read_response(*arguments, **options)
            except RedisTimeoutError:
                self._give_up()
                raise
            except RedisError as error:
                if not is_unready(error):
                    raise
                self.disconnect()
                raise Unready(str(error)) from error

        def disconnect(self, *arguments: Any, **options: Any) -> None:
            self._known = None
            super().disconnect(*arguments, **options)

        def _give_up(self) -> None:
            place = f"{self.host}:{self.port}" if hasattr(self, "host") else self.path
            standstills.note(f"a link to Redis at {place}", self.socket_timeout)

    return Watched


@functools.cache
def dropped_when_unready(kind: type[Connection]) -> type[Connection]:
    """Connections of redis-py that leave a node which does not do its part, and no more: for links
    on which an event loop waits."""

    class Dropped(kind):  # type: ignore[misc, valid-type]
        def read_response(self, *arguments: Any, **options: Any) -> Any:
            try:
                return super().read_response(*arguments, **options)
            except RedisError as error:
                if not is_unready(error):
                    raise
                self.disconnect()
                raise Unready(str(error)) from error

    return Dropped


def watched_client(url: str, *, timeout: float, connect_timeout: float, **options: Any) -> Redis:
    """A client of redis-py whose links take part in what a process knows of standstills, and leave
    a node that does not do its part.

    Args:
        timeout: seconds that an answer may take.
        connect_timeout: seconds.
        options: of redis-py beside those.
    """
    limits = redis_options(url, timeout=timeout, connect_timeout=connect_timeout)
    client = Redis.from_url(url, **{**limits, **options})
    pool = client.connection_pool
    pool.connection_class = watched(pool.connection_class)
    return client
