"""Rooms, over two push servers."""

import asyncio
from typing import Any

import pytest

from tests.clients import Client, connected
from tests.processes import Stack


def send(room: str, message: Any, **options: Any) -> dict[str, Any]:
    return {"room": room, "message": message, **options}


async def do(client: Client, *steps: dict[str, Any]) -> None:
    """Have a handler take these steps; nothing else may come before its reply."""
    assert await client.ask({"steps": steps, "reply": "done"}) == "done"


async def assert_hears_nothing_but(client: Client, *expected: Any) -> None:
    assert [await client.receive() for _ in expected] == list(expected)
    assert await client.ask({"reply": "that is all"}) == "that is all"


async def passed(client: Client, room: str) -> None:
    """Return when everything sent before has passed the client's push server."""
    await client.send({"steps": [{"join": room}, send(room, "passed")]})
    assert await client.receive() == "passed"


async def test_a_message_to_a_room_reaches_who_joined_on_both_servers_and_nobody_else(
    document_stack: Stack,
) -> None:
    async with (
        connected(document_stack.ws("/?user=both-ann")) as here,
        connected(document_stack.ws("/", server=1)) as there,
        connected(document_stack.ws("/?user=both-ann")) as other_tab,
        connected(document_stack.ws("/", server=1)) as other_room,
    ):
        await do(here, {"join": "both"})
        await do(there, {"join": "both"})
        await do(other_room, {"join": "both-2"})
        await here.send({"steps": [send("both", "hi")]})
        for client in (here, there):
            await assert_hears_nothing_but(client, "hi")
        # Who does not join need not be a member to send.
        await other_tab.send({"steps": [send("both", "from outside")]})
        for client in (here, there):
            await assert_hears_nothing_but(client, "from outside")
        for client in (other_tab, other_room):
            await assert_hears_nothing_but(client)


async def test_a_message_sent_right_after_the_join_reaches_who_joined(
    document_stack: Stack,
) -> None:
    async with connected(document_stack.ws("/", server=1)) as client:
        for n in range(50):
            steps = [{"join": f"after-{n}"}, send(f"after-{n}", n), {"leave": f"after-{n}"}]
            await client.send({"steps": steps, "reply": "done"})
        heard = [await client.receive() for _ in range(100)]
    assert [message for message in heard if message != "done"] == list(range(50))
    # Each message comes before the reply to what sent it.
    for n in range(50):
        assert heard[: heard.index(n)].count("done") <= n


async def test_leaving_ends_it(document_stack: Stack) -> None:
    async with (
        connected(document_stack.ws("/")) as stays,
        connected(document_stack.ws("/", server=1)) as leaves,
    ):
        for client in (stays, leaves):
            await do(client, {"join": "left"}, {"join": "left-other"})
        await do(leaves, {"leave": "left"})
        await stays.send({"steps": [send("left", 1), send("left-other", 2)]})
        await assert_hears_nothing_but(stays, 1, 2)
        await assert_hears_nothing_but(leaves, 2)


async def test_to_join_or_leave_twice_is_harmless(document_stack: Stack) -> None:
    async with connected(document_stack.ws("/")) as client:
        await do(client, {"leave": "twice"}, {"join": "twice"}, {"join": "twice"})
        await client.send({"steps": [send("twice", "once")]})
        await assert_hears_nothing_but(client, "once")
        await do(client, {"leave": "twice"}, {"leave": "twice"}, send("twice", "not heard"))
        await assert_hears_nothing_but(client)


async def test_the_sender_can_be_excluded_but_not_its_other_connections(
    document_stack: Stack,
) -> None:
    async with (
        connected(document_stack.ws("/?user=exclude-ann")) as sender,
        connected(document_stack.ws("/?user=exclude-ann", server=1)) as other_tab,
        connected(document_stack.ws("/?user=exclude-bob")) as bob,
    ):
        for client in (sender, other_tab, bob):
            await do(client, {"join": "exclude"})
        await do(sender, send("exclude", "to others", exclude_sender=True))
        for client in (other_tab, bob):
            await assert_hears_nothing_but(client, "to others")
        await assert_hears_nothing_but(sender)


