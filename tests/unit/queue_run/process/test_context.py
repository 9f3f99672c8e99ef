"""The call that code runs in."""

import asyncio
import contextvars
import threading

from queue_run.channel.receipts import Receipt, Sending, finished
from queue_run.contracts.ids import ConnectionId, UserId
from queue_run.errors import ChannelUnavailable
from queue_run.process import context
from queue_run.process.context import Call


def call(name: str = "ann") -> Call:
    return Call(user={"id": name}, user_id=UserId(name), connection=ConnectionId("s-1"))


def test_outside_there_is_no_call() -> None:
    assert context.current() is None


def test_inside_the_block_it_is_the_current_one() -> None:
    with context.running(call()) as running:
        assert context.current() is running
    assert context.current() is None


def test_an_inner_call_gives_way_to_the_outer_one() -> None:
    with context.running(call("ann")) as outer:
        with context.running(call("bob")) as inner:
            assert context.current() is inner
        assert context.current() is outer


def test_a_failure_ends_the_call_too() -> None:
    try:
        with context.running(call()):
            raise LookupError
    except LookupError:
        assert context.current() is None


async def test_tasks_side_by_side_have_calls_of_their_own() -> None:
    both_run = asyncio.Barrier(2)

    async def run(name: str) -> object:
        with context.running(call(name)):
            await both_run.wait()
            found = context.current()
            return found and found.user_id

    assert tuple(await asyncio.gather(run("ann"), run("bob"))) == ("ann", "bob")


def test_a_thread_sees_the_call_only_with_its_context() -> None:
    seen: list[Call | None] = []

    def look() -> None:
        seen.append(context.current())

    with context.running(call()) as running:
        for target in (look, lambda: contextvars.copy_context().run(look)):
            thread = threading.Thread(target=target)
            thread.start()
            thread.join()
        thread = threading.Thread(target=contextvars.copy_context().run, args=(look,))
        thread.start()
        thread.join()
    assert seen == [None, None, running]


def test_what_a_job_sends_is_numbered_from_zero() -> None:
    running = call()
    assert [next(running.send_numbers) for _ in range(3)] == [0, 1, 2]
    assert next(call().send_numbers) == 0
    assert call().job_id is None


async def test_a_call_that_sent_nothing_has_no_offset() -> None:
    assert await call().last_offset() is None


async def test_the_last_offset_is_that_of_the_last_message_sent() -> None:
    running = call()
    running.sent += [finished(Receipt("1-0")), finished(Receipt("2-0"))]
    assert await running.last_offset() == "2-0"


async def test_the_last_offset_is_known_when_all_messages_are_on_the_channel() -> None:
    running = call()
    sendings = [Sending(), Sending()]
    running.sent += sendings
    waiting = asyncio.create_task(running.last_offset())
    sendings[0].complete(Receipt("1-0"))
    await asyncio.sleep(0)
    assert not waiting.done()
    sendings[1].complete(Receipt("2-0"))
    assert await waiting == "2-0"


async def test_messages_that_failed_have_no_part_in_the_last_offset() -> None:
    running = call()
    failed = Sending()
    failed.complete(None, ChannelUnavailable("gone"))
    running.sent += [finished(Receipt("1-0")), failed]
    assert await running.last_offset() == "1-0"
