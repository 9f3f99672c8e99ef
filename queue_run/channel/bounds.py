"""Bounding streams in bytes: XADD and XTRIM know entries and ids only.

Whoever writes much to a stream has it measured now and then, in the same round trip, and so does
whoever reads much of it: so it is bounded while nobody reads, and also with many who write.
"""

import logging

from queue_run.storage.links import Command
from queue_run.storage.script_files import load

log = logging.getLogger(__name__)

#: A stream is measured when so large a part of what it may hold has been written to it, or read:
#: it grows beyond its bound by as much.
PART = 16
#: Streams that are counted; most of those that are gone belonged to push servers.
MOST_STREAMS = 1000

#: Cuts off the oldest entries of a stream.
CUT = load("channel/cut")


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
        """Count bytes of a stream; return the command that measures and cuts it, when it is due."""
        if self._step is None:
            return None
        passed = self._passed.get(stream, 0) + size
        if passed < self._step:
            self._passed[stream] = passed
            return None
        self._passed.pop(stream, None)
        if len(self._passed) > MOST_STREAMS:
            self._passed.clear()
        return ("EVAL", *CUT.given([stream], [str(self._max_bytes)]))

    def failed(self, error: Exception) -> None:
        """Log once that Redis did not bound a stream, as where the command MEMORY is forbidden."""
        if not self._has_failed:
            self._has_failed = True
            log.warning("streams in Redis are bounded in entries only, not in bytes: %s", error)
