"""`socket.send` and its kin: what reaches the channel, and what is refused before it."""

import asyncio
import enum
import threading
from collections.abc import Callable
from typing import Any, TypeAlias

import pytest

from queue_run import Answer, MessageTooLarge, NotEncodable, OutsideCall, socket
from queue_run.channel.receipts import Receipt
from queue_run.contracts.envelopes import CloseConnection, CloseUsers, ToConnection, ToRoom, ToUsers
from queue_run.contracts.ids import ConnectionId, UserId
from queue_run.contracts.messages import Form, Message
from queue_run.errors import ChannelUnavailable, InvalidName
from queue_run.process import context, runtime
from queue_run.process.context import Call
from queue_run.process.runtime import Runtime
from queue_run.socket import SERVER_ENTRIES
from tests.unit.recorders import RecordingPublisher

pytestmark = pytest.mark.usefixtures("process")

CONNECTION = ConnectionId("s1-7")
HELLO = Message(Form.TEXT, b"hello")


def request_of(user: str | None) -> Call:
    return Call(
        user={"id": user} if user else None,
        user_id=UserId(user) if user else None,
        connection=CONNECTION,
    )


def job_of(user: str | None) -> Call:
    return Call(user={"id": user} if user else None, user_id=UserId(user) if user else None)


# To users


def test_a_message_to_a_user_goes_to_all_push_servers(
    publisher: RecordingPublisher, process: Runtime
) -> None:
    socket.to("ann").send("hello")
    [sent] = publisher.published
    assert isinstance(sent.envelope, ToUsers)
    assert (sent.envelope.users, sent.envelope.message) == (["ann"], HELLO)
    assert sent.stream == "test:broadcast"
    assert sent.create
    assert sent.max_entries == process.settings.broadcast_entries


def test_many_users_are_one_entry_and_each_of_them_once(publisher: RecordingPublisher) -> None:
    socket.to(name for name in ("ann", 7, "bob", "7", "ann")).send([1])
    [envelope] = publisher.envelopes
    assert isinstance(envelope, ToUsers)
    assert envelope.users == ["ann", "7", "bob"]
    assert envelope.message == Message(Form.JSON, b"[1]")


@pytest.mark.parametrize("nobody", [[], (), set()])
def test_to_nobody_nothing_is_sent(publisher: RecordingPublisher, nobody: Any) -> None:
    assert socket.to(nobody).send("hello").done
    assert socket.to(nobody).close().done
    assert publisher.published == []


async def test_to_nobody_may_be_awaited(publisher: RecordingPublisher) -> None:
    await socket.to([]).send("hello")
    assert publisher.published == []


def test_to_nobody_a_wrong_message_is_wrong_all_the_same() -> None:
    with pytest.raises(NotEncodable):
        socket.to([]).send(object())


@pytest.mark.parametrize("wrong", ["", None, ["ann", None], [True]])
def test_a_wrong_user_id_is_refused(wrong: Any) -> None:
    with pytest.raises(TypeError):
        socket.to(wrong)


def test_recipients_may_be_sent_to_again(publisher: RecordingPublisher) -> None:
    recipients = socket.to("ann")
    recipients.send("one")
    recipients.send("two")
    assert [each.message.data for each in publisher.envelopes if isinstance(each, ToUsers)] == [
        b"one",
        b"two",
    ]


# To whoever the current call belongs to


@pytest.mark.parametrize("call", [request_of("ann"), job_of("ann")], ids=["request", "job"])
def test_send_reaches_all_connections_of_the_calls_user(
    publisher: RecordingPublisher, call: Call
) -> None:
    with context.running(call):
        socket.send("hello")
    [envelope] = publisher.envelopes
    assert isinstance(envelope, ToUsers)
    assert (envelope.users, envelope.message) == (["ann"], HELLO)


def test_without_a_user_send_reaches_the_connection(publisher: RecordingPublisher) -> None:
    with context.running(request_of(None)):
        socket.send("hello")
    [sent] = publisher.published
    assert isinstance(sent.envelope, ToConnection)
    assert (sent.envelope.connection, sent.envelope.message) == (CONNECTION, HELLO)
    assert sent.stream == "test:server:s1"
    assert sent.max_entries == SERVER_ENTRIES


def test_the_stream_of_a_push_server_that_is_gone_is_not_made_anew(
    publisher: RecordingPublisher,
) -> None:
    with context.running(request_of(None)):
        socket.send("hello")
        socket.close()
    assert [each.create for each in publisher.published] == [False, False]


@pytest.mark.parametrize("function", [lambda: socket.send("hello"), socket.close])
@pytest.mark.parametrize("call", [None, job_of(None)], ids=["no call", "job without a user"])
def test_where_there_is_nobody_the_error_says_to_name_the_users(
    publisher: RecordingPublisher, function: Callable[[], Answer[Receipt]], call: Call | None
) -> None:
    def run() -> None:
        with pytest.raises(OutsideCall, match=r"socket\.to\(user_id\)"):
            function()

    if call is None:
        run()
    else:
        with context.running(call):
            run()
    assert publisher.published == []


