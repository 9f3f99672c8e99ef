"""Messages to users' devices: `from queue_run import socket`.

One call for both worlds, which gives an `Answer`. In synchronous code a message is on the channel
when `send` returns, and the answer's `value` is its receipt. In asynchronous code, `await` the
call; without the await the message still goes out, in order.

Works in handlers, jobs, plain Celery tasks, views, threads and scripts.
"""

from collections.abc import Iterable
from concurrent.futures import Executor
from functools import partial

import msgspec

from queue_run.application.requests import SentMessage
from queue_run.channel.memberships import Noted, noted
from queue_run.channel.publisher import Counted
from queue_run.channel.receipts import Receipt, finished
from queue_run.contracts.answers import Answer, answered, in_event_loop
from queue_run.contracts.envelopes import (
    ChannelEnvelope,
    CloseConnection,
    CloseUsers,
    Membership,
    ToConnection,
    ToRoom,
    ToUsers,
    encode,
    repeatable,
)
from queue_run.contracts.ids import (
    ConnectionId,
    UserId,
    check_characters,
    plain_text,
    server_of,
    user_id,
    user_ids,
)
from queue_run.contracts.messages import Message
from queue_run.contracts.messages import encode as encode_message
from queue_run.errors import InvalidName, OutsideCall
from queue_run.process import context, runtime

__all__ = [
    "Recipients",
    "Room",
    "close",
    "is_online",
    "join",
    "leave",
    "online",
    "room",
    "send",
    "to",
]

#: About how many entries the stream of one push server holds. Few are enough: replies are read at
#: once.
SERVER_ENTRIES = 10_000


def send(message: object) -> Answer[Receipt]:
    """Send a message to all connections of the current user; without a user, to this connection.

    Args:
        message: text becomes a text frame, bytes a binary frame, anything else JSON.

    Returns:
        The receipt. Its `offset` is the message's position on the stream; `online` is the number of
        users that had an open connection, None where the message goes to one connection.

    Raises:
        OutsideCall: when no request or job of a user runs here.
        NotEncodable: when the message has no JSON form.
        MessageTooLarge: when the message is larger than the setting `max_message_bytes`.
        ChannelUnavailable: when Redis does not take the message in time.
    """
    call = _call_of_someone("send")
    if call.user_id is not None:
        return to(call.user_id).send(message)
    assert call.connection is not None
    body = _encoded(message)
    receipt = _to_connection(call.connection, call.session, body)
    _sent(SentMessage(data=message, connection=call.connection))
    return receipt


def close(code: int = 1000, reason: str = "") -> Answer[Receipt]:
    """Close the current connection; in a job, all connections of its user.

    Args:
        code: the close code: 1000, or 3000 to 4999 (RFC 6455, 7.4.2).
        reason: at most 123 bytes of UTF-8.

    Returns:
        The receipt of the close.

    Raises:
        OutsideCall: when no request or job of a user runs here.
        ValueError: for a code or reason that may not be sent.
        ChannelUnavailable: when Redis does not take it in time.
    """
    call = _call_of_someone("close")
    if call.connection is None:
        assert call.user_id is not None
        return to(call.user_id).close(code, reason)
    _check_close(code, reason)
    envelope = CloseConnection(connection=call.connection, code=code, reason=reason)
    # On the stream that `send` uses here, so that it overtakes nothing that was sent before.
    if call.user_id is not None:
        return _broadcast(envelope)
    return _to_server(call.connection, envelope)


def join(room: str) -> Answer[Receipt]:
    """Let the current connection join a room; in a job, all connections of its user.

    A connection is in the room until it leaves it, or ends.

    Raises:
        OutsideCall: when no request or job of a user runs here.
        InvalidName: for a room without a name, or with one that cannot be used.
    """
    return _change_membership("join", room)


def leave(room: str) -> Answer[Receipt]:
    """Let the current connection leave a room; in a job, all connections of its user.

    Raises:
        OutsideCall: when no request or job of a user runs here.
        InvalidName: for a room without a name, or with one that cannot be used.
    """
    return _change_membership("leave", room)


def room(name: str) -> "Room":
    """All connections in a room, on every push server.

    Raises:
        InvalidName: for a room without a name, or with one that cannot be used.
    """
    return Room(_checked_room(name))


