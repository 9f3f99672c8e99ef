"""Bounding streams in bytes: XADD and XTRIM know entries and ids only.

Whoever writes much to a stream has it measured now and then, in the same round trip, and so does
whoever reads much of it: so it is bounded while nobody reads, and also with many who write.
"""

import logging

from queue_run.storage.links import Command

log = logging.getLogger(__name__)

#: A stream is measured when so large a part of what it may hold has been written to it, or read:
#: it grows beyond its bound by as much.
PART = 16
#: Streams that are counted; most of those that are gone belonged to push servers.
MOST_STREAMS = 1000

# KEYS: the stream. ARGV: bytes that it may take in memory. Cuts off the oldest entries, but never
# the last one; gives how many. In several steps, since an entry takes up to a quarter more memory
# than it has bytes, and none is to go that need not. Redis measures whole blocks of entries, which
# takes it some milliseconds for a hundred thousand entries.
CUT = """
local function excess()
  local usage = redis.call('MEMORY', 'USAGE', KEYS[1], 'SAMPLES', 0)
  return (usage or 0) - tonumber(ARGV[1])
end
-- To read an entry is to copy it: of large ones, not many more than are cut.
local large = tonumber(ARGV[1]) / math.max(1, redis.call('XLEN', KEYS[1])) > 50000
local function first_after(bytes)
  local first, from = false, '-'
  while bytes > 0 do
    local page = redis.call('XRANGE', KEYS[1], from, '+', 'COUNT', large and 2 or 16)
    if #page < 2 then break end
    for number = 1, #page - 1 do
      for _, value in ipairs(page[number][2]) do bytes = bytes - #value end
      first = page[number + 1][1]
      if bytes <= 0 then break end
    end
    from = first
  end
  return first
end
local cut = 0
for _ = 1, 50 do
  local bytes = excess()
  local first = bytes > 0 and first_after(0.8 * bytes)
  if not first then break end
  cut = cut + redis.call('XTRIM', KEYS[1], 'MINID', first)
end
return cut
"""


class ByteBound:
    """Counts what passes, and says when a stream must be measured.

    Args:
        max_bytes: that each stream may take in Redis; None for any.
    """

    def __init__(self, max_bytes: int | None) -> None:
        self._max_bytes = max_bytes
        self._step = max_bytes // PART if max_bytes is not None else None
        #: Bytes since each stream was last measured.
        self._passed: dict[str, int] = {}
        self._has_failed = False

    def passed(self, stream: str, size: int) -> Command | None:
        """Note so many bytes; the command that measures the stream and cuts it, when it is due."""
        if self._step is None:
            return None
        passed = self._passed.get(stream, 0) + size
        if passed < self._step:
            self._passed[stream] = passed
            return None
        self._passed.pop(stream, None)
        if len(self._passed) > MOST_STREAMS:
            self._passed.clear()
        return ("EVAL", CUT, 1, stream, str(self._max_bytes))

    def failed(self, error: Exception) -> None:
        """Redis did not do it, as where nobody may use MEMORY."""
        if not self._has_failed:
            self._has_failed = True
            log.warning("streams in Redis are bounded in entries only, not in bytes: %s", error)