@pytest.mark.parametrize("server", [0, 1])
async def test_membership_ends_with_the_connection(document_stack: Stack, server: int) -> None:
    room = f"ends-{server}"
    async with connected(document_stack.ws("/?user=ends-ann")) as stays:
        await do(stays, {"join": room})
        url = document_stack.ws("/?user=ends-ann", server=server)
        async with connected(url) as first:
            await do(first, {"join": room})
        async with connected(url) as again:
            await stays.send({"steps": [send(room, "hi")]})
            await assert_hears_nothing_but(stays, "hi")
            await passed(again, f"{room}-passed")
            await assert_hears_nothing_but(again)


async def test_a_job_lets_all_connections_of_its_user_join_and_leave(
    document_stack: Stack,
) -> None:
    payload = {"steps": [{"join": "job-room"}, send("job-room", "welcome")]}
    leaving = {"steps": [{"leave": "job-room"}, send("job-room", "left"), {"send": "end"}]}
    async with (
        connected(document_stack.ws("/?user=rooms-ann")) as here,
        connected(document_stack.ws("/?user=rooms-ann", server=1)) as there,
        connected(document_stack.ws("/?user=rooms-bob")) as bob,
    ):
        await do(bob, {"join": "job-room"})
        await here.send({"steps": [{"push": "act", "payload": payload}]})
        for client in (here, there, bob):
            await assert_hears_nothing_but(client, "welcome")
        await here.send({"steps": [{"push": "act", "payload": leaving}]})
        for client in (here, there):
            await assert_hears_nothing_but(client, "end")
        await assert_hears_nothing_but(bob, "left")


async def test_a_job_excludes_all_connections_of_its_user(document_stack: Stack) -> None:
    payload = {"steps": [send("job-exclude", "to others", exclude_sender=True), {"send": "end"}]}
    async with (
        connected(document_stack.ws("/?user=rooms-eve")) as here,
        connected(document_stack.ws("/?user=rooms-eve", server=1)) as there,
        connected(document_stack.ws("/", server=1)) as nobody,
    ):
        for client in (here, there, nobody):
            await do(client, {"join": "job-exclude"})
        await here.send({"steps": [{"push": "act", "payload": payload}]})
        for client in (here, there):
            await assert_hears_nothing_but(client, "end")
        await assert_hears_nothing_but(nobody, "to others")


async def test_a_plain_job_joins_and_sends(document_stack: Stack) -> None:
    payload = {"join": "plain-room", "message": "hi"}
    async with connected(document_stack.ws("/?user=plain-ann", server=1)) as ann:
        await ann.send({"steps": [{"push": "plain", "payload": payload}]})
        await assert_hears_nothing_but(ann, "hi")


async def test_a_script_sends_to_a_room_and_is_told_that_it_cannot_join(
    document_stack: Stack,
) -> None:
    code = """
from queue_run import OutsideCall, socket

assert socket.room("script-room").send("from a script").offset is not None
for verb in (socket.join, socket.leave):
    try:
        verb("script-room")
    except OutsideCall as error:
        assert "works only while a request or a job of a user runs" in str(error)
        assert f"socket.to(user_id).{verb.__name__}" not in str(error), str(error)
    else:
        raise AssertionError(verb)
"""
    async with connected(document_stack.ws("/")) as client:
        await do(client, {"join": "script-room"})
        script = document_stack.script(code)
        assert await asyncio.to_thread(script.wait) == 0, script.output
        await assert_hears_nothing_but(client, "from a script")


@pytest.mark.parametrize("step", [{"join": ""}, {"leave": 7}, send("", "x")])
async def test_a_room_without_a_name_is_an_error(
    document_stack: Stack, step: dict[str, Any]
) -> None:
    async with connected(document_stack.ws("/")) as client:
        assert "error" in await client.ask({"steps": [step]})
        assert await client.ask({"reply": "next"}) == "next"
