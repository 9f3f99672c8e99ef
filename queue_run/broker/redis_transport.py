"""Redis as Celery's broker, so that what a worker does with a message outlives its link to Redis.

kombu ties a delivered message to the channel that it came through. When the link breaks, that
channel is closed: stock kombu then puts messages back that still run, and an acknowledgement that
comes later ends the worker. Here the rule is:

    A message is settled (forgotten or put back) by whoever holds it, when it is done with it,
    through whichever channel is open by then.

- A channel that closes because its link broke puts nothing back: its messages stay with Redis as
  unacknowledged, and this process remembers them (`Unsettled`).
- A settlement that finds its link broken waits for the next channel that consumes.
- A message that nobody holds any more has been dropped, and goes back on its queue. When a link
  breaks, Celery drops what waits before a prefork pool; what waits in a pool of threads is run.
- What Redis gave out over a link that broke before it was read goes back (`broker.unheard`).
- What Celery scheduled for later goes back too: it drops that as well, and yet holds on to it.

All this is in the memory of one process. What it still owes when it ends comes back like the
messages of a killed worker, after the visibility timeout.
"""

import atexit
import logging
import sys
import threading
import time
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable
from contextlib import suppress
from functools import cached_property, partial
from typing import Any

import kombu
import redis
from celery.app.amqp import AMQP as CeleryAMQP
from kombu.connection import ConnectionPool as KombuConnectionPool
from kombu.transport import pyamqp, virtual
from kombu.transport import redis as kombu_redis
from kombu.utils.json import dumps
from redis import ConnectionError as RedisConnectionError
from redis import RedisError
from redis import TimeoutError as RedisTimeoutError

from queue_run.broker import amqp_transport, putting_back
from queue_run.broker.apart import ApartConsumer
from queue_run.broker.redis_taking import TakingChannel
from queue_run.broker.unheard import Questions
from queue_run.errors import SettingsError
from queue_run.storage.fullness import is_full
from queue_run.storage.patience import FAILURES, dropped_when_unready, watched
from queue_run.storage.script_files import load
from queue_run.threads.forks import HomeProcess, one_in_each_process

logger = logging.getLogger(__name__)

#: Seconds between two tries to reach the broker.
INTERVALS = {"interval_start": 1, "interval_step": 1, "interval_max": 4}

NO_KEY_PREFIX = (
    "broker_transport_options: global_keyprefix is not for queue-run, whose names in Redis begin "
    "with its namespace: set QUEUE_RUN_NAMESPACE in its place"
)

#: Settles one message through an open channel. It is done again when it may not have been done.
Settlement = Callable[["QoS"], None]
#: Settles the message of a tag.
TagSettlement = Callable[["QoS", str], None]

# A full Redis runs these, since their first write frees, or only expires.
_WRITE_DOWN = load("broker/write_down")
_BIND = load("broker/bind")
_REFRESH_BINDING = load("broker/refresh_binding")


class Unsettled:
    """The settlements that this process still owes one Redis, for messages whose channels are gone.

    Any thread may call it.
    """

    def __init__(self) -> None:
        self._origin = HomeProcess()
        self._owed: deque[Settlement] = deque()
        self._held: dict[str, weakref.ref[Any]] = {}
        #: Of the channel that consumes.
        self._qos: QoS | None = None
        atexit.register(self._give_up)

    def owe(self, settlement: Settlement) -> None:
        """Note a settlement, and do it as soon as a channel can."""
        self._owed.append(settlement)

    def hold(self, tag: str, message: Any) -> None:
        """Put the message back when nobody holds it any more, unless it is released before."""

        def dropped(_: object) -> None:
            # This runs in the middle of anything: it may do no more than take a note.
            self._held.pop(tag, None)
            self.owe(partial(put_back, tag=tag))

        self._held[tag] = weakref.ref(message, dropped)

    def release(self, tag: str) -> None:
        """Do not watch a message any more: the code that holds it settles it."""
        self._held.pop(tag, None)

    def settle_through(self, qos: "QoS") -> None:
        """Settle through this channel from now on, until it is left."""
        self._qos = qos
        self.settle()

    def settle(self) -> None:
        """Do the settlements that are owed, as far as there is a channel that can do them."""
        qos = self._qos
        if qos is None or not self._origin.is_here:
            return
        while self._owed:
            settlement = self._owed.popleft()
            try:
                settlement(qos)
            except FAILURES as error:
                self._owed.appendleft(settlement)
                logger.warning("%d messages wait to be settled: %r", len(self._owed), error)
                return

    def leave(self, qos: "QoS") -> None:
        """Settle nothing more through this channel, whose link may be lost."""
        if qos is not self._qos:
            return
        if not qos.channel.link_lost:
            # An orderly end: nothing is going to settle what is still held.
            for tag in list(self._held):
                self.release(tag)
                self.owe(partial(put_back, tag=tag))
            self.settle()
        self._qos = None

    def _give_up(self) -> None:
        left = len(self._owed) + len(self._held)
        if left and self._origin.is_here:
            logger.error("%d messages unsettled: the visibility timeout brings them back", left)


