"""RabbitMQ as Celery's broker, over links that may fall silent.

py-amqp waits for an answer for ever. Here the rule of `queue_run.storage.patience` holds: nobody
waits longer than an answer may take, and a link that gave none is shut down, so that whoever uses
it next connects again.

A worker that consumes has negotiated heartbeats: either side gives the other up when it hears
nothing. A thread sends those of this process, since a solo worker does nothing else while it runs a
job, and its link would be closed meanwhile.
"""

import logging
import socket
import ssl
import struct
import threading
import time
import uuid
import weakref
from collections.abc import Callable
from copy import copy
from typing import Any

from amqp import ConnectionForced, RecoverableConnectionError, spec
from amqp import transport as amqp_transport
from amqp.exceptions import MessageNacked
from celery.app.control import Control as CeleryControl
from kombu import Queue
from kombu.pidbox import Mailbox as KombuMailbox
from kombu.transport import pyamqp

from queue_run.storage.patience import LONGEST_ANSWER, standstills, unconfirmed
from queue_run.threads.forks import one_in_each_process
from queue_run.threads.vital import VitalThread

log = logging.getLogger(__name__)

#: Seconds after which, and up to as many again, a silent side of a link is given up; RabbitMQ waits
#: for three times as many, at most.
HEARTBEAT = 3.0
#: Seconds between two heartbeats that this process sends.
PULSE = HEARTBEAT / 2
#: Type 8, channel 0, nothing in it.
_HEARTBEAT_FRAME = b"\x08\x00\x00\x00\x00\x00\x00\xce"
#: Type, channel, length of what follows but the end, class and method; then a delivery tag, and
#: whether all before it are meant.
_ACK_FRAME = struct.Struct(">BHIHHQBB")
#: The same, and a prefetch for those who begin to consume: a question that changes nothing for
#: those who consume, and that has an answer, which an acknowledgement has not.
_QOS_FRAME = struct.Struct(">BHIHHIHBB")
_FRAME_END = 0xCE


class _Sending:
    """The writing side of a link to RabbitMQ: frames are written one at a time, from any thread."""

    sock: socket.socket | None

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._writing = threading.Lock()

    def write(self, data: bytes) -> None:
        with self._writing:
            try:
                super().write(data)  # type: ignore[misc]
            except TimeoutError:
                # A part of a frame may be out: what follows would be read as its rest.
                self.shut_down()
                raise

    def shut_down(self) -> None:
        """End the link in both directions. Its socket stays: event loops know it."""
        if self.sock is not None:
            try:
                # Not that of TLS, which would forget its state and raise other errors.
                socket.socket.shutdown(self.sock, socket.SHUT_RDWR)
            except OSError:
                return


class _TCPTransport(_Sending, amqp_transport.TCPTransport):
    pass


class _SSLTransport(_Sending, amqp_transport.SSLTransport):
    pass


class NoQueue(RecoverableConnectionError):
    """RabbitMQ has no queue for a message: somebody has deleted it, and it is to be declared anew.

    An error of the link, since what was declared is known for each link.
    """

    def __str__(self) -> str:
        return "RabbitMQ has no queue for it"


class NotTaken(RecoverableConnectionError):
    """RabbitMQ has said that it did not take a message; an error of the link, so that it is tried
    again."""

    def __str__(self) -> str:
        return "RabbitMQ did not take it: a policy bounds its queue, or the queue is not available"


class Blocked(RecoverableConnectionError):
    """RabbitMQ is alive, and reads nothing that is published."""

    def __str__(self) -> str:
        return (
            "RabbitMQ takes no messages now, since its memory or its disk is full: see "
            "`rabbitmq-diagnostics alarms`"
        )


