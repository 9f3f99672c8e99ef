"""Writing to the channel, from any thread of a process."""

import atexit
import logging
import random
import threading
import time
from collections.abc import Sequence
from typing import Any, TypeAlias

from redis.exceptions import RedisError

from queue_run.channel.bounds import ByteBound
from queue_run.channel.fences import FIELD, CameTooLate, Fences
from queue_run.channel.memberships import Noted
from queue_run.channel.receipts import Receipt, Sending
from queue_run.contracts.answers import Answer
from queue_run.errors import ChannelUnavailable
from queue_run.storage.clock import Clock
from queue_run.storage.links import BlockingLink, Command
from queue_run.storage.patience import is_passing, longest_answer, refusal
from queue_run.threads.batching import Batching
from queue_run.threads.forks import HomeProcess
from queue_run.threads.vital import VitalThread

log = logging.getLogger(__name__)

#: Messages written in one round trip, at most.
PIPELINE_SIZE = 256
#: When the thread has written so many messages it pauses, in seconds: those that come meanwhile
#: share the next round trip. Synchronous callers never wait for it.
BUSY_COUNT, BUSY_PAUSE = 6, 0.002
#: An entry that is as large as this, in bytes, is shared with nothing more.
SHARED_BYTES = 64 * 1024
FIRST_PAUSE, LONGEST_PAUSE = 0.02, 0.5
#: Fields that one question is about, at most.
FIELDS_AT_ONCE = 500

#: The key of a hash, and fields that may be in it.
Counted: TypeAlias = tuple[str, Sequence[str]]


class Publisher(Batching["_Pending"]):
    """Writes entries to streams in the order in which they were given.

    One queue for all threads. A synchronous caller writes what waits, its own entry last, and
    returns when that is on the channel. An asynchronous caller leaves its entry to a thread, so
    its event loop never blocks. Either way whatever waits goes out in one round trip.

    A write whose confirmation was lost is repeated: its envelope carries the same id, by which
    readers drop the second copy.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout: float,
        max_bytes: int | None = None,
        clock: Clock | None = None,
    ) -> None:
        """
        Args:
            url: of Redis.
            timeout: seconds for which an entry is tried before it fails.
            max_bytes: that each stream may take in Redis, about; None for any.
            clock: Redis' time, by which readers know entries that were written after they had
                failed here. Without it there are no such entries only where no link is ever slow.
        """
        super().__init__()
        self._bound = ByteBound(max_bytes)
        self._timeout = timeout
        self._link = BlockingLink(url, timeout=longest_answer(timeout))
        self._fences = None if clock is None else Fences(clock, self._ask_time)
        self._origin = HomeProcess()
        self._writing = threading.Lock()
        self._thread: threading.Thread | None = None
        self._thread_ends = False
        self._thread_start = threading.Lock()
        atexit.register(self.close)

    def publish(
        self,
        stream: str,
        data: bytes,
        *,
        max_entries: int,
        create: bool = True,
        share: bool = False,
        counted: Counted | None = None,
        noted: Noted | None = None,
    ) -> Answer[Receipt]:
        """Write one entry and wait until it is there.

        Args:
            max_entries: about how many entries the stream keeps.
            create: False writes only to a stream that exists; else the receipt's offset is None.
            share: let it stand in one entry of the stream with what else waits for that, in order.
            counted: fields that are looked for in the same round trip; the receipt's `online` then
                says how many are there.
            noted: what is written in the same step; not for an entry that is shared.

        Raises:
            ChannelUnavailable: when Redis did not take it in time.
        """
        pending = _Pending(
            stream, data, max_entries, create, share, counted, noted, self._deadline()
        )
        self._waiting.append(pending)
        with self._writing:
            while not pending.sending.done:
                self._write_some()
        pending.sending.now()
        return pending.sending

    def submit(
        self,
        stream: str,
        data: bytes,
        *,
        max_entries: int,
        create: bool = True,
        share: bool = False,
        counted: Counted | None = None,
        noted: Noted | None = None,
    ) -> Answer[Receipt]:
        """Queue one entry, without blocking. Arguments as for `publish`."""
        pending = _Pending(
            stream, data, max_entries, create, share, counted, noted, self._deadline()
        )
        self._waiting.append(pending)
        if self._thread is None:
            self._start_thread()
        if not self._woken:
            self._ring()
        return pending.sending

    def flush(self) -> None:
        """Write everything that waits now."""
        with self._writing:
            while self._waiting:
                self._write_some()

    def close(self) -> None:
        """Write what waits, end the thread and the connection. Closing twice is harmless."""
        atexit.unregister(self.close)
        if not self._origin.is_here:
            # What a fork has copied belongs to the parent, the connection too.
            return
        self.flush()
        if self._thread is not None:
            self._thread_ends = True
            self._ring()
            self._thread.join(self._timeout)
            self._thread = None
        self._link.close()

    def _deadline(self) -> float:
        return time.monotonic() + self._timeout

    def _start_thread(self) -> None:
        with self._thread_start:
            if self._thread is None:
                self._thread_ends = False
                self._thread = VitalThread(
                    self._run, name="queue-run-publisher", on_loss=self._go_on
                )
                self._thread.start()

    def _go_on(self) -> None:
        """Let another thread write what waits: the process may be an application's own."""
        with self._thread_start:
            self._thread = None
        if self._waiting:
            self._ring()
            self._start_thread()

    def _run(self) -> None:
        while self._is_woken():
            self._woken = False
            busy = len(self._waiting) >= BUSY_COUNT
            try:
                self.flush()
            except Exception:
                # The thread serves the whole process: one failure must not end it.
                log.exception("writing to the channel failed unexpectedly")
            if self._thread_ends:
                return
            if busy:
                time.sleep(BUSY_PAUSE)

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
                if not pending.sending.done:
                    pending.sending.complete(None, ChannelUnavailable(f"not written: {error!r}"))
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
        writes = _writes(batch)
        for write in writes:
            write.cut = self._bound.passed(write.entries[0].stream, write.size)
        try:
            fence = self._fence(batch)
            commands = [command for write in writes for command in write.commands(fence)]
            answers = iter(self._link.exchange(commands))
        except (RedisError, OSError) as error:
            if self._fences is not None:
                self._fences.distrust()
            return list(batch), error
        for number, write in enumerate(writes):
            write.take_answers([next(answers) for _ in write.questions])
            result = next(answers)
            if write.cut is not None and isinstance(found := next(answers), Exception):
                self._bound.failed(found)
            # As texts first: most are far from it, and an offset is the longer one.
            late = fence and isinstance(result, bytes) and result > fence
            if late and not self._holds(fence, result):
                # Neither do those that were written after it.
                return [each for later in writes[number:] for each in later.entries], CameTooLate()
            if not isinstance(result, Exception):
                write.complete(None if result is None else _text(result))
            elif is_passing(result):
                return [each for later in writes[number:] for each in later.entries], result
            else:
                write.complete(None, ChannelUnavailable(refusal(result)))
        return [], None

    def _fence(self, batch: "Sequence[_Pending]") -> bytes | None:
        """Until when the entries of a batch may be written. One for all: were one of them too late
        and the next one not, they would change places."""
        if self._fences is None:
            return None
        return self._fences.fence(min(pending.deadline for pending in batch))

    def _holds(self, fence: bytes | None, offset: bytes) -> bool:
        assert self._fences is not None
        assert fence is not None
        return self._fences.holds(fence, offset)

    def _ask_time(self) -> Any:
        [answer] = self._link.exchange([("TIME",)])
        if isinstance(answer, Exception):
            raise answer
        return int(answer[0]), int(answer[1])