def test_a_thread_of_its_own_is_outside_the_call() -> None:
    errors: list[Exception] = []

    def send() -> None:
        try:
            socket.send("hello")
        except OutsideCall as error:
            errors.append(error)

    with context.running(request_of("ann")):
        thread = threading.Thread(target=send)
        thread.start()
        thread.join()
    assert len(errors) == 1


def test_what_a_call_sends_to_users_is_noted_so_that_its_reply_comes_after_it() -> None:
    with context.running(request_of("ann")) as call:
        first = socket.send("one")
        second = socket.to("bob").send("two")
        third = socket.to("bob").close()
    assert call is not None
    assert call.sent == [first, second, third]


# Both worlds


def test_synchronous_code_has_the_message_on_the_channel_when_send_returns(
    publisher: RecordingPublisher,
) -> None:
    receipt = socket.to("ann").send("hello")
    assert publisher.published[0].way == "publish"
    assert receipt.value == Receipt("1-0")


async def test_asynchronous_code_is_never_blocked(publisher: RecordingPublisher) -> None:
    publisher.confirms = False
    receipt = socket.to("ann").send("hello")
    assert publisher.published[0].way == "submit"
    assert not receipt.done
    publisher.confirm()
    assert (await receipt).offset == "1-0"


async def test_a_thread_beside_a_loop_is_synchronous(publisher: RecordingPublisher) -> None:
    await asyncio.to_thread(socket.to("ann").send, "hello")
    assert publisher.published[0].way == "publish"


# Sizes and forms


@pytest.mark.parametrize(
    "send", [socket.send, lambda message: socket.to("ann").send(message)], ids=["send", "to"]
)
@pytest.mark.parametrize("user", ["ann", None])
def test_a_message_beyond_the_limit_never_reaches_the_channel(
    publisher: RecordingPublisher, send: Callable[[object], Answer[Receipt]], user: str | None
) -> None:
    with context.running(request_of(user)):
        send("x" * 2048)
        with pytest.raises(MessageTooLarge, match=r"2,049 bytes exceeds the limit of 2,048"):
            send("x" * 2049)
    assert len(publisher.published) == 1


def test_a_value_without_a_json_form_is_refused(publisher: RecordingPublisher) -> None:
    with pytest.raises(NotEncodable):
        socket.to("ann").send({"key": object()})
    with pytest.raises(NotEncodable, match="None is no message"):
        socket.to("ann").send(None)
    assert publisher.published == []


# Closing


def test_close_ends_the_current_connection_alone(publisher: RecordingPublisher) -> None:
    with context.running(request_of("ann")):
        socket.close(4001, "moved")
    [sent] = publisher.published
    assert isinstance(sent.envelope, CloseConnection)
    assert (sent.envelope.connection, sent.envelope.code, sent.envelope.reason) == (
        CONNECTION,
        4001,
        "moved",
    )
    # Behind what was sent to the user before.
    assert sent.stream == "test:broadcast"


def test_without_a_user_a_close_stands_behind_what_the_connection_was_sent(
    publisher: RecordingPublisher,
) -> None:
    with context.running(request_of(None)):
        socket.send("bye")
        socket.close()
    assert [sent.stream for sent in publisher.published] == ["test:server:s1"] * 2


def test_close_in_a_job_ends_all_connections_of_its_user(publisher: RecordingPublisher) -> None:
    with context.running(job_of("ann")):
        socket.close()
    [envelope] = publisher.envelopes
    assert isinstance(envelope, CloseUsers)
    assert (envelope.users, envelope.code, envelope.reason) == (["ann"], 1000, "")


# In a job, whose attempts may repeat what one before has sent


def ids_of_attempt(
    publisher: RecordingPublisher, send: Callable[[], object], job: str
) -> list[bytes]:
    """The ids under which an attempt of a job sends."""
    publisher.published.clear()
    call = job_of("ann")
    call.job_id = job
    with context.running(call):
        send()
    return [envelope.id for envelope in publisher.envelopes]


def everything() -> None:
    socket.send("hello")
    socket.send("hello")
    socket.to(["bob", "ann"]).send({"a": 1})
    socket.room("hall").send("hello", exclude_sender=True)
    socket.to("bob").close()


def test_every_attempt_of_a_job_sends_under_the_same_ids(publisher: RecordingPublisher) -> None:
    first = ids_of_attempt(publisher, everything, "a-job")
    assert ids_of_attempt(publisher, everything, "a-job") == first
    assert len(set(first)) == 5
    assert not set(ids_of_attempt(publisher, everything, "another")) & set(first)


def test_what_another_attempt_sends_in_its_place_has_another_id(
    publisher: RecordingPublisher,
) -> None:
    first = ids_of_attempt(publisher, lambda: socket.send("50%"), "a-job")
    assert ids_of_attempt(publisher, lambda: socket.send("51%"), "a-job") != first


