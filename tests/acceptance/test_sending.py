"""`socket.send` from everywhere reaches all devices of a user, and nobody else."""

import asyncio
import json
from typing import Any

import pytest

from tests.clients import Client, connected
from tests.processes import Stack


async def assert_hears_nothing_but(client: Client, *expected: Any) -> None:
    """The next messages are these; one more question shows that nothing else came between."""
    assert [await client.receive() for _ in expected] == list(expected)
    assert await client.ask("anything else?") == {"echo": "anything else?"}


async def run_script(stack: Stack, code: str) -> None:
    script = stack.script(code)
    code_of_exit = await asyncio.to_thread(script.wait)
    assert code_of_exit == 0, script.output


async def test_a_message_reaches_all_connections_of_its_users_on_both_servers_and_nobody_else(
    stack: Stack,
) -> None:
    async with (
        connected(stack.ws("/?user=to-ann", server=0)) as ann_here,
        connected(stack.ws("/?user=to-ann", server=1)) as ann_there,
        connected(stack.ws("/?user=to-bob", server=1)) as bob,
        connected(stack.ws("/?user=to-eve", server=0)) as eve,
        connected(stack.ws("/", server=0)) as nobody,
        connected(stack.ws("/sends?user=to-sender")) as sender,
    ):
        users = ["to-ann", "to-bob", "to-ann", "to-missing"]
        await sender.send({"way": "others", "users": users, "text": "hi"})
        for client in (ann_here, ann_there, bob):
            await assert_hears_nothing_but(client, {"sent": "hi"})
        for client in (eve, nobody):
            await assert_hears_nothing_but(client)


async def test_a_handler_s_message_is_on_the_channel_before_it_goes_on(stack: Stack) -> None:
    async with connected(stack.ws("/sends?user=async-ann")) as client:
        await client.send({"way": "self", "text": "hi"})
        assert await client.receive() == {"sent": "hi"}
        assert (await client.receive())["written"] > 0


async def test_a_reply_never_overtakes_what_its_handler_sent(stack: Stack) -> None:
    async with connected(stack.ws("/sends?user=order-ann")) as client:
        for _ in range(20):
            await client.send({"way": "without await", "count": 20})
            assert [await client.receive() for _ in range(20)] == [{"sent": n} for n in range(20)]
            assert await client.receive() == {"count": 20}


async def test_a_plain_handler_s_message_is_on_the_channel_when_send_returns(stack: Stack) -> None:
    async with connected(stack.ws("/sync_sends?user=sync-ann")) as client:
        await client.send({"text": "hi"})
        assert await client.receive() == {"sent": "hi"}
        assert (await client.receive())["offset"] is not None


async def test_without_a_user_a_message_goes_to_the_current_connection(stack: Stack) -> None:
    async with connected(stack.ws("/sends")) as client, connected(stack.ws("/")) as other:
        await client.send({"way": "without await", "count": 2})
        assert [await client.receive() for _ in range(3)] == [
            {"sent": 0},
            {"sent": 1},
            {"count": 2},
        ]
        await assert_hears_nothing_but(other)


async def test_a_plain_job_in_a_prefork_worker_sends_before_it_ends(stack: Stack) -> None:
    async with (
        connected(stack.ws("/sends?user=job-ann")) as client,
        connected(stack.ws("/?user=job-ann", server=1)) as other_tab,
        connected(stack.ws("/?user=watcher")) as watcher,
    ):
        await client.send({"way": "job", "queue": "plain_job", "payload": {"n": 1}})
        heard = [await client.receive(), await client.receive()]
        reply = next(each for each in heard if "job" in each and isinstance(each["job"], str))
        message = next(each for each in heard if each is not reply)
        user = {"id": "job-ann", "tags": ["x"]}
        assert message == {"job": {"n": 1}, "id": reply["job"], "user": user}
        await assert_hears_nothing_but(other_tab, message)
        seen = await watcher.receive()
        assert seen["offset"] is not None
        assert (seen["queue"], seen["attempt"]) == ("plain_job", 1)


async def test_an_asynchronous_job_sends_in_order_also_without_await(stack: Stack) -> None:
    async with connected(stack.ws("/?user=async-job-ann")) as ann:
        async with connected(stack.ws("/sends?user=async-job-ann")) as asker:
            await asker.send({"way": "job", "queue": "async_job", "payload": "text"})
            await asker.receive()
        first, second = await ann.receive(), await ann.receive()
        assert (first["step"], second["step"]) == (1, 2)
        assert second["id"]


@pytest.mark.parametrize(
    ("payload", "expected"),
    [("'text'", ("str", 4)), ("b'\\x00\\xff'", ("bytes", 2)), ("{'a': 1}", ("dict", 1))],
)
async def test_a_payload_keeps_its_type(
    stack: Stack, payload: str, expected: tuple[str, int]
) -> None:
    code = f"""
from queue_run import queues; from queue_run.process import context
with context.running(context.Call(user={{"id": "typed-ann"}}, user_id="typed-ann")):
    queues.get("typed").push({payload})
"""
    async with connected(stack.ws("/?user=typed-ann")) as ann:
        await run_script(stack, code)
        got = await ann.receive()
        assert (got["type"], got["size"]) == expected