class AmqpChannel(pyamqp.Channel):
    """A channel of a link."""

    basic_qos: Any
    connection: Any
    channel_id: int

    #: Whether the message that was published last has come back.
    _came_back = False
    #: Called when RabbitMQ has read what was acknowledged.
    _when_read: Callable[[], None] | None = None

    def acknowledge(self, delivery_tag: int, when_read: Callable[[], None]) -> None:
        """Acknowledge all messages up to this one.

        Args:
            when_read: called when RabbitMQ has read it; replaces that of the call before.
        """
        self._when_read = when_read
        # Both at once: py-amqp would take several times as long, and RabbitMQ read twice.
        self.connection.transport.write(
            _ACK_FRAME.pack(1, self.channel_id, 13, *spec.Basic.Ack, delivery_tag, 1, _FRAME_END)
            + _QOS_FRAME.pack(1, self.channel_id, 11, *spec.Basic.Qos, 0, 1, 0, _FRAME_END)
        )

    def dispatch_method(self, method_sig: Any, payload: Any, content: Any) -> None:
        if method_sig == spec.Basic.QosOk and self._when_read is not None:
            when_read, self._when_read = self._when_read, None
            when_read()
        else:
            super().dispatch_method(method_sig, payload, content)

    def basic_publish_confirm(
        self, *arguments: Any, confirm_timeout: float | None = None, **options: Any
    ) -> Any:
        """Publish a message, and wait until RabbitMQ has confirmed it.

        Args:
            confirm_timeout: seconds for which RabbitMQ may say that it reads nothing; None for no
                more than an answer may take.

        Raises:
            OSError, AMQPError: when the message was not confirmed.
        """
        if self.connection is not None:
            self.connection.wait_while_blocked(confirm_timeout)
        self._came_back = False
        try:
            published = super().basic_publish_confirm(*arguments, **options)
        except MessageNacked as error:
            raise NotTaken from error
        except BaseException:
            unconfirmed.count += 1
            raise
        if self._came_back:
            raise NoQueue
        return published

    def _on_basic_return(self, *arguments: Any) -> None:
        # Only what was published as mandatory; the confirmation follows.
        self._came_back = True

    def probe(self) -> None:
        """Have RabbitMQ answer.

        Raises:
            OSError, AMQPError: when it does not.
        """
        # The cheapest question; it changes nothing for a channel that only sends.
        self.basic_qos(0, 0, False)


