"""Putting a message that was taken back on its queue: one script, which a full Redis runs too.

A full Redis refuses a transaction that makes anything grow, and a script only if its first write
does. This one frees first. Should a later write fail, it writes the message down again.
"""

from typing import Any

# KEYS: the messages that were taken, by tag; their tags by time. ARGV: the tag; what stands there;
# then the commands, each after the number of its words.
_PUT_BACK = """
local found = redis.call('HGET', KEYS[1], ARGV[1])
if found and found ~= ARGV[2] then return 0 end
local score = redis.call('ZSCORE', KEYS[2], ARGV[1])
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('ZREM', KEYS[2], ARGV[1])
if not found then return 0 end
local at = 3
while at <= #ARGV do
  local words = tonumber(ARGV[at])
  local answer = redis.pcall(unpack(ARGV, at + 1, at + words))
  if type(answer) == 'table' and answer.err then
    redis.call('HSET', KEYS[1], ARGV[1], found)
    if score then redis.call('ZADD', KEYS[2], score, ARGV[1]) end
    return answer
  end
  at = at + words + 1
end
return 1
"""


class Commands:
    """Gathers commands, as a pipeline of redis-py does."""

    def __init__(self) -> None:
        #: Each after the number of its words.
        self.words: list[Any] = []

    def _add(self, *words: Any) -> None:
        self.words += [len(words), *words]

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
    return bool(client.eval(_PUT_BACK, 2, unacked, index, tag, found, *commands.words))
