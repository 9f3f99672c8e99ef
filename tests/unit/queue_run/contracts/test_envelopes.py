"""What travels on the channel and the dispatch: the wire forms, byte by byte.

A change of these literals breaks push servers and workers of different versions: raise VERSION.
"""

import subprocess
import sys
from typing import Any

import msgspec
import pytest

from queue_run.contracts.envelopes import (
    Admission,
    Admitted,
    ApplicationChanged,
    Authenticate,
    Authenticated,
    ChannelEnvelope,
    CloseConnection,
    CloseUsers,
    Hello,
    Inbound,
    Membership,
    Outcome,
    Refusal,
    ToConnection,
    TokenWanted,
    ToRoom,
    ToUsers,
    Turn,
    Work,
    decode,
    decode_batch,
    encode,
    encode_batch,
    repeatable,
)
from queue_run.contracts.ids import ConnectionId, RequestId, ServerId, UserId
from queue_run.contracts.messages import Form, Message
from queue_run.errors import InvalidEnvelope
from tests.processes import environment
from tests.waiting import DEADLINE

CONNECTION = ConnectionId("s-1")
REQUEST = RequestId("s-1-2")

CHANNEL: dict[bytes, ChannelEnvelope] = {
    b'\x01\x94\xa5users\xc4\x02ID\x92\xa3ann\xa17\x92\x00\xc4\x07{"a":1}': ToUsers(
        id=b"ID", users=[UserId("ann"), UserId("7")], message=Message(Form.JSON, b'{"a":1}')
    ),
    b"\x01\x95\xabclose-users\xc4\x02ID\x91\xa3ann\xcd\x0f\xa0\xa3bye": CloseUsers(
        id=b"ID", users=[UserId("ann")], code=4000, reason="bye"
    ),
    b"\x01\x97\xa4room\xc4\x02ID\xa5lobby\x92\x01\xc4\x02hi\xa3s-1\xc0\xa1S": ToRoom(
        id=b"ID",
        room="lobby",
        message=Message(Form.TEXT, b"hi"),
        without_connection=CONNECTION,
        without_session="S",
    ),
    b"\x01\x97\xa4room\xc4\x02ID\xa5lobby\x92\x01\xc4\x02hi\xc0\xa3ann\xc0": ToRoom(
        id=b"ID",
        room="lobby",
        message=Message(Form.TEXT, b"hi"),
        without_user=UserId("ann"),
    ),
    b"\x01\x97\xaamembership\xc4\x02ID\xa5lobby\xc3\xa3s-1\x90\xa1S": Membership(
        id=b"ID", room="lobby", joins=True, connection=CONNECTION, session="S"
    ),
    b"\x01\x97\xaamembership\xc4\x02ID\xa5lobby\xc2\xc0\x91\xa3ann\xc0": Membership(
        id=b"ID", room="lobby", joins=False, users=[UserId("ann")]
    ),
    b"\x01\x95\xaaconnection\xc4\x02ID\xa3s-1\x92\x01\xc4\x02hi\xa1S": ToConnection(
        id=b"ID", connection=CONNECTION, message=Message(Form.TEXT, b"hi"), session="S"
    ),
    b"\x01\x95\xb0close-connection\xc4\x02ID\xa3s-1\xcd\x03\xe8\xa0": CloseConnection(
        id=b"ID", connection=CONNECTION, code=1000, reason=""
    ),
    b"\x01\x97\xa7outcome\xc4\x02ID\xa3s-1\xa5s-1-2\x92\x02\xc4\x02\x00\xff\xc0\xa417-3": Outcome(
        id=b"ID",
        connection=CONNECTION,
        request=REQUEST,
        reply=Message(Form.BINARY, b"\x00\xff"),
        after="17-3",
    ),
    b"\x01\x97\xa7outcome\xc4\x02ID\xa3s-1\xa5s-1-2\xc0\xa6failed\xc0": Outcome(
        id=b"ID", connection=CONNECTION, request=REQUEST, error="failed"
    ),
    b'\x01\x97\xadauthenticated\xc4\x02ID\xa5s-1-2\xcc\xc8\xc4\x0c{"id":"ann"}\xa0\xc0': (
        Authenticated(id=b"ID", request=REQUEST, status=200, user=b'{"id":"ann"}')
    ),
    b"\x01\x97\xadauthenticated\xc4\x02ID\xa5s-1-2\xcc\xc8\xc0\xa0\xcb@#\x00\x00\x00\x00\x00\x00": (
        Authenticated(id=b"ID", request=REQUEST, status=200, expires=9.5)
    ),
    b"\x01\x97\xadauthenticated\xc4\x02ID\xa5s-1-2\xcd\x01\x91\xc0\xa2no\xc0": Authenticated(
        id=b"ID", request=REQUEST, status=401, reason="no"
    ),
    b"\x01\x93\xabapplication\xc4\x02ID\xa4abcd": ApplicationChanged(id=b"ID", version="abcd"),
    b"\x01\x92\xa5hello\xc4\x02ID": Hello(id=b"ID"),
}