class Room:
    """The connections that have joined a room."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def send(self, message: object, *, exclude_sender: bool = False) -> Answer[Receipt]:
        """Send a message to all connections in the room.

        Args:
            message: text becomes a text frame, bytes a binary frame, anything else JSON.
            exclude_sender: do not send to the current connection; in a job, to no connection of its
                user.

        Returns:
            The receipt. Its `offset` is the message's position on the stream.

        Raises:
            NotEncodable: when the message has no JSON form.
            MessageTooLarge: when the message is larger than the setting `max_message_bytes`.
            ChannelUnavailable: when Redis does not take the message in time.
            OutsideCall: when there is no sender to exclude.
        """
        envelope = ToRoom(room=self.name, message=_encoded(message))
        if exclude_sender:
            call = _call_of_someone("room(...).send with exclude_sender")
            envelope = msgspec.structs.replace(
                envelope,
                without_connection=call.connection,
                without_session=call.session,
                without_user=None if call.connection else call.user_id,
            )
        receipt = _broadcast(envelope)
        _sent(SentMessage(data=message, room=self.name))
        return receipt


def to(users: str | int | Iterable[str | int]) -> "Recipients":
    """All connections of these users, on every push server.

    Args:
        users: one id or any number of ids; repeated ids count once.

    Raises:
        InvalidName: for an id that is neither a non-empty text nor an int, or cannot be used.
    """
    return Recipients(user_ids(users))


class Recipients:
    """The users that a message goes to."""

    __slots__ = ("users",)

    def __init__(self, users: list[UserId]) -> None:
        self.users = users

    def send(self, message: object) -> Answer[Receipt]:
        """Send to all connections of these users. No users: nothing is sent.

        Returns:
            An answer whose value is a receipt; its `online` says how many of the users had an open
            connection.

        Raises:
            NotEncodable: when the message has no JSON form.
            MessageTooLarge: beyond the setting `max_message_bytes`.
            ChannelUnavailable: when Redis does not take it in time.
        """
        body = _encoded(message)
        if not self.users:
            return _nothing_to_do(Receipt(online=0))
        receipt = _broadcast(ToUsers(users=self.users, message=body), counted=self.users)
        _sent(SentMessage(data=message, users=tuple(self.users)))
        return receipt

    def close(self, code: int = 1000, reason: str = "") -> Answer[Receipt]:
        """Close all connections of these users.

        Args:
            code: the close code: 1000, or 3000 to 4999 (RFC 6455, 7.4.2).
            reason: at most 123 bytes of UTF-8.

        Raises:
            ValueError: for a code or reason that may not be sent.
            ChannelUnavailable: when Redis does not take it in time.
        """
        _check_close(code, reason)
        if not self.users:
            return _nothing_to_do(Receipt())
        return _broadcast(CloseUsers(users=self.users, code=code, reason=reason))


def is_online(user: str | int) -> Answer[bool]:
    """Ask if a user has an open connection, on any push server.

    In synchronous code the answer is true or false on return, in asynchronous code await the call.

    Raises:
        InvalidName: for an id that is neither a non-empty text nor an int, or cannot be used.
        ChannelUnavailable: when Redis does not answer in time.
    """
    return answered(_asker, partial(_is_online, user_id(user)))


def online(users: str | int | Iterable[str | int]) -> Answer[list[UserId]]:
    """Ask which of the users have open connections: in the order given, each once.

    In synchronous code they are the answer's `value`, in asynchronous code await the call.

    Raises:
        InvalidName: for an id that is neither a non-empty text nor an int, or cannot be used.
        ChannelUnavailable: when Redis does not answer in time.
    """
    return answered(_asker, partial(_online, user_ids(users)))


def _asker() -> Executor:
    return runtime.current().asker


def _is_online(user: UserId) -> bool:
    return runtime.current().presence.is_online(user)


def _online(users: list[UserId]) -> list[UserId]:
    return runtime.current().presence.online(users)


def _nothing_to_do(receipt: Receipt) -> Answer[Receipt]:
    sending = finished(receipt)
    if not in_event_loop():
        sending.now()
    return sending


def _broadcast(
    envelope: ChannelEnvelope, *, counted: list[UserId] | None = None, also: Noted | None = None
) -> Answer[Receipt]:
    here = runtime.current()
    call = context.current()
    if call is not None and call.job_id is not None:
        envelope = _repeatable(envelope, call.job_id, next(call.send_numbers))
    receipt = _publish(
        here.keys.broadcast,
        envelope,
        here.settings.broadcast_entries,
        create=True,
        counted=None if counted is None else (here.keys.online, counted),
        also=also,
    )
    if call is not None:
        call.sent.append(receipt)
    return receipt


def _repeatable(envelope: ChannelEnvelope, job: str, number: int) -> ChannelEnvelope:
    """Give the envelope an id that is the same in each attempt: push servers drop repetitions."""
    if isinstance(envelope, ToUsers | ToRoom | CloseUsers):
        return msgspec.structs.replace(envelope, id=repeatable(envelope, job, number))
    # A join and a leave do no harm twice, and a connection made since the last attempt needs them.
    return envelope


def _to_connection(
    connection: ConnectionId, session: str | None, message: Message
) -> Answer[Receipt]:
    envelope = ToConnection(connection=connection, message=message, session=session)
    if session is not None:
        # Its client may be at another push server by now, or on its way to one.
        return _broadcast(envelope)
    return _to_server(connection, envelope)


def _to_server(connection: ConnectionId, envelope: ChannelEnvelope) -> Answer[Receipt]:
    # A stream that is gone belonged to a push server that is gone, and the connection with it.
    stream = runtime.current().keys.server(server_of(connection))
    return _publish(stream, envelope, SERVER_ENTRIES, create=False, share=True)


def _publish(
    stream: str,
    envelope: ChannelEnvelope,
    max_entries: int,
    *,
    create: bool,
    share: bool = False,
    counted: Counted | None = None,
    also: Noted | None = None,
) -> Answer[Receipt]:
    publisher = runtime.current().publisher
    publish = publisher.submit if in_event_loop() else publisher.publish
    return publish(
        stream,
        encode(envelope),
        max_entries=max_entries,
        create=create,
        share=share,
        counted=counted,
        noted=also,
    )


def _encoded(message: object) -> Message:
    return encode_message(message, limit=runtime.current().settings.max_message_bytes)


def _sent(message: SentMessage) -> None:
    """Call `on_message_sent` of the current call, else of the application loaded here."""
    call = context.current()
    tell = call.on_sent if call is not None and call.on_sent else runtime.current().on_sent
    if tell is not None:
        tell(message)


def _change_membership(verb: str, room: str) -> Answer[Receipt]:
    call = _call_of_someone(verb)
    name = _checked_room(room)
    change = Membership(room=name, joins=verb == "join")
    if call.connection is not None:
        change = msgspec.structs.replace(change, connection=call.connection, session=call.session)
    else:
        assert call.user_id is not None
        change = msgspec.structs.replace(change, users=[call.user_id])
    here = runtime.current()
    also = noted(
        change,
        here.keys,
        session_time=here.settings.session_time,
        window_time=here.settings.window_time,
        max_rooms=here.settings.max_rooms,
    )
    return _broadcast(change, also=also)


def _checked_room(name: object) -> str:
    if not isinstance(name, str) or not name:
        raise InvalidName(f"a room has a name, not {name!r}")
    name = plain_text(name)
    check_characters("name of a room", name)
    limit = runtime.current().settings.max_room_bytes
    size = len(name.encode())
    if size > limit:
        raise InvalidName(f"the name of a room has {limit} bytes at most, not {size:,}")
    return name


def _call_of_someone(verb: str) -> context.Call:
    call = context.current()
    if call is None or (call.user_id is None and call.connection is None):
        raise OutsideCall(verb)
    return call


def _check_close(code: object, reason: object) -> None:
    if not isinstance(code, int) or (code != 1000 and not 3000 <= code <= 4999):
        raise ValueError(f"a close code is 1000 or 3000 to 4999, not {code}")
    if not isinstance(reason, str):
        raise TypeError(f"a close reason is a text, not {type(reason).__name__}")
    check_characters("close reason", reason)
    if len(reason.encode()) > 123:
        raise ValueError("a close reason has at most 123 bytes")