@one_in_each_process
def unsettled_with(broker: str, unacked_key: str) -> Unsettled:
    """Of this process, with one Redis; kept, since nothing of kombu's outlives a connection."""
    return Unsettled()


class QoS(kombu_redis.QoS):
    """The unacknowledged messages of a channel whose link may break."""

    channel: "RedisChannel"
    # Of kombu's, and not in its stubs.
    _delivered: OrderedDict[str, Any]
    _flush: Callable[[], None]
    unacked_key: str

    def __init__(self, channel: "RedisChannel", prefetch_count: int = 0) -> None:
        super().__init__(channel, prefetch_count)
        broker = channel.connection.client.as_uri()
        self.unsettled = unsettled_with(broker, channel.unacked_key)

    def can_consume(self) -> bool:
        return super().can_consume() and self.channel.has_room()

    def append(self, message: Any, delivery_tag: str) -> None:
        if not isinstance(delivery_tag, str):
            raise TypeError("a message's delivery tag is a text")
        if self.channel.taken:
            # Redis knows of it since it was taken.
            virtual.QoS.append(self, message, delivery_tag)
        else:
            self._write_down(message, delivery_tag)

    def _write_down(self, message: Any, tag: str) -> None:
        """Note a message as unacknowledged, as kombu does, but with the time of Redis' clock."""
        place = message.delivery_info
        note = dumps([message._raw, place["exchange"], place["routing_key"]])
        with self.channel.conn_or_acquire() as client:
            keys = (self.unacked_key, self.unacked_index_key)
            client.eval(*_WRITE_DOWN.given(keys, (tag, note, _time_of(client))))
        virtual.QoS.append(self, message, tag)

    def ack(self, delivery_tag: str) -> None:
        # A message of a queue without acknowledgements stands nowhere: kombu would ask Redis to
        # forget it all the same, for each of them.
        if delivery_tag in self._delivered or self.channel.closed:
            self._settle(delivery_tag, forget)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        self._settle(delivery_tag, put_back_last if requeue else forget)

    def _settle(self, tag: str, settlement: TagSettlement) -> None:
        self.unsettled.release(tag)
        if self.channel.closed:
            self.unsettled.owe(lambda qos: settlement(qos, tag))
            self.unsettled.settle()
            return
        try:
            settlement(self, tag)
        except FAILURES as error:
            logger.warning("A message waits to be settled: %r", error)
            self.unsettled.owe(lambda qos: settlement(qos, tag))
        virtual.QoS.ack(self, tag)

    def restore_visible(self, start: int = 0, num: Any = 10, interval: int = 10) -> None:
        # kombu calls this every `unacked_restore_interval`.
        self.unsettled.settle()
        # Who takes no message that is acknowledged leaves those of dead workers to who does. kombu
        # asks any one of a worker's channels.
        if self.channel.acknowledges:
            try:
                super().restore_visible(start, num, interval)
            except RedisError as error:
                if not is_full(error):
                    raise
                # A full Redis refuses the lock by which one worker at a time looks. Without it each
                # message comes back once all the same.
                self._restore_without_lock(start, num)
        elif self.channel.beside is not None and not self.channel.beside.closed:
            self.channel.beside.qos.restore_visible(start, num, interval)

    def _restore_without_lock(self, start: int, num: int | None) -> None:
        until = time.time() - self.visibility_timeout
        with self.channel.conn_or_acquire() as client:
            # kombu gives no number, for all.
            which = {} if num is None else {"start": start, "num": num}
            for tag in client.zrangebyscore(self.unacked_index_key, 0, until, **which):
                self.restore_by_tag(tag.decode() if isinstance(tag, bytes) else tag, client)

    @property
    def visibility_timeout(self) -> float:  # type: ignore[override]
        # kombu takes this from the time of this machine, and brings back what was dated before
        # that. What is taken is dated by Redis' clock.
        with self.channel.conn_or_acquire() as client:
            ahead = time.time() - _time_of(client)
        return float(self.channel.visibility_timeout + ahead)

    def restore_by_tag(self, tag: str, client: Any | None = None, leftmost: bool = False) -> None:
        with self.channel.conn_or_acquire(client) as client:
            found = client.hget(self.unacked_key, tag)
            commands = putting_back.Commands()
            if found:
                self.channel.restore(found, commands, last=leftmost)
            putting_back.put_back(
                client,
                unacked=self.unacked_key,
                index=self.unacked_index_key,
                tag=tag,
                found=found or b"",
                commands=commands,
            )

    def restore_unacked_once(self, stderr: Any | None = None) -> None:
        # kombu calls this when the channel closes.
        self._flush()
        if self.channel.link_lost:
            dropped = scheduled_for_later()
            for tag, message in self._delivered.items():
                if tag in dropped:
                    self.unsettled.owe(partial(put_back, tag=tag))
                else:
                    self.unsettled.hold(tag, message)
            self._delivered.clear()
        self.unsettled.leave(self)
        try:
            super().restore_unacked_once(stderr)
        except FAILURES as error:
            logger.error("Messages unsettled: the visibility timeout brings them back: %r", error)