DISPATCH: dict[str, list[Work]] = {
    "1[]": [],
    (
        '1[{"type":"turn","connection":"s-1","path":"/chat","query":"a=1","user":{"id":"ann"},'
        '"requests":[{"id":"s-1-2","text":"hi"},{"id":"s-1-3","binary":"AP8="}],"expires":9.5}]'
    ): [
        Turn(
            connection=CONNECTION,
            path="/chat",
            query="a=1",
            user=msgspec.Raw(b'{"id":"ann"}'),
            requests=[
                Inbound(id=REQUEST, text="hi"),
                Inbound(id=RequestId("s-1-3"), binary=b"\x00\xff"),
            ],
            expires=9.5,
        )
    ],
    '1[{"type":"turn","connection":"s-1","path":"/","requests":[],"expires":9.5}]': [
        Turn(connection=CONNECTION, path="/", requests=[], expires=9.5)
    ],
    (
        '1[{"type":"authenticate","id":"s-1-0","server":"s","path":"/","query":"t=x",'
        '"headers":[["Cookie","a=1"],["Cookie","b=2"]],"remote_ip":"::1","expires":9.5}]'
    ): [
        Authenticate(
            id=RequestId("s-1-0"),
            server=ServerId("s"),
            path="/",
            query="t=x",
            headers=[("Cookie", "a=1"), ("Cookie", "b=2")],
            remote_ip="::1",
            expires=9.5,
        )
    ],
    (
        '1[{"type":"authenticate","id":"s-1-0","server":"s","path":"/","headers":[],'
        '"remote_ip":"::1","message":{"id":"s-1-0","text":"token"},"expires":9.5}]'
    ): [
        Authenticate(
            id=RequestId("s-1-0"),
            server=ServerId("s"),
            path="/",
            headers=[],
            remote_ip="::1",
            message=Inbound(id=RequestId("s-1-0"), text="token"),
            expires=9.5,
        )
    ],
}


def kind(envelope: object) -> str:
    return type(envelope).__name__


# The channel


@pytest.mark.parametrize(
    ("admission", "wire"),
    [
        (Admitted(b'{"id":"ann"}', 9.5), {"status": 200, "user": b'{"id":"ann"}', "expires": 9.5}),
        (Admitted(None, None), {"status": 200}),
        (TokenWanted(), {"status": 100}),
        (Refusal(401, "no token"), {"status": 401, "reason": "no token"}),
    ],
)
def test_the_answer_to_a_handshake_is_one_of_three(
    admission: Admission, wire: dict[str, Any]
) -> None:
    made = Authenticated.of(REQUEST, admission)
    assert made == Authenticated(id=made.id, request=REQUEST, **wire)
    assert made.admission == admission


def test_every_kind_of_the_channel_is_shown_here() -> None:
    assert {type(each) for each in CHANNEL.values()} == set(ChannelEnvelope.__args__)