class _Pending:
    """An entry that waits to be written, and the question that is asked just before that."""

    __slots__ = (
        "counted",
        "create",
        "data",
        "deadline",
        "max_entries",
        "noted",
        "online",
        "sending",
        "share",
        "stream",
    )

    def __init__(
        self,
        stream: str,
        data: bytes,
        max_entries: int,
        create: bool,
        share: bool,
        counted: Counted | None,
        noted: Noted | None,
        deadline: float,
    ) -> None:
        self.stream = stream
        self.data = data
        self.max_entries = max_entries
        self.create = create
        self.share = share
        self.counted = counted
        self.noted = noted
        self.deadline = deadline
        #: Of the counted fields, how many were there.
        self.online: int | None = None
        self.sending = Sending()


class _Write:
    """One entry of a stream."""

    __slots__ = ("cut", "entries", "questions", "size")

    def __init__(self, first: _Pending) -> None:
        self.entries = [first]
        #: Bytes.
        self.size = len(first.data)
        self.questions = _questions(first.counted) if first.counted is not None else []
        #: What is to be done to the stream after it.
        self.cut: Command | None = None

    def add(self, pending: _Pending) -> None:
        """Let it share the entry."""
        self.entries.append(pending)
        self.size += len(pending.data)

    def commands(self, fence: bytes | None) -> list[Command]:
        first = self.entries[0]
        options = () if first.create else ("NOMKSTREAM",)
        command: list[str | bytes | int] = ["XADD", first.stream, *options]
        command += ["MAXLEN", "~", first.max_entries, "*"]
        for field, each in zip(_fields(len(self.entries)), self.entries, strict=True):
            command += [field, each.data]
        if fence is not None:
            command += [FIELD, fence]
        cut = () if self.cut is None else (self.cut,)
        append = command if first.noted is None else first.noted.command(command)
        return [*self.questions, append, *cut]

    def take_answers(self, answers: list[Any]) -> None:
        """Count what was found; a question that failed is no failure to write."""
        if answers and not any(isinstance(answer, Exception) for answer in answers):
            found = sum(value is not None for answer in answers for value in answer)
            self.entries[0].online = found

    def complete(self, offset: str | None, error: Exception | None = None) -> None:
        for each in self.entries:
            receipt = None if error is not None else Receipt(offset, each.online)
            each.sending.complete(receipt, error)


def _writes(batch: Sequence[_Pending]) -> list[_Write]:
    """The entries to write: what may share one with others of its stream does."""
    writes: list[_Write] = []
    shared: dict[str, _Write] = {}
    for pending in batch:
        write = shared.get(pending.stream) if pending.share else None
        if write is not None and write.size < SHARED_BYTES:
            write.add(pending)
            continue
        write = _Write(pending)
        writes.append(write)
        if pending.share:
            shared[pending.stream] = write
    return writes


def _fields(count: int) -> list[str]:
    """The names of what stands in one entry: all of them begin alike (see the listener)."""
    return ["e", *(f"e{number}" for number in range(1, count))]


def _questions(counted: Counted) -> list[Command]:
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
            pending.sending.complete(None, failure)
    return [pending for pending in batch if pending.deadline > now]


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
