"""Links to RabbitMQ that fall silent, on real sockets without a broker."""

import contextlib
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
from amqp import ConnectionForced, spec

from queue_run.broker.amqp_transport import (
    HEARTBEAT,
    AmqpChannel,
    AmqpConnection,
    AmqpSSLTransport,
    AmqpTransport,
    Pulse,
    _SSLTransport,
    _TCPTransport,
    pulse,
)
from queue_run.broker.celery_app import create_celery
from queue_run.broker.redis_transport import RedisTransport as RedisTransport
from queue_run.settings import Settings
from queue_run.storage.patience import KEEPALIVE, standstills
from tests.waiting import DEADLINE, eventually

RABBITMQ = Settings(broker_url="amqp://guest:guest@127.0.0.1:1//", namespace="shop")
HEARTBEAT_FRAME = b"\x08\x00\x00\x00\x00\x00\x00\xce"


@pytest.fixture
def link() -> Iterator[tuple[AmqpConnection, socket.socket]]:
    """A connection whose handshake is over, and the other side."""
    ours, theirs = socket.socketpair()
    made = AmqpConnection(host="127.0.0.1:1", heartbeat=HEARTBEAT, answer_time=0.2)
    transport = made.Transport("127.0.0.1:1", None)
    transport.sock, transport.connected = ours, True
    transport._setup_transport()
    ours.settimeout(0.2)
    made._transport, made.heartbeat = transport, round(HEARTBEAT)
    theirs.settimeout(DEADLINE)
    yield made, theirs
    ours.close()
    theirs.close()


def test_an_answer_that_does_not_come_ends_the_link(
    link: tuple[AmqpConnection, socket.socket],
) -> None:
    made, theirs = link
    known = standstills.count
    with pytest.raises(TimeoutError):
        made.drain_events()
    assert theirs.recv(1) == b""
    assert standstills.count == known + 1


def test_who_only_looks_whether_there_is_something_ends_nothing(
    link: tuple[AmqpConnection, socket.socket],
) -> None:
    made, theirs = link
    with pytest.raises(TimeoutError):
        made.drain_events(timeout=0.01)
    made.beat()
    assert theirs.recv(100) == HEARTBEAT_FRAME


def test_a_link_that_takes_nothing_is_ended(link: tuple[AmqpConnection, socket.socket]) -> None:
    """A part of a frame may be out."""
    made, theirs = link
    with pytest.raises(TimeoutError):
        made._transport.write(b"x" * 100_000_000)
    while theirs.recv(1_000_000):
        pass
    with pytest.raises(OSError, match=r"Broken pipe"):
        made.beat()


def test_heartbeats_are_sent_whatever_the_process_does(
    link: tuple[AmqpConnection, socket.socket],
) -> None:
    made, theirs = link
    pulse().keep(made)
    assert theirs.recv(len(HEARTBEAT_FRAME)) == HEARTBEAT_FRAME


def test_heartbeats_go_on_after_a_failure_of_one_and_after_a_defect_of_all(
    link: tuple[AmqpConnection, socket.socket], caplog: pytest.LogCaptureFixture
) -> None:
    made, theirs = link

    class Broken(AmqpConnection):
        failure: BaseException = LookupError("a defect")

        def beat(self) -> None:
            raise self.failure

    broken, pulse = Broken(), Pulse()
    pulse.keep(broken)
    pulse.keep(made)
    eventually(lambda: "LookupError: a defect" in caplog.text, what="the failure of one")
    assert theirs.recv(len(HEARTBEAT_FRAME)) == HEARTBEAT_FRAME
    broken.failure = SystemExit(0)
    lost = "the thread queue-run-heartbeats ended unexpectedly"
    eventually(lambda: lost in caplog.text, what="the end of the thread")
    broken.failure = OSError("away")
    theirs.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while theirs.recv(1000):
            pass
    theirs.settimeout(DEADLINE)
    assert theirs.recv(len(HEARTBEAT_FRAME)) == HEARTBEAT_FRAME