def _time_of(client: Any) -> float:
    """Unix time, by the broker's clock."""
    seconds, microseconds = client.time()
    return float(seconds + microseconds / 1_000_000)


def forget(qos: QoS, tag: str) -> None:
    """Remove the note of a message that is settled."""
    qos.channel.forget(tag)


def put_back(qos: QoS, tag: str) -> None:
    """Make the message the next one of its queue again, unless it is settled already."""
    qos.restore_by_tag(tag)


def put_back_last(qos: QoS, tag: str) -> None:
    """Put the message back on its queue, behind the others, unless it is settled already."""
    qos.restore_by_tag(tag, leftmost=True)


def recall(qos: QoS, questions: Questions, number: int) -> None:
    """Put back the message of a lost answer, as the next one of its queue."""
    with qos.channel.conn_or_acquire() as client:
        tag = questions.recall(client, number)
    if tag:
        qos.restore_by_tag(tag)


def scheduled_for_later() -> set[str]:
    """The tags of what a Celery worker was to run at some later time, and drops on a lost link."""
    # Only workers have the module, and not all versions drop these.
    state = sys.modules.get("celery.worker.state")
    return {request.message.delivery_tag for request in getattr(state, "scheduled_requests", ())}


class _RedisClient(redis.Redis):
    """A client whose pipelines are no transactions, unless somebody asks for one.

    A full Redis refuses every command of a transaction. kombu asks for queues, purges and deletes
    them by pipelines, and nothing of that is needed in one step.
    """

    def pipeline(self, transaction: bool = False, shard_hint: Any = None) -> Any:
        return super().pipeline(transaction, shard_hint)


class RedisChannel(TakingChannel):
    """A channel that knows how it ended."""

    QoS = QoS
    #: Seconds. Looking for messages to bring back takes milliseconds; a worker that dies meanwhile
    #: must not keep the others from it for the 5 minutes of stock kombu.
    unacked_mutex_expire = 1
    link_lost = False
    connection: Any
    pool: Any
    qos: Any
    _blocking_client: Any = None
    _pool: Any
    _async_pool: Any
    keyprefix_queue: str
    keyprefix_binding_permanent: str

    #: The channel of the same worker that has acknowledgements (`queue_run.broker.apart`).
    beside: "RedisChannel | None" = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        #: Whether there is room for more, beside what the prefetch says; else others take it.
        self.has_room: Callable[[], bool] = lambda: True
        #: The threads of a pool settle the messages of one channel.
        self._forgetting = threading.Lock()
        super().__init__(*args, **kwargs)

    def basic_consume(self, queue: str, no_ack: bool, *args: Any, **kwargs: Any) -> str:
        tag: str = super().basic_consume(queue, no_ack, *args, **kwargs)
        if not no_ack:
            self.qos.unsettled.settle_through(self.qos)
        return tag

    def put_back(self, tag: str) -> None:
        self.qos.restore_by_tag(tag)

    def forget(self, tag: str) -> None:
        # In this order: a message that is gone does no harm in the index.
        commands = (
            ("HDEL", self.unacked_key, tag),
            ("ZREM", self.unacked_index_key, tag),
        )
        with self._forgetting:
            try:
                self._exchange(*commands)
            except (RedisConnectionError, RedisTimeoutError):
                # The link may have been closed while nothing was sent: once more, over a new one.
                self._exchange(*commands)

    def was_not_heard(self, questions: Questions, number: int) -> None:
        self.qos.unsettled.owe(partial(recall, questions=questions, number=number))

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:
        found: dict[str, Any] = super()._connparams(asynchronous)  # type: ignore[misc]
        if asynchronous:
            # Celery ends a worker whose link was opened, or looked at, with any other error.
            found["connection_class"] = dropped_when_unready(found["connection_class"])
        else:
            # Who asks over these waits for the answer: a PING before it would say nothing more.
            found.pop("health_check_interval", None)
            found["connection_class"] = watched(found["connection_class"])
        return found

    def _queue_bind(self, exchange: str, routing_key: str, pattern: str, queue: str) -> None:
        try:
            super()._queue_bind(exchange, routing_key, pattern, queue)  # type: ignore[misc]
        except RedisError as error:
            if not is_full(error):
                raise
            # Of next to no size, and there already as a rule.
            kept = (self.keyprefix_queue, self.keyprefix_binding_permanent)
            keys = [each % (exchange,) for each in kept]
            member = self.sep.join([routing_key or "", pattern or "", queue or ""])
            with self.conn_or_acquire() as client:
                client.eval(*_BIND.given(keys, (member,)))

    @cached_property
    def _refresh_binding(self) -> Any:
        # kombu's, for queues that expire, but a full Redis runs it.
        return self._create_client().register_script(_REFRESH_BINDING.text)

    def _restore(self, message: Any, leftmost: bool = False) -> None:
        # kombu calls this when a channel closes; its own is a transaction, and a full Redis refuses
        # each.
        self.qos.restore_by_tag(message.delivery_tag, leftmost=leftmost)

    def _get_client(self) -> Any:
        found = super()._get_client()  # type: ignore[misc]
        return _RedisClient if found is redis.Redis else found

    def prove(self) -> None:
        """Have Redis show that it takes writes: not one that grows, which a full one refuses.

        Raises:
            RedisError, OSError: when it does not; a replica, for example.
        """
        self._exchange(("DEL", f"{self.unacked_key}.proof"))

    def drop_links(self) -> None:
        """Close the links to Redis, whatever is under way on them."""
        for pool in (self._pool, self._async_pool):
            if pool is not None:
                pool.disconnect()

    def _create_client(self, asynchronous: bool = False) -> Any:
        if asynchronous:
            return super()._create_client(asynchronous=True)  # type: ignore[misc]
        # kombu makes a client for every command, which takes longer than most commands. Its pool
        # is another one after a fork.
        if self._blocking_client is None or self._blocking_client.connection_pool is not self.pool:
            self._blocking_client = super()._create_client()  # type: ignore[misc]
        return self._blocking_client


