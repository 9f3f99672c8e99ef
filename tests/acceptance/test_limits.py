"""How much, and how fast, on real processes."""

import asyncio
import time

import pytest

from tests.acceptance.record import Record
from tests.clients import Client, connected
from tests.processes import Stack
from tests.waiting import DEADLINE

RATE = 20


@pytest.fixture(scope="module")
def slow_server(document_stack: Stack) -> int:
    """Number of one more push server, which reads few messages a second."""
    document_stack.push_server(QUEUE_RUN_MAX_MESSAGE_RATE=str(RATE)).wait_until_ready()
    return len(document_stack.push_servers) - 1


async def ask_all(client: Client, count: int) -> list[dict[str, float]]:
    """Send so many messages at once; their answers, which are the numbers and times of calls."""
    sending = asyncio.create_task(send_all(client, count))
    answers = [await client.receive() for _ in range(count)]
    await sending
    return answers


async def send_all(client: Client, count: int) -> None:
    for n in range(count):
        await client.send(n)


async def test_messages_beyond_the_rate_are_answered_in_order_only_later(
    document_stack: Stack, slow_server: int
) -> None:
    count = 5 * RATE
    async with connected(document_stack.ws("/times", server=slow_server)) as client:
        # And not at the first call: a worker that stands still gets all that has come meanwhile.
        began = time.time()
        answers = await ask_all(client, count)
    assert [answer["n"] for answer in answers] == list(range(count))
    # Two seconds' worth may come at once: the others take as long as the rate says, or longer.
    least = (count - 2 * RATE - 1) / RATE
    assert answers[-1]["at"] - began >= least - 0.2


async def test_another_client_does_not_wait_for_the_one_that_sends_too_fast(
    document_stack: Stack, slow_server: int
) -> None:
    url = document_stack.ws("/times", server=slow_server)
    async with connected(url) as fast, connected(url) as other:
        # A minute's worth, so that a machine that stalls is not through with it.
        flood = asyncio.create_task(send_all(fast, 60 * RATE))
        for _ in range(2 * RATE + 1):
            # It is beyond what may come at once.
            answer = await fast.receive()
        got = [await other.ask(n) for n in range(5)]
        while answer["at"] <= got[-1]["at"]:
            answer = await fast.receive()
        assert answer["n"] < 60 * RATE - 1
        flood.cancel()
        # The server reads too slowly to answer a close frame soon.
        fast.connection.transport.abort()


async def test_messages_within_the_rate_are_not_held_up(
    document_stack: Stack, slow_server: int
) -> None:
    count = 2 * RATE
    until = time.monotonic() + DEADLINE
    took = float("inf")
    # At the rate alone they would take two seconds, each time. A busy machine may take longer, too.
    while took >= count / RATE and time.monotonic() < until:
        async with connected(document_stack.ws("/times", server=slow_server)) as slow:
            burst = await ask_all(slow, count)
        assert [answer["n"] for answer in burst] == list(range(count))
        took = burst[-1]["at"] - burst[0]["at"]
    assert took < count / RATE


async def test_a_reply_beyond_the_limit_is_an_error_and_the_next_is_answered(
    document_stack: Stack, record: Record
) -> None:
    async with connected(document_stack.ws("/forms")) as client:
        answer = await client.ask("huge")
        assert answer["error"].startswith("internal error (")
        assert await client.ask("text") == "grüße"
    call = await record.call("huge", "on_error")
    assert "1,048,577 bytes exceeds the limit of 1,048,576" in call["error"]


async def test_a_message_beyond_the_limit_is_refused_at_send_with_both_numbers(
    document_stack: Stack,
) -> None:
    code = """
from queue_run import MessageTooLarge, socket

socket.to("large-ann").send("x" * 100_000)
try:
    socket.to("large-ann").send("x" * 100_001)
except MessageTooLarge as error:
    assert (error.size, error.limit) == (100_001, 100_000)
    assert "100,001 bytes exceeds the limit of 100,000" in str(error)
else:
    raise AssertionError("sent")
socket.to("large-ann").send("the end")
"""
    async with connected(document_stack.ws("/?user=large-ann")) as client:
        script = document_stack.script(code, QUEUE_RUN_MAX_MESSAGE_BYTES="100000")
        assert await asyncio.to_thread(script.wait) == 0, script.output
        assert len(await client.receive()) == 100_000
        assert await client.receive() == "the end"