@pytest.mark.parametrize(("data", "envelope"), CHANNEL.items(), ids=kind)
def test_a_channel_envelope_has_this_wire_form(data: bytes, envelope: ChannelEnvelope) -> None:
    assert encode(envelope) == data


@pytest.mark.parametrize(("data", "envelope"), CHANNEL.items(), ids=kind)
def test_a_channel_envelope_comes_back_unchanged(data: bytes, envelope: ChannelEnvelope) -> None:
    assert decode(data) == envelope


def test_an_answer_of_a_worker_that_knows_no_expiry_is_read() -> None:
    data = b'\x01\x96\xadauthenticated\xc4\x02ID\xa5s-1-2\xcc\xc8\xc4\x0c{"id":"ann"}\xa0'
    assert decode(data) == Authenticated(
        id=b"ID", request=REQUEST, status=200, user=b'{"id":"ann"}'
    )


@pytest.mark.parametrize(("data", "envelope"), CHANNEL.items(), ids=kind)
def test_a_channel_envelope_that_is_cut_short_is_refused(
    data: bytes, envelope: ChannelEnvelope
) -> None:
    for end in range(len(data)):
        with pytest.raises(InvalidEnvelope):
            decode(data[:end])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x02\x92\xa5hello\xc4\x02ID", r"version b'\\x02' where 1 is spoken"),
        (b"", "version b'' where 1 is spoken"),
        (b"\x01\x92\xa5howdy\xc4\x02ID", "Invalid value 'howdy'"),
        (b"\x01\x92\xa5hello\xa2ID", "Expected `bytes`"),
        (b"\x01\x81\xa5hello\xc4\x02ID", "Expected `array`"),
        (b"\x01\x93\xabapplication\xc4\x02ID\x07", "Expected `str`, got `int`"),
        (b"\x01\x93\xabapplication\xc4\x02ID\xa4ab\xff\xff", "invalid start byte|Invalid UTF-8"),
        (b"\x01\xc1", "not an envelope"),
        (b"\x01" + b"\x91" * 100_000, "not an envelope"),
    ],
)
def test_bytes_that_are_no_envelope_of_this_version_are_refused(data: bytes, reason: str) -> None:
    with pytest.raises(InvalidEnvelope, match=reason) as caught:
        decode(data)
    assert caught.value.data == data


def test_the_bytes_of_a_message_do_not_hold_on_to_the_entry() -> None:
    envelope = decode(next(iter(CHANNEL)))
    assert isinstance(envelope, ToUsers)
    assert type(envelope.message.data) is bytes


# Ids


def test_every_envelope_has_an_id_of_its_own() -> None:
    ids = [Hello().id for _ in range(1000)]
    assert len(set(ids)) == 1000
    assert {len(each) for each in ids} == {13}


def test_a_copy_made_by_a_retry_has_the_same_id() -> None:
    data = encode(Hello())
    assert decode(data).id == decode(data).id


def test_a_forked_child_makes_other_ids() -> None:
    code = (
        "import os\n"
        "from queue_run.contracts.envelopes import Hello\n"
        "Hello()\n"
        "reader, writer = os.pipe()\n"
        "if os.fork() == 0:\n"
        "    os.write(writer, Hello().id)\n"
        "    os._exit(0)\n"
        "print(os.read(reader, 100).hex(), Hello().id.hex())\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(),
        capture_output=True,
        check=True,
        text=True,
        timeout=DEADLINE,
    )
    child, parent = ran.stdout.split()
    assert child[:16] != parent[:16]


# The dispatch


def test_every_kind_of_the_dispatch_is_shown_here() -> None:
    assert {type(each) for batch in DISPATCH.values() for each in batch} == set(Work.__args__)


@pytest.mark.parametrize(("text", "batch"), DISPATCH.items())
def test_a_batch_has_this_wire_form(text: str, batch: list[Work]) -> None:
    assert encode_batch(batch) == text


@pytest.mark.parametrize("text", DISPATCH)
def test_a_batch_comes_back_unchanged(text: str) -> None:
    assert encode_batch(decode_batch(text)) == text


