"""Recovery of messages that Redis gave out, and whose taker never got them.

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
            unacked_key: the key of the unacknowledged messages.
            kept: seconds for which Redis remembers the message that the last question got.
        """
        self.key = f"{unacked_key}.taker.{uuid.uuid4().hex}"
        self._kept = round(kept * 1000)
        self._number = 0
        self._unanswered = False

    def next(self) -> tuple[int, int]:
        """Begin the next question, and return the last arguments of its script."""
        self._number += 1
        self._unanswered = True
        return self._number, self._kept

    def answered(self) -> None:
        """Note that the last question has its answer."""
        self._unanswered = False

    def unanswered(self) -> int | None:
        """Take the number of the question whose answer was lost with its link; None without one."""
        found = self._number if self._unanswered else None
        self._unanswered = False
        return found

    def recall(self, client: Any, number: int) -> str:
        """The tag of the message that a question got; empty when it got none, and will get none.

        Raises:
            redis.exceptions.RedisError, OSError: when Redis did not answer.
        """
        tag = client.eval(*_RECALL.given([self.key], [number, self._kept]))
        return tag.decode() if isinstance(tag, bytes) else str(tag)