def test_the_other_side_is_given_up_when_nothing_is_heard(
    link: tuple[AmqpConnection, socket.socket],
) -> None:
    made, theirs = link
    made.heartbeat_tick()
    made.heartbeat_tick()
    made._heard_at -= 2 * HEARTBEAT + 1
    with pytest.raises(ConnectionForced):
        made.heartbeat_tick()
    assert theirs.recv(1) == b""


def test_what_has_come_and_was_not_read_yet_is_a_sign_of_life(
    link: tuple[AmqpConnection, socket.socket],
) -> None:
    """This process was busy."""
    made, theirs = link
    made.heartbeat_tick()
    theirs.sendall(HEARTBEAT_FRAME)
    eventually(made._has_news, what="a heartbeat")
    made._heard_at -= 2 * HEARTBEAT + 1
    made.heartbeat_tick()
    assert made._heard_at > time.monotonic() - HEARTBEAT


def test_an_acknowledgement_is_followed_by_a_question_whose_answer_is_told(
    link: tuple[AmqpConnection, socket.socket],
) -> None:
    made, theirs = link
    channel = AmqpChannel(made, 7, auto_decode=False)
    read: list[bool] = []
    channel.acknowledge(258, lambda: read.append(True))
    ack = b"\x01\x00\x07" + b"\x00\x00\x00\x0d" + b"\x00\x3c\x00\x50"
    qos = b"\x01\x00\x07" + b"\x00\x00\x00\x0b" + b"\x00\x3c\x00\x0a"
    expected = (
        *(ack, b"\x00\x00\x00\x00\x00\x00\x01\x02\x01", b"\xce"),
        *(qos, b"\x00\x00\x00\x00\x00\x01\x00", b"\xce"),
    )
    assert theirs.recv(100) == b"".join(expected)
    for _ in range(2):
        channel.dispatch_method(spec.Basic.QosOk, b"", None)
    assert read == [True]


def test_tls_has_the_same_limits() -> None:
    made = AmqpConnection(host="127.0.0.1:1")
    assert isinstance(made.Transport("127.0.0.1:1", 1.0, ssl=True), _SSLTransport)
    assert isinstance(made.Transport("127.0.0.1:1", 1.0), _TCPTransport)


@pytest.mark.parametrize(
    ("url", "transport"),
    [
        ("amqp://127.0.0.1", AmqpTransport),
        ("pyamqp://127.0.0.1", AmqpTransport),
        ("amqps://127.0.0.1", AmqpSSLTransport),
        ("redis://127.0.0.1", RedisTransport),
    ],
)
def test_ours_are_used_in_the_place_of_kombus(url: str, transport: type) -> None:
    app = create_celery(Settings(broker_url=url))
    assert app.connection_for_write().get_transport_cls() is transport
    pooled: Any = app.pool.acquire()
    assert pooled.get_transport_cls() is transport
    pooled.release()


def test_the_queues_of_remote_control_are_those_of_one_link() -> None:
    control: Any = create_celery(RABBITMQ).control
    mailbox = control.mailbox
    names = {mailbox.get_queue("worker@host").name for _ in range(2)}
    assert len(names) == 2
    assert all(name.startswith("worker@host.shop.control.pidbox.") for name in names)
    first, second = mailbox("one link"), mailbox("another link")
    assert first.reply_queue is first.reply_queue
    assert first.reply_queue.name != second.reply_queue.name


def test_with_redis_they_have_one_name() -> None:
    """Each name would stay in Redis."""
    control: Any = create_celery(Settings()).control
    mailbox = control.mailbox
    assert mailbox.get_queue("worker@host").name == mailbox.get_queue("worker@host").name


def test_every_link_has_heartbeats_and_limits() -> None:
    conf = create_celery(RABBITMQ).conf
    assert conf.broker_heartbeat == HEARTBEAT
    assert conf.broker_transport_options["socket_settings"] == KEEPALIVE
    assert conf.broker_transport_options["answer_time"] == 2.5