class RedisTransport(kombu_redis.Transport):
    """kombu's Redis transport, with messages that outlive its channels."""

    Channel = RedisChannel
    channels: list[Any]
    client: Any
    _avail_channels: list[Any]

    def establish_connection(self) -> Any:
        """Connect as kombu does, and check that Redis is ready. While it is not, kombu tries again.

        Raises:
            SettingsError: for the option of kombu that is not for this transport.
        """
        if self.client.transport_options.get("global_keyprefix"):
            # Half of what is asked goes past kombu's client, which alone knows of it.
            raise SettingsError([NO_KEY_PREFIX])
        found = super().establish_connection()
        try:
            self._avail_channels[-1].prove()
        except BaseException:
            self._collect(found)
            raise
        return found

    def _collect(self, connection: Any) -> None:
        # kombu calls this, not `close_connection`, when the link is lost.
        for channel in list(self.channels):
            channel.link_lost = True
            # What is asked from here on is asked over new links: those that are there may be dead
            # without an end, and each would be waited for.
            channel.drop_links()
            with suppress(*FAILURES):
                channel.close()
            if not channel.closed:
                # Redis did not answer: without what it was asked.
                channel.auto_delete_queues.clear()
                channel.close()
        self.close_connection(connection)


#: The transports that are used in the place of kombu's own.
OURS: dict[Any, Any] = {
    kombu_redis.Transport: RedisTransport,
    pyamqp.Transport: amqp_transport.AmqpTransport,
    pyamqp.SSLTransport: amqp_transport.AmqpSSLTransport,
}


class BrokerConnection(kombu.Connection):
    """A connection to a broker that uses our transports where kombu would use its own."""

    def _ensure_connection(self, *arguments: Any, **options: Any) -> Any:
        # kombu would wait longer after each try, up to half a minute. Within a send it says itself
        # how long.
        if len(arguments) <= 2:
            options = {**INTERVALS, **options}
        return super()._ensure_connection(*arguments, **options)

    def get_transport_cls(self) -> Any:
        found = super().get_transport_cls()
        return OURS.get(found, found)

    def Pool(self, limit: int | None = None, **kwargs: Any) -> "ConnectionPool":
        return ConnectionPool(self, limit, **kwargs)


class ConnectionPool(KombuConnectionPool):
    """Connections for sending."""

    def new(self) -> Any:
        connection = super().new()
        # kombu has a class of its own for connections in pools.
        connection.get_transport_cls = self.connection.get_transport_cls  # type: ignore[method-assign]
        return connection


class AMQP(CeleryAMQP):
    """The maker of a Celery application's connections and consumers."""

    Connection = BrokerConnection
    Consumer = ApartConsumer
