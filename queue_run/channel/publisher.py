"""Writing to the channel, from any thread of a process."""

import atexit
import collections
import logging
import queue
import random
import threading
import time
from collections.abc import Sequence
from typing import Any, TypeAlias

import redis
from redis.backoff import NoBackoff
from redis.exceptions import ClusterDownError, ReadOnlyError, RedisError, TryAgainError
from redis.retry import Retry

from queue_run.channel.receipts import Receipt
from queue_run.errors import ChannelUnavailable

log = logging.getLogger(__name__)

#: Messages written in one round trip, at most.
PIPELINE_SIZE = 256
#: Answers of a Redis that will soon do its part again (restarting, failing over).
PASSING_ERRORS = (redis.ConnectionError, ReadOnlyError, TryAgainError, ClusterDownError)
FIRST_PAUSE, LONGEST_PAUSE = 0.02, 0.5
#: Fields that one question is about, at most.
FIELDS_AT_ONCE = 500

#: The key of a hash, and fields that may be in it.
Counted: TypeAlias = tuple[str, Sequence[str]]
_Command: TypeAlias = list[str | bytes | int]


class Publisher:
    """Writes entries to streams in the order in which they were given.

    One queue for all threads. A synchronous caller writes what waits, its own entry last, and
    returns when that is on the channel. An asynchronous caller leaves its entry to a thread, so
    its event loop never blocks. Either way whatever waits goes out in one round trip.

    A write whose confirmation was lost is repeated: its envelope carries the same id, by which
    readers drop the second copy.
    """

    def __init__(self, url: str, *, timeout: float) -> None:
        """
        Args:
            url: of Redis.
            timeout: seconds for which an entry is tried before it fails.
        """
        self._timeout = timeout
        self._client = redis.Redis.from_url(
            url,
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            socket_keepalive=True,
            retry=Retry(NoBackoff(), 0),
        )
        self._waiting: collections.deque[_Pending] = collections.deque()
        self._writing = threading.Lock()
        self._wake: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._thread_start = threading.Lock()
        atexit.register(self.close)

    def publish(
        self,
        stream: str,
        data: bytes,
        *,
        max_entries: int,
        create: bool = True,
        counted: Counted | None = None,
    ) -> Receipt:
        """Write one entry and wait until it is there.

        Args:
            max_entries: about how many entries the stream keeps.
            create: False writes only to a stream that exists; else the receipt's offset is None.
            counted: fields that are looked for in the same round trip; the receipt's `online` then
                says how many are there.

        Raises:
            ChannelUnavailable: when Redis did not take it in time.
        """
        pending = self._append(stream, data, max_entries, create, counted)
        with self._writing:
            while not pending.receipt.done:
                self._write_some()
        pending.receipt.raise_error()
        return pending.receipt

    def submit(
        self,
        stream: str,
        data: bytes,
        *,
        max_entries: int,
        create: bool = True,
        counted: Counted | None = None,
    ) -> Receipt:
        """Queue one entry, without blocking. Arguments as for `publish`."""
        pending = self._append(stream, data, max_entries, create, counted)
        if self._thread is None:
            self._start_thread()
        self._wake.put(True)
        return pending.receipt

    def flush(self) -> None:
        """Write everything that waits now."""
        with self._writing:
            while self._waiting:
                self._write_some()

    def close(self) -> None:
        """Write what waits, end the thread and the connection. Closing twice is harmless."""
        atexit.unregister(self.close)
        self.flush()
        if self._thread is not None:
            self._wake.put(False)
            self._thread.join(self._timeout)
            self._thread = None
        self._client.close()

    def _append(
        self, stream: str, data: bytes, max_entries: int, create: bool, counted: Counted | None
    ) -> "_Pending":
        command: _Command = ["XADD", stream]
        if not create:
            command.append("NOMKSTREAM")
        command += ["MAXLEN", "~", max_entries, "*", "e", data]
        questions = _questions(counted) if counted is not None else []
        pending = _Pending(questions, command, time.monotonic() + self._timeout)
        self._waiting.append(pending)
        return pending

    def _start_thread(self) -> None:
        with self._thread_start:
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="queue-run-publisher", daemon=True)
                thread.start()
                self._thread = thread

    def _run(self) -> None:
        while self._wake.get():
            try:
                self.flush()
            except Exception:
                # The thread serves the whole process: one failure must not end it.
                log.exception("writing to the channel failed unexpectedly")

    def _write_some(self) -> None:
        """Write the oldest entries; on return each of them is either written or failed."""
        batch: list[_Pending] = []
        while self._waiting and len(batch) < PIPELINE_SIZE:
            batch.append(self._waiting.popleft())
        try:
            self._write_all(batch)
        except BaseException as error:
            # Nobody may wait for ever for an entry that is not in the queue any more.
            for pending in batch:
                if not pending.receipt.done:
                    pending.receipt.complete(None, ChannelUnavailable(f"not written: {error!r}"))
            raise

    def _write_all(self, batch: "list[_Pending]") -> None:
        pause = FIRST_PAUSE
        while batch:
            batch, error = self._attempt(batch)
            if not batch:
                return
            batch = _fail_overdue(batch, error)
            if batch:
                time.sleep(random.uniform(pause / 2, pause))
                pause = min(pause * 2, LONGEST_PAUSE)

    def _attempt(self, batch: "Sequence[_Pending]") -> "tuple[list[_Pending], Exception | None]":
        """One round trip; gives back the entries to try again, from the first that failed on."""
        pipeline = self._client.pipeline(transaction=False)
        for pending in batch:
            for question in pending.questions:
                pipeline.execute_command(*question)  # type: ignore[no-untyped-call]
            pipeline.execute_command(*pending.command)  # type: ignore[no-untyped-call]
        try:
            results = pipeline.execute(raise_on_error=False)
        except (RedisError, OSError) as error:
            return list(batch), error
        answers = iter(results)
        for index, pending in enumerate(batch):
            pending.take_answers([next(answers) for _ in pending.questions])
            result = next(answers)
            if not isinstance(result, Exception):
                pending.receipt.complete(None if result is None else _text(result))
            elif is_passing(result):
                return list(batch[index:]), result
            else:
                pending.receipt.complete(None, ChannelUnavailable(f"Redis refused: {result}"))
        return [], None