def test_a_batch_keeps_its_order() -> None:
    both = [each for batch in DISPATCH.values() for each in batch]
    assert [type(each) for each in decode_batch(encode_batch(both))] == [
        type(each) for each in both
    ]


@pytest.mark.parametrize("text", DISPATCH)
def test_a_batch_that_is_cut_short_is_refused(text: str) -> None:
    for end in range(len(text)):
        with pytest.raises(InvalidEnvelope):
            decode_batch(text[:end])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("2[]", "version '2' where 1 is spoken"),
        ("[]", "version '\\[' where 1 is spoken"),
        ("", "version '' where 1 is spoken"),
        ('1[{"type":"job"}]', "Invalid value 'job'"),
        ("1[1]", "Expected `object`"),
        ('1[{"type":"turn","path":"/"}]', "missing required field `connection`"),
        ("1[" + "[" * 100_000, "not an envelope"),
    ],
)
def test_a_text_that_is_no_batch_of_this_version_is_refused(text: str, reason: str) -> None:
    with pytest.raises(InvalidEnvelope, match=reason):
        decode_batch(text)


@pytest.mark.parametrize("text", ["1[\ud800]", "\ud800"], ids=ascii)
def test_a_batch_with_half_a_character_is_refused(text: str) -> None:
    with pytest.raises(InvalidEnvelope):
        decode_batch(text)


def test_a_request_is_text_or_bytes() -> None:
    assert Inbound(id=REQUEST, text="hi").data == "hi"
    assert Inbound(id=REQUEST, binary=b"\x00").data == b"\x00"


def test_an_empty_frame_keeps_its_kind_on_the_way() -> None:
    requests = [Inbound(id=REQUEST, text=""), Inbound(id=REQUEST, binary=b"")]
    [turn] = decode_batch(
        encode_batch([Turn(connection=CONNECTION, path="/", requests=requests, expires=1.0)])
    )
    assert isinstance(turn, Turn)
    assert [each.data for each in turn.requests] == ["", b""]


def test_an_anonymous_user_is_null() -> None:
    assert Turn(connection=CONNECTION, path="/", requests=[], expires=1.0).user == msgspec.Raw(
        b"null"
    )


# Ids that are the same in every attempt of a job

SENT = ToUsers(users=[UserId("ann"), UserId("bob")], message=Message(Form.TEXT, b"hi"))


def test_what_an_attempt_repeats_has_the_same_id() -> None:
    again = msgspec.structs.replace(SENT, id=b"another", users=SENT.users[::-1])
    assert repeatable(again, "a-job", 3) == repeatable(SENT, "a-job", 3)


def test_what_differs_has_another_id() -> None:
    closed = CloseUsers(users=SENT.users, code=1000, reason="")
    ids = [
        repeatable(SENT, "a-job", 3),
        repeatable(SENT, "a-job", 4),
        repeatable(SENT, "a-job 3", 4),
        repeatable(SENT, "another", 3),
        repeatable(msgspec.structs.replace(SENT, users=[UserId("ann")]), "a-job", 3),
        repeatable(msgspec.structs.replace(SENT, message=Message(Form.BINARY, b"hi")), "a-job", 3),
        repeatable(closed, "a-job", 3),
        repeatable(msgspec.structs.replace(closed, code=4000), "a-job", 3),
        repeatable(ToRoom(room="ann", message=SENT.message), "a-job", 3),
        repeatable(
            ToRoom(room="ann", message=SENT.message, without_user=UserId("ann")), "a-job", 3
        ),
    ]
    assert len(set(ids)) == len(ids)
    assert {len(each) for each in ids} == {len(repeatable(SENT, "a", 0))}


def test_such_an_id_is_the_same_in_every_process() -> None:
    # Push servers compare the ids of workers that differ in release and in hash seed.
    assert repeatable(SENT, "a-job", 3).hex() == "bd4bf498612b4c080ac4fb7d06"