def test_every_attempt_joins_rooms_anew(publisher: RecordingPublisher) -> None:
    # A connection that was made since the last attempt needs it.
    first = ids_of_attempt(publisher, lambda: socket.join("hall"), "a-job")
    assert ids_of_attempt(publisher, lambda: socket.join("hall"), "a-job") != first


def test_outside_jobs_every_send_has_an_id_of_its_own(publisher: RecordingPublisher) -> None:
    for _ in range(2):
        with context.running(request_of("ann")):
            everything()
    everything_outside = [envelope.id for envelope in publisher.envelopes]
    assert len(set(everything_outside)) == len(everything_outside) == 10


def test_close_ends_all_connections_of_named_users(publisher: RecordingPublisher) -> None:
    socket.to(["ann", "bob", "ann"]).close(4000, "bye")
    [envelope] = publisher.envelopes
    assert isinstance(envelope, CloseUsers)
    assert (envelope.users, envelope.code, envelope.reason) == (["ann", "bob"], 4000, "bye")


Close: TypeAlias = Callable[..., Answer[Receipt]]

CLOSES: list[Close] = [
    socket.close,
    socket.to("ann").close,
    socket.to([]).close,
]


@pytest.mark.parametrize("close", CLOSES, ids=["current", "users", "nobody"])
@pytest.mark.parametrize(
    "code", [0, 999, 1001, 1005, 1006, 1015, 2999, 5000, -1, 4000.0, "4000", None]
)
def test_codes_that_an_application_may_not_send_are_refused(
    publisher: RecordingPublisher, close: Close, code: object
) -> None:
    with (
        context.running(request_of("ann")),
        pytest.raises(ValueError, match=f"1000 or 3000 to 4999, not {code}"),
    ):
        close(code)
    assert publisher.published == []


@pytest.mark.parametrize("code", [1000, 3000, 4999])
def test_codes_that_an_application_may_send_are_sent(
    publisher: RecordingPublisher, code: int
) -> None:
    socket.to("ann").close(code)
    assert len(publisher.published) == 1


@pytest.mark.parametrize("close", CLOSES, ids=["current", "users", "nobody"])
def test_a_reason_that_fits_no_close_frame_is_refused(
    close: Close,
) -> None:
    with context.running(request_of("ann")):
        close(1000, "x" * 123)
        for reason in ("x" * 124, "ü" * 62):
            with pytest.raises(ValueError, match="at most 123 bytes"):
                close(1000, reason)


# Who is online


def test_what_is_sent_to_users_asks_which_of_them_are_online(
    publisher: RecordingPublisher,
) -> None:
    socket.to(["ann", 7]).send("hello")
    socket.to("ann").close()
    socket.room("lobby").send("hello")
    assert [each.counted for each in publisher.published] == [
        ("test:online", ["ann", "7"]),
        None,
        None,
    ]


def test_of_nobody_nobody_is_online() -> None:
    assert socket.to([]).send("hello").value.online == 0


def test_without_redis_nobody_knows_who_is_online(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime.current().store, "_patience", 0.1)
    with pytest.raises(ChannelUnavailable):
        socket.is_online("ann")
    with pytest.raises(ChannelUnavailable):
        socket.online(["ann"])


async def test_without_redis_awaiting_the_answer_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime.current().store, "_patience", 0.1)
    asked = socket.is_online("ann")
    with pytest.raises(TypeError, match="await it"):
        bool(asked)
    with pytest.raises(ChannelUnavailable):
        await asked


@pytest.mark.parametrize("wrong", ["", None, True])
def test_a_wrong_user_id_is_nobody_who_could_be_online(wrong: Any) -> None:
    with pytest.raises(TypeError):
        socket.is_online(wrong)
    with pytest.raises(TypeError):
        socket.online([wrong])


class Rooms(enum.StrEnum):
    HALL = "hall"


class Name(str):
    """Like a text of numpy."""

    __slots__ = ()


@pytest.mark.parametrize("name", [Rooms.HALL, Name("hall")])
def test_a_room_may_be_named_by_a_text_of_another_class(
    publisher: RecordingPublisher, name: str
) -> None:
    socket.room(name).send("hi")
    [sent] = publisher.published
    envelope = sent.envelope
    assert isinstance(envelope, ToRoom)
    assert (envelope.room, type(envelope.room)) == ("hall", str)


@pytest.mark.parametrize("take", [socket.room, socket.to])
@pytest.mark.parametrize("name", ["", "a\ud83d", None, 1.5, "x" * 1_025], ids=ascii)
def test_what_can_be_no_name_is_refused_with_a_sentence(
    process: Runtime, take: Callable[[Any], object], name: object
) -> None:
    with pytest.raises(InvalidName):
        take(name)


def test_half_a_character_is_no_reason(process: Runtime) -> None:
    with pytest.raises(InvalidName, match=r"the close reason .* has half a character"):
        socket.to("ann").close(1000, "a\ud83d")
    with pytest.raises(TypeError, match="a close reason is a text, not int"):
        socket.to("ann").close(1000, 7)  # type: ignore[arg-type]