async def test_a_plain_celery_task_sends(stack: Stack) -> None:
    code = """
from queue_run.process import runtime
runtime.current().celery.send_task("app.shared", ("shared-ann", "hello"))
"""
    async with connected(stack.ws("/?user=shared-ann")) as ann:
        await run_script(stack, code)
        await assert_hears_nothing_but(ann, {"shared": "hello"})


async def test_a_script_a_thread_and_a_view_send_before_they_go_on(stack: Stack) -> None:
    code = """
import threading
from queue_run import socket

def view(request):
    receipt = socket.to("script-ann").send({"from": request}).value
    assert receipt.offset is not None
    return "HTTP 200"

assert view("a view") == "HTTP 200"
thread = threading.Thread(target=view, args=("a thread",))
thread.start()
thread.join()
"""
    async with connected(stack.ws("/?user=script-ann")) as ann:
        await run_script(stack, code)
        await assert_hears_nothing_but(ann, {"from": "a view"}, {"from": "a thread"})


async def test_an_asynchronous_script_sends_on_one_loop_after_another(stack: Stack) -> None:
    code = """
import asyncio
from queue_run import socket

async def main(n):
    receipt = await socket.to(["loop-ann"]).send({"loop": n})
    assert receipt.offset is not None
    socket.to("loop-ann").send({"loop": n + 1})

asyncio.run(main(1))
asyncio.run(main(3))
"""
    async with connected(stack.ws("/?user=loop-ann")) as ann:
        await run_script(stack, code)
        await assert_hears_nothing_but(ann, *({"loop": n} for n in (1, 2, 3, 4)))


async def test_sending_to_ten_thousand_users_at_once_reaches_those_who_are_there(
    stack: Stack,
) -> None:
    async with (
        connected(stack.ws("/?user=many-9999")) as there,
        connected(stack.ws("/sends")) as sender,
    ):
        users = [f"many-{n}" for n in range(10_000)]
        code = f"from queue_run import socket; socket.to({users!r}).send('all')"
        await run_script(stack, code)
        await sender.send({"way": "others", "users": [], "text": "nobody"})
        await assert_hears_nothing_but(there, "all")


async def test_a_handler_closes_its_connection_and_those_of_others(stack: Stack) -> None:
    async with (
        connected(stack.ws("/sends?user=close-ann")) as ann,
        connected(stack.ws("/?user=close-bob", server=1)) as bob,
    ):
        await ann.send({"way": "close others", "users": ["close-bob"]})
        assert await bob.closed() == (4002, "out")
        await ann.send({"way": "close"})
        assert await ann.closed() == (4001, "enough")


async def test_an_unknown_queue_is_refused_with_those_that_exist(stack: Stack) -> None:
    code = """
from queue_run import UnknownQueue, queues
try:
    queues.get("plain_jbo").push(1)
except UnknownQueue as error:
    print(error)
"""
    script = stack.script(code)
    assert await asyncio.to_thread(script.wait) == 0, script.output
    expected = "no queue 'plain_jbo': the workers offer async_job, long_job, plain_job, typed"
    assert script.output.strip() == expected


async def test_a_job_pushed_in_asynchronous_code_may_be_awaited_or_not(stack: Stack) -> None:
    code = """
import asyncio
from queue_run import queues; from queue_run.process import context

async def main():
    queue = queues.get("typed")
    with context.running(context.Call(user={"id": "push-ann"}, user_id="push-ann")):
        first = queue.push("a")
        second = await queue.push("bb")
        assert isinstance(first, str) and len(second) == 36

asyncio.run(main())
"""
    async with connected(stack.ws("/?user=push-ann")) as ann:
        await run_script(stack, code)
        got = [await ann.receive(), await ann.receive()]
        assert sorted(json.dumps(each) for each in got) == [
            '{"type": "str", "size": 1}',
            '{"type": "str", "size": 2}',
        ]


async def test_a_plain_job_is_told_by_its_signal_that_its_time_is_over(stack: Stack) -> None:
    code = "from queue_run import queues; queues.get('long_job').push('long-ann')"
    async with connected(stack.ws("/?user=long-ann")) as ann:
        await run_script(stack, code)
        await assert_hears_nothing_but(ann, {"stopped": True})


async def test_a_close_does_not_overtake_what_was_sent_before_it(stack: Stack) -> None:
    async with connected(stack.ws("/sends?user=last-ann")) as client:
        await client.send({"way": "send and close", "text": "bye"})
        assert await client.until_closed() == [{"sent": "bye"}]
