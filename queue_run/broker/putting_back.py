"""Putting a message that was taken back on its queue: one script, which a full Redis runs too.

A full Redis refuses a transaction that makes anything grow, and a script only if its first write
does. This one frees first. Should a later write fail, it writes the message down again.
"""

from typing import Any

from queue_run.storage.script_files import load

_PUT_BACK = load("broker/put_back")


class Commands:
    """Gathers commands, as a pipeline of redis-py does."""

    def __init__(self) -> None:
        #: Each after the number of its words.
        self.words: list[Any] = []
        #: What they change.
        self.keys: list[str] = []

    def _add(self, name: str, key: str, *words: Any) -> None:
        self.words += [2 + len(words), name, key, *words]
        self.keys.append(key)

    def lpush(self, key: str, value: Any) -> None:
        self._add("LPUSH", key, value)

    def rpush(self, key: str, value: Any) -> None:
        self._add("RPUSH", key, value)

    def ltrim(self, key: str, first: int, last: int) -> None:
        self._add("LTRIM", key, first, last)

    def pexpire(self, key: str, milliseconds: int) -> None:
        self._add("PEXPIRE", key, milliseconds)


def put_back(
    client: Any, *, unacked: str, index: str, tag: str, found: bytes, commands: Commands
) -> bool:
    """Forget that a message was taken, and do the commands; False when it was settled meanwhile.

    Raises:
        redis.exceptions.RedisError, OSError: when Redis did not do it, or may not have done it.
    """
    keys = [unacked, index, *dict.fromkeys(commands.keys)]
    return bool(client.eval(*_PUT_BACK.given(keys, [tag, found, *commands.words])))
