"""`python -m benchmarks.publisher_process PROGRAM`: sends messages from a process of its own.

Like a view or a script of the application would. Orders come as JSON lines on stdin, each is
answered by one line on stdout.
"""

import json
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

#: Sends a message to a user; to all connections without one.
Send = Callable[[dict[str, Any], str | list[str]], object]
#: Every client of a fan-out is this user's.
EVERYONE = "one"


def ours() -> Send:
    from queue_run import socket

    return lambda message, to: socket.to(to).send(message)


def straightforward() -> Send:
    from benchmarks.straightforward import publish

    def send(message: dict[str, Any], to: str | list[str]) -> None:
        if to == EVERYONE:
            publish(message)
        for user in [to] if isinstance(to, str) else to:
            if user != EVERYONE:
                publish(message, user=user)

    return send


def socketio() -> Send:
    from benchmarks.socketio_program import manager

    def send(message: dict[str, Any], to: str | list[str]) -> None:
        if to == EVERYONE:
            manager.emit("msg", message)
        for user in [to] if isinstance(to, str) else to:
            if user != EVERYONE:
                manager.emit("msg", message, room=f"user:{user}")

    return send


PROGRAMS = {"ours": ours, "straightforward": straightforward, "socketio": socketio}


def on_schedule(count: int, rate: float) -> Iterator[int]:
    """The numbers, each at its time, however long the use of one takes; 0: at once."""
    started = time.perf_counter()
    for number in range(count):
        if rate:
            time.sleep(max(0.0, started + number / rate - time.perf_counter()))
        yield number


class Publisher:
    """The orders that it follows."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._random = random.Random(20)

    def publish(
        self, run: int, messages: int, rate: float = 0, users: int = 0, text: str = ""
    ) -> dict[str, Any]:
        """Send to everyone, or each message to one of so many users at random.

        Args:
            rate: messages per second; as fast as it can without it.

        Returns:
            How many each user was sent.
        """
        text = text or "a message of some length, as people write them"
        sent: Counter[str] = Counter()
        for number in on_schedule(messages, rate):
            to = f"u{self._random.randrange(users)}" if users else EVERYONE
            self._send(_message(run, number, to, text), to)
            sent[to] += 1
        return {"sent": sent}

    def publish_to_many(self, run: int, messages: int, users: int, crowd: int) -> dict[str, Any]:
        """Send each message to so many users in one call, of whom `crowd` are connected."""
        to = [f"u{number}" for number in range(max(users, crowd))][:users]
        for number in range(messages):
            self._send(_message(run, number, "", "to many"), to)
        return {}


def _message(run: int, number: int, to: str, text: str) -> dict[str, Any]:
    return {"run": run, "n": number, "to": to, "text": text, "at": time.perf_counter_ns()}


def main() -> None:
    publisher = Publisher(PROGRAMS[sys.argv[1]]())
    orders: dict[str, Callable[..., dict[str, Any]]] = {
        "publish": publisher.publish,
        "publish_to_many": publisher.publish_to_many,
    }
    for line in sys.stdin:
        order = json.loads(line)
        try:
            answer = orders[order.pop("do")](**order)
        # Whatever it is, the run must end with it.
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)
    # Threads of clients' libraries must not keep it.
    os._exit(0)


if __name__ == "__main__":
    main()
