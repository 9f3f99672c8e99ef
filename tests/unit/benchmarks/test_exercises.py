"""What clients must get: anything else fails the run."""

import asyncio
import json
from typing import Any, cast

import pytest

from benchmarks.client_protocols import Client
from benchmarks.exercises import Listening, Pushes, RoundTrips


class Asking:
    """A client that keeps what it was to send."""

    def __init__(self, user: str = "u0") -> None:
        self.user = user
        self.count = 0
        self.sent_at = 0
        self.sent: list[Any] = []

    def send(self, data: bytes) -> None:
        self.sent.append(json.loads(data))


def clients(*users: str) -> list[Client]:
    return [cast("Client", Asking(user)) for user in users]


def message(number: int, *, run: int = 1, to: str = "") -> bytes:
    return json.dumps({"run": run, "n": number, "at": 1, "to": to, "text": "x"}).encode()


def test_a_listener_is_done_when_each_client_has_everything() -> None:
    errors: list[str] = []
    crowd = clients("a", "b")
    listening = Listening(crowd, errors.append, run=1, messages=2)
    for number in (0, 1):
        for client in crowd:
            assert not listening.done.is_set()
            listening.received(client, message(number))
    assert listening.done.is_set()
    assert errors == []


def test_a_lost_message_is_an_error() -> None:
    errors: list[str] = []
    crowd = clients("a")
    listening = Listening(crowd, errors.append, run=1, messages=3)
    listening.received(crowd[0], message(0))
    listening.received(crowd[0], message(2))
    assert errors == ["message 2 in the place of 1"]
    assert listening.missing == "1 messages are missing at 1 clients"


def test_a_message_of_an_earlier_run_does_not_count() -> None:
    crowd = clients("a")
    listening = Listening(crowd, pytest.fail, run=2, messages=1)
    listening.received(crowd[0], message(0, run=1))
    assert not listening.done.is_set()


@pytest.mark.parametrize("second", [message(0, to="a"), message(1, to="b")])
def test_a_push_that_comes_twice_or_to_another_user_is_an_error(second: bytes) -> None:
    errors: list[str] = []
    crowd = clients("a")
    pushes = Pushes(crowd, errors.append, run=1, pushes=9)
    pushes.received(crowd[0], message(0, to="a"))
    assert errors == []
    pushes.received(crowd[0], second)
    assert len(errors) == 1


async def test_an_answer_to_another_question_is_an_error() -> None:
    errors: list[str] = []
    crowd = clients("a")
    asking = RoundTrips(crowd, errors.append, seconds=60)
    asking.start()
    (question,) = cast("Asking", crowd[0]).sent
    asking.received(crowd[0], json.dumps({"echo": {**question, "n": 99}}).encode())
    assert "another question" in errors[0]
    asking.received(crowd[0], b'{"error": "it failed"}')
    assert "no answer" in errors[1]


async def test_questions_on_a_schedule_end_with_their_last_answer() -> None:
    crowd = clients("a", "b")
    asking = RoundTrips(crowd, pytest.fail, seconds=0.02, rate=200)
    asking.start()
    answered = 0
    async with asyncio.timeout(10):
        while not asking.done.is_set():
            await asyncio.sleep(0)
            for client in crowd:
                sent = cast("Asking", client).sent
                while sent:
                    asking.received(client, json.dumps({"echo": sent.pop()}).encode())
                    answered += 1
    assert answered == asking.result()["count"] == 4
