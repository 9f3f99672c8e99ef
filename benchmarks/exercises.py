"""What a crowd of clients does, and what it must get."""

import asyncio
import time
from array import array
from collections.abc import Callable
from typing import Any

import msgspec

from benchmarks.client_protocols import Client
from benchmarks.spread import quantile

TEXT = "a message of some length, as people write them"


class Message(msgspec.Struct):
    """What is published: to be known again, and timed."""

    run: int
    n: int
    at: int
    to: str = ""


class Question(msgspec.Struct, omit_defaults=True):
    """What a client sends."""

    n: int
    text: str
    sleep: float = 0


class Answer(msgspec.Struct):
    echo: Question


decode_message = msgspec.json.Decoder(Message).decode
decode_answer = msgspec.json.Decoder(Answer).decode
encode = msgspec.json.Encoder().encode


class Exercise:
    """Nothing: whatever is received while nothing is to come is late, and not looked at."""

    def __init__(self, clients: list[Client]) -> None:
        self._clients = clients
        self.done = asyncio.Event()

    @property
    def missing(self) -> str:
        """What has not come, for the text of an error."""
        return "something is missing"

    def start(self) -> None: ...

    def received(self, client: Client, data: bytes) -> None: ...

    def result(self) -> dict[str, Any]:
        return {}


class RoundTrips(Exercise):
    """Each client asks one question at a time, until the time is over."""

    def __init__(
        self,
        clients: list[Client],
        fail: Callable[[str], None],
        *,
        seconds: float,
        text: str = TEXT,
        rate: float = 0,
        slow_share: float = 0,
        sleep: float = 2.0,
    ) -> None:
        """Prepare.

        Args:
            rate: questions per second of all clients together, on a schedule that does not wait
                for answers; without it each client asks again as soon as it has its answer.
            slow_share: of the questions ask the handler to sleep.
        """
        super().__init__(clients)
        self._fail = fail
        self._seconds = seconds
        self._text = text
        self._rate = rate
        self._every = round(1 / slow_share) if slow_share else 0
        self._sleep = sleep
        self._free: list[Client] = []
        self._asked = 0
        self._open = 0
        self._latencies = array("q")
        self._slow = 0
        self._until = 0
        self._started = 0

    @property
    def missing(self) -> str:
        return f"{self._open} answers are missing"

    def start(self) -> None:
        self._started = time.perf_counter_ns()
        self._until = self._started + round(self._seconds * 1e9)
        if self._rate:
            self._free = list(self._clients)
            self._on_schedule()
        else:
            for client in self._clients:
                self._ask(client)

    def _on_schedule(self) -> None:
        now = time.perf_counter_ns()
        due = min(now, self._until) - self._started
        while self._asked < due * self._rate / 1e9:
            if not self._free:
                self._fail("no client is free for the next question: the rate is too high")
                return
            self._ask(self._free.pop())
        if now < self._until:
            asyncio.get_running_loop().call_later(0.5 / self._rate, self._on_schedule)
        elif not self._open:
            self.done.set()

    def _ask(self, client: Client) -> None:
        self._asked += 1
        self._open += 1
        client.count = self._asked
        slow = self._every and self._asked % self._every == 0
        sleep = self._sleep if slow else 0
        client.sent_at = -1 if slow else time.perf_counter_ns()
        client.send(encode(Question(n=client.count, text=self._text, sleep=sleep)))

    def received(self, client: Client, data: bytes) -> None:
        now = time.perf_counter_ns()
        try:
            answer = decode_answer(data)
        except msgspec.DecodeError:
            self._fail(f"no answer but {data[:100]!r}")
            return
        if answer.echo.n != client.count or answer.echo.text != self._text:
            self._fail(f"an answer to another question: {data[:100]!r}")
            return
        self._open -= 1
        if client.sent_at < 0:
            self._slow += 1
        else:
            self._latencies.append(now - client.sent_at)
        if self._rate:
            self._free.insert(0, client)
        elif now < self._until:
            self._ask(client)
            return
        if not self._open and now >= self._until:
            self.done.set()

    def result(self) -> dict[str, Any]:
        return {
            "count": len(self._latencies) + self._slow,
            "seconds": (time.perf_counter_ns() - self._started) / 1e9,
            **_milliseconds(self._latencies),
        }


class Listening(Exercise):
    """Each client gets each message of a run, in order."""

    def __init__(
        self, clients: list[Client], fail: Callable[[str], None], run: int, messages: int
    ) -> None:
        super().__init__(clients)
        self._fail = fail
        self._run = run
        self._messages = messages
        self._waiting = len(clients)
        self._last = b""
        self._last_number = -1
        self._first_at = 0
        self._ended_at = 0
        for client in clients:
            client.count = 0

    @property
    def missing(self) -> str:
        behind = [client for client in self._clients if client.count < self._messages]
        lost = sum(self._messages - client.count for client in behind)
        return f"{lost} messages are missing at {len(behind)} clients"

    def received(self, client: Client, data: bytes) -> None:
        # Thousands get the same bytes: decoded once.
        if data != self._last:
            message = decode_message(data)
            if message.run != self._run:
                return
            self._last, self._last_number = data, message.n
            self._first_at = self._first_at or message.at
        if self._last_number != client.count:
            self._fail(f"message {self._last_number} in the place of {client.count}")
        client.count += 1
        if client.count == self._messages:
            self._waiting -= 1
            if not self._waiting:
                self._ended_at = time.perf_counter_ns()
                self.done.set()

    def result(self) -> dict[str, Any]:
        return {
            "count": len(self._clients) * self._messages,
            "seconds": (self._ended_at - self._first_at) / 1e9,
        }


class Pushes(Exercise):
    """Each message reaches the one client that it is for; timed from its sending."""

    def __init__(
        self, clients: list[Client], fail: Callable[[str], None], run: int, pushes: int
    ) -> None:
        super().__init__(clients)
        self._fail = fail
        self._run = run
        self._pushes = pushes
        self._seen: set[int] = set()
        self._latencies = array("q")

    @property
    def missing(self) -> str:
        return f"{self._pushes - len(self._seen)} pushes are missing"

    def received(self, client: Client, data: bytes) -> None:
        now = time.perf_counter_ns()
        message = decode_message(data)
        if message.run != self._run:
            return
        if message.to != client.user or message.n in self._seen:
            self._fail(f"push {message.n} to {message.to} came to {client.user}, or twice")
        self._seen.add(message.n)
        self._latencies.append(now - message.at)
        if len(self._seen) == self._pushes:
            self.done.set()

    def result(self) -> dict[str, Any]:
        return {"count": len(self._seen), **_milliseconds(self._latencies)}


def _milliseconds(nanoseconds: "array[int]") -> dict[str, float]:
    if not nanoseconds:
        return {}
    return {
        "p50": quantile(nanoseconds, 0.5) / 1e6,
        "p99": quantile(nanoseconds, 0.99) / 1e6,
    }
