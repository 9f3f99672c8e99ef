"""Messages that Redis gave out, and whose taker never heard it.

A script takes a message and writes it down as unacknowledged. When the link breaks before its
answer is read, nobody knows that the message was taken, and only the visibility timeout would bring
it back. So each question of a taker has a number, and the script notes what it gave to which. Who
has lost a link asks over the next one what its last question got, and puts that back. A question
that Redis has not read by then is spent: should it still come, it takes nothing.
"""

import uuid
from typing import Any

from queue_run.storage.script_files import load

_RECALL = load("broker/recall")


class Questions:
    """The questions of one channel for messages, of which one at a time is without an answer."""

    def __init__(self, unacked_key: str, kept: float) -> None:
        """
        Args:
            kept: seconds for which Redis knows what the last one got.
        """
        self.key = f"{unacked_key}.taker.{uuid.uuid4().hex}"
        self._kept = round(kept * 1000)
        self._number = 0
        self._unanswered = False

    def next(self) -> tuple[int, int]:
        """The last arguments of the script that is asked now."""
        self._number += 1
        self._unanswered = True
        return self._number, self._kept

    def answered(self) -> None:
        """The last question has its answer."""
        self._unanswered = False

    def unanswered(self) -> int | None:
        """The number of the question whose answer was lost with its link, once."""
        found = self._number if self._unanswered else None
        self._unanswered = False
        return found

    def recall(self, client: Any, number: int) -> str:
        """The tag of what a question got; empty, when it got nothing and is not going to.

        Raises:
            redis.exceptions.RedisError, OSError: when Redis did not say.
        """
        tag = client.eval(*_RECALL.given([self.key], [number, self._kept]))
        return tag.decode() if isinstance(tag, bytes) else str(tag)