class AmqpConnection(pyamqp.Connection):
    """A link to RabbitMQ."""

    Channel = AmqpChannel

    # Of py-amqp's, and not in its stubs.
    _transport: Any
    blocking_read: Any
    host: str
    bytes_recv: int
    #: Frames that had come when it was looked last, and when that was.
    _heard = -1
    _heard_at = 0.0
    #: Whether RabbitMQ has said that it reads nothing over this link, until it says otherwise.
    _blocked = False
    #: How long whoever published last waits for that (monotonic).
    _patient_until = 0.0

    def __init__(
        self, *arguments: Any, answer_time: float = LONGEST_ANSWER, **options: Any
    ) -> None:
        """
        Args:
            answer_time: seconds that an answer may take.
        """
        super().__init__(*arguments, **options)
        self._answer_time = answer_time

    def Transport(  # type: ignore[override]
        self,
        host: str,
        connect_timeout: float | None,
        ssl: Any = False,
        read_timeout: float | None = None,
        write_timeout: float | None = None,
        **options: Any,
    ) -> Any:
        # py-amqp's own limits do not hold over TLS.
        kind = _SSLTransport if ssl else _TCPTransport
        return kind(host, connect_timeout=connect_timeout, ssl=ssl, **options)

    def connect(self, callback: Any = None) -> Any:
        connected = super().connect(callback)
        # Of what is written.
        self._transport.sock.settimeout(self._answer_time)
        if self.heartbeat:
            pulse().keep(self)
        return connected

    def drain_events(self, timeout: float | None = None) -> None:
        if timeout is not None:
            super().drain_events(timeout)
            return
        # Somebody waits for the answer to what was asked.
        until = time.monotonic() + self._answer_time
        while not self._has_read(until):
            if not self._blocked:
                standstills.note(f"a link to RabbitMQ at {self.host}", self._answer_time)
                self._transport.shut_down()
                raise TimeoutError("RabbitMQ gave no answer")
            now = time.monotonic()
            if now >= self._patient_until:
                self._transport.shut_down()
                raise Blocked
            # It is alive. Should it vanish now, the kernel says so.
            until = min(now + self._answer_time, self._patient_until)

    def _has_read(self, until: float) -> bool:
        """Read until something was read and handled; False if `until` (monotonic) passed before."""
        try:
            while not self.blocking_read(max(0.001, until - time.monotonic())):
                pass
        except TimeoutError:
            return False
        return True

    def wait_while_blocked(self, seconds: float | None) -> None:
        """Wait until RabbitMQ reads what is published, and for its answers from now on.

        Args:
            seconds: to wait for both; None for no more than an answer may take.

        Raises:
            Blocked: when it does not.
        """
        self._patient_until = time.monotonic() + (self._answer_time if seconds is None else seconds)
        while self._blocked:
            now = time.monotonic()
            if now >= self._patient_until:
                raise Blocked
            self._has_read(min(now + self._answer_time, self._patient_until))

    def _on_blocked(self) -> None:
        self._blocked = True
        log.warning("RabbitMQ at %s takes no messages: its memory or disk is full", self.host)

    def _on_unblocked(self) -> None:
        self._blocked = False
        log.warning("RabbitMQ at %s takes messages again", self.host)

    def heartbeat_tick(self, rate: int = 2) -> None:
        """Look whether the other side lives; `beat` says that this one does.

        Raises:
            ConnectionForced: when nothing has been heard for too long.
        """
        now = time.monotonic()
        if self.bytes_recv != self._heard or self._has_news():
            # What has come while this process was busy is still to be read.
            self._heard, self._heard_at = self.bytes_recv, now
        elif self.heartbeat and now - self._heard_at > 2 * self.heartbeat:
            standstills.note(f"a link to RabbitMQ at {self.host}", now - self._heard_at)
            self._transport.shut_down()
            raise ConnectionForced("too many heartbeats missed")

    def beat(self) -> None:
        """Send a heartbeat, from any thread."""
        transport = self._transport
        if transport is not None and transport.connected:
            transport.write(_HEARTBEAT_FRAME)

    def _has_news(self) -> bool:
        sock = self._transport.sock if self._transport is not None else None
        if sock is None:
            return False
        if isinstance(sock, ssl.SSLSocket) and sock.pending():
            return True
        try:
            return bool(socket.socket.recv(sock, 1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        except OSError:
            return False


class AmqpTransport(pyamqp.Transport):
    """kombu's transport for RabbitMQ."""

    Connection = AmqpConnection


class AmqpSSLTransport(pyamqp.SSLTransport):
    """The same over TLS."""

    Connection = AmqpConnection


class Pulse:
    """Sends the heartbeats of a process."""

    def __init__(self) -> None:
        self._links: weakref.WeakSet[AmqpConnection] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._start()

    def keep(self, link: AmqpConnection) -> None:
        """Send heartbeats over this link as long as it is open."""
        with self._lock:
            self._links.add(link)

    def _start(self) -> None:
        # Another one goes on after a defect: the process may be an application's own.
        VitalThread(self._run, name="queue-run-heartbeats", on_loss=self._start).start()

    def _run(self) -> None:
        while True:
            time.sleep(PULSE)
            with self._lock:
                links = list(self._links)
            while links:
                try:
                    links.pop().beat()
                except OSError as error:
                    # Whoever reads from the link learns that it is lost, too.
                    log.debug("a heartbeat could not be sent: %s", error)
                except Exception:
                    # The other links need theirs all the same.
                    log.exception("a heartbeat could not be sent")


@one_in_each_process
def pulse() -> Pulse:
    """Of this process: a fork copies no thread."""
    return Pulse()


class Mailbox(KombuMailbox):
    """Remote control through queues that have another name for each link.

    They belong to their link alone. RabbitMQ does not know for some seconds that a link is dead,
    and until then a queue of the same name is locked for everybody: a worker that connected again
    ended with that error.
    """

    def __call__(self, connection: Any) -> "Mailbox":  # type: ignore[override]
        bound: Mailbox = copy(self)
        bound.connection = connection
        # Made when it is first used, for the link that it is used with.
        bound.__dict__.pop("reply_queue", None)
        return bound

    def get_queue(self, hostname: str) -> Queue:
        return _renamed(super().get_queue(hostname))

    def get_reply_queue(self) -> Queue:
        return _renamed(super().get_reply_queue())


def _renamed(queue: Queue) -> Queue:
    queue.name = f"{queue.name}.{uuid.uuid4().hex[:12]}"
    return queue


class Control(CeleryControl):
    """Celery's remote control."""

    Mailbox = Mailbox