class _Pending:
    """An entry, and what is asked just before it is written."""

    __slots__ = ("command", "deadline", "questions", "receipt")

    def __init__(self, questions: list[_Command], command: _Command, deadline: float) -> None:
        self.questions = questions
        self.command = command
        self.deadline = deadline
        self.receipt = Receipt()

    def take_answers(self, answers: list[Any]) -> None:
        """Count what was found; a question that failed is no failure to write."""
        if answers and not any(isinstance(answer, Exception) for answer in answers):
            found = sum(value is not None for answer in answers for value in answer)
            self.receipt.online = found


def _questions(counted: Counted) -> list[_Command]:
    """In parts, since Redis does nothing else while it answers one."""
    key, fields = counted
    return [
        ["HMGET", key, *fields[start : start + FIELDS_AT_ONCE]]
        for start in range(0, len(fields), FIELDS_AT_ONCE)
    ]


def _fail_overdue(batch: list[_Pending], error: Exception | None) -> list[_Pending]:
    """Give up the entries whose time is over; the rest is to be tried again."""
    now = time.monotonic()
    for pending in batch:
        if pending.deadline <= now:
            failure = ChannelUnavailable(f"Redis took no message: {error}")
            pending.receipt.complete(None, failure)
    return [pending for pending in batch if pending.deadline > now]


def is_passing(error: Exception) -> bool:
    """Whether it is the answer of a Redis that will soon do its part again."""
    # A script that runs for too long has no class of its own.
    return isinstance(error, PASSING_ERRORS) or str(error).startswith("BUSY ")


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
