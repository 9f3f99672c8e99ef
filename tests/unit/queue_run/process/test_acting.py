"""Code that acts for a user."""

import asyncio
import threading
from dataclasses import dataclass
from typing import Any

import pytest

from queue_run import socket
from queue_run.channel.receipts import Receipt, finished
from queue_run.contracts.envelopes import ToUsers
from queue_run.contracts.ids import ConnectionId, UserId
from queue_run.errors import NotEncodable, OutsideCall
from queue_run.process import context
from queue_run.process.acting import as_user, context_of
from queue_run.process.context import Call
from queue_run.process.runtime import Runtime
from tests.unit.recorders import RecordingPublisher


@dataclass
class Account:
    """A user of the application's own, with what must not travel."""

    id: Any
    password: str = "secret"


def acting_for() -> tuple[Any, UserId | None] | None:
    call = context.current()
    return None if call is None else (call.user, call.user_id)


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ("ann", {"id": "ann"}),
        (7, {"id": "7"}),
        ({"id": 7, "tags": ("x",)}, {"id": "7", "tags": ["x"]}),
        (Account("ann"), {"id": "ann"}),
        (Account(7), {"id": "7"}),
    ],
)
def test_inside_the_block_code_acts_for_the_user(user: Any, expected: dict[str, Any]) -> None:
    with as_user(user):
        assert acting_for() == (expected, expected["id"])
    assert acting_for() is None


@pytest.mark.parametrize("user", [None, Account(None)])
def test_nobody_has_no_connections(user: Any) -> None:
    with as_user("ann"), as_user(user):
        assert acting_for() == (None, None)
        with pytest.raises(OutsideCall, match="here, name the users"):
            socket.send("hi")


@pytest.mark.parametrize("user", ["", True, 1.5, {}, {"name": "ann"}, {"id": None}, [], object()])
def test_what_is_no_user_is_refused(user: Any) -> None:
    with pytest.raises(TypeError), as_user(user):
        pytest.fail("the block began")
    assert acting_for() is None


def test_a_user_that_has_no_json_form_is_refused() -> None:
    with pytest.raises(NotEncodable), as_user({"id": "ann", "lock": object()}):
        pytest.fail("the block began")


def test_blocks_inside_each_other_each_have_their_user() -> None:
    with as_user("ann"):
        with as_user("bob"):
            assert acting_for() == ({"id": "bob"}, "bob")
        assert acting_for() == ({"id": "ann"}, "ann")


def test_a_failure_ends_the_block_too() -> None:
    with pytest.raises(LookupError), as_user("ann"):
        raise LookupError
    assert acting_for() is None


def test_it_decorates_a_function() -> None:
    assert as_user("ann")(acting_for)() == ({"id": "ann"}, "ann")
    assert acting_for() is None


async def test_tasks_side_by_side_have_users_of_their_own() -> None:
    all_run = asyncio.Barrier(2)

    async def run(name: str) -> Any:
        with as_user(name):
            await all_run.wait()
            return acting_for()

    assert [*await asyncio.gather(run("ann"), run("bob"))] == [
        ({"id": "ann"}, "ann"),
        ({"id": "bob"}, "bob"),
    ]
    assert acting_for() is None


async def test_a_thread_of_asynchronous_code_acts_for_its_user() -> None:
    with as_user("ann"):
        assert await asyncio.to_thread(acting_for) == ({"id": "ann"}, "ann")


def test_messages_go_to_the_user_s_connections(
    process: Runtime, publisher: RecordingPublisher
) -> None:
    with as_user(7):
        socket.send("hi")
    envelope = publisher.envelopes[0]
    assert isinstance(envelope, ToUsers)
    assert envelope.users == ["7"]


def test_a_handler_s_reply_waits_also_for_what_it_sent_for_others() -> None:
    heard: list[Any] = []
    call = Call(
        user=None, user_id=None, connection=ConnectionId("s-1"), on_sent=lambda m: heard.append(m)
    )
    with context.running(call), as_user("ann"):
        inner = context.current()
        assert inner is not None
        inner.sent.append(finished(Receipt("1-0")))
    assert inner is not call
    assert inner.connection is None
    assert [each.peek() for each in call.sent] == [Receipt("1-0")]
    assert inner.on_sent is call.on_sent


def test_a_context_of_a_user_leaves_the_current_one_as_it_is() -> None:
    own = context_of("ann")
    assert acting_for() is None
    seen: list[object] = []
    thread = threading.Thread(target=own.run, args=(lambda: seen.append(acting_for()),))
    thread.start()
    thread.join()
    assert seen == [({"id": "ann"}, "ann")]


def test_what_a_job_sends_for_another_user_is_numbered_with_all_that_it_sends(
    publisher: RecordingPublisher, process: Runtime
) -> None:
    # So that it has the same id in every attempt.
    outer = Call(user={"id": "ann"}, user_id=UserId("ann"), job_id="a-job")
    with context.running(outer):
        socket.send("one")
        with as_user("bob"):
            socket.send("two")
            inner = context.current()
        socket.send("three")
    assert inner is not None
    assert inner.job_id == "a-job"
    assert next(outer.send_numbers) == 3
