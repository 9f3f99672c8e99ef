"""Taking messages from Redis, so that no moment exists in which a message is nowhere.

kombu takes a message with BRPOP, and writes it down as unacknowledged when it has read the answer.
A worker that is killed in between, or whose link breaks, has lost the message for good. Here a
script does both in one step.

A script cannot wait. Who finds nothing waits, with BRPOP too, for the bell of a queue: a short
list beside it, in which producers leave an entry with every message. An entry that is lost costs
little: every wait ends after a second, and then the worker looks by itself. So it also finds the
messages of producers that ring no bell.

Queues without acknowledgements have nothing to write down, and are read as kombu reads them.

What is no message, or none that its consumer can make anything of, is set aside in a list.
"""

import logging
import os
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from queue import Empty
from typing import Any

from kombu.transport import redis as kombu_redis
from kombu.transport import virtual
from kombu.utils.encoding import bytes_to_str
from kombu.utils.json import dumps, loads
from redis import ConnectionError as RedisConnectionError
from redis import ResponseError

from queue_run.broker import unreadable
from queue_run.broker.unheard import Questions
from queue_run.contracts.keys import BELL
from queue_run.storage.clock import RedisTime
from queue_run.storage.late_pushes import ALSO_WHEN_FULL, PUSH, PushedTooLate, WriteLimits
from queue_run.storage.patience import FAILURES, standstills
from queue_run.storage.script_files import load

log = logging.getLogger(__name__)

#: Entries of a bell, at most: so many idle workers learn at once of messages that come together.
BELL_SIZE = 10
#: Milliseconds for which a bell is kept: whoever comes later looks before it waits.
BELL_EXPIRY = 10_000
#: Messages that are taken together with one that has come, at most.
MORE = 15
#: `delivery_mode` of a message that may be lost.
TRANSIENT = 1
#: A header that answers of Celery's remote control have; and for how many milliseconds these are
#: kept: whoever has asked may be gone.
TICKET, ANSWER_EXPIRY = "ticket", 60_000

_TAKE = load("broker/take")
_ANSWER = load("broker/answer")
_SET_ASIDE = load("broker/set_aside")


class TakingChannel(kombu_redis.Channel):
    """A channel that writes messages down as unacknowledged when it takes them."""

    # Of kombu's, and not in its stubs.
    active_queues: set[str]
    client: Any
    connection: Any
    connection_errors: tuple[type[Exception], ...]
    priority_steps: list[int]
    sep: str
    _q_for_pri: Callable[[str, int], str]
    unacked_key: str
    unacked_index_key: str
    visibility_timeout: Any
    _expires: dict[str, int]
    _queue_cycle: Any
    pool: Any
    qos: Any
    _flush_brpop_reauth: Callable[[], None]
    _in_poll: Any
    _brpop_sent_at: float | None

    #: The list of what cannot be read (`queue_run.broker.unreadable`).
    unreadable_key = "unreadable"
    from_transport_options = (*kombu_redis.Channel.from_transport_options, "unreadable_key")

    #: Whether the message that is being delivered is written down already.
    taken = False
    #: Whether the link was asked to wait, and not to take a message; and for which bells.
    _waits = False
    _bells: frozenset[str] = frozenset()
    _found_nothing = False
    _sending_link: Any = None
    _sending_pool: Any = None
    _sending_pid = 0
    #: The socket on which was asked, and how many standstills were known when it was new.
    _asked_sock: Any = None
    _standstills = 0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._acknowledged: set[str] = set()
        self._limits = WriteLimits()
        self._questions: Questions | None = None
        #: Whether a message without acknowledgement is followed at once by those that wait behind
        #: it. For a worker whose places run jobs: else there would be one of them for each job.
        self.takes_more: Callable[[], bool] = lambda: False
        super().__init__(*args, **kwargs)

    def basic_consume(self, queue: str, no_ack: bool, *args: Any, **kwargs: Any) -> str:
        # A queue may be consumed again in the other way.
        (self._acknowledged.discard if no_ack else self._acknowledged.add)(queue)
        tag: str = super().basic_consume(queue, no_ack, *args, **kwargs)
        return tag

    def put_back(self, tag: str) -> None:
        """Put an unacknowledged message back on its queue: nothing to do here, a subclass may."""

    def forget(self, tag: str) -> None:
        """Note that an unacknowledged message is settled: nothing to do here, a subclass may."""

    @property
    def acknowledges(self) -> bool:
        """True if at least one queue that is consumed here has acknowledgements."""
        return bool(self._acknowledged)

    # kombu calls `_brpop_start` when there is room for a message, and `_brpop_read` when the link
    # has an answer.

    def _brpop_start(self, timeout: float | None = None) -> None:
        if self._is_distrusted():
            # kombu opens it anew when it next looks.
            self.client.connection.disconnect()
            return
        queues = self._queue_cycle.consume(len(self.active_queues))
        self._waits = self._found_nothing and self._acknowledged.intersection(queues) != set()
        self._found_nothing = False
        if not self._acknowledged.intersection(queues):
            lists = [key for queue in queues for key in self._lists(queue)]
            self._ask("BRPOP", *lists, self.brpop_timeout if timeout is None else timeout)
        elif self._waits:
            self._ask_for_bells(queues, self.brpop_timeout if timeout is None else timeout)
        else:
            self._ask_for_message(queues)

    def _is_distrusted(self) -> bool:
        """True if the link that is to be asked is older than a standstill of another one."""
        sock = self.client.connection._sock
        if sock is not self._asked_sock:
            self._asked_sock, self._standstills = sock, standstills.count
        return self._standstills != standstills.count

    def _ask_for_message(self, queues: Iterable[str]) -> None:
        lists = [(key, queue) for queue in queues for key in self._lists(queue)]
        if self._questions is None:
            self._questions = Questions(self.unacked_key, kept=self.visibility_timeout)
        notes = self._questions.key
        keys = [self.unacked_key, self.unacked_index_key, *(key for key, _ in lists), notes]
        acknowledged = [int(queue in self._acknowledged) for _, queue in lists]
        given = _TAKE.given(keys, [*acknowledged, *self._questions.next()])
        self._ask("EVAL", *given)

    def _ask_for_bells(self, queues: Iterable[str], timeout: float) -> None:
        keys = [
            key
            for queue in queues
            for key in ([_bell(queue)] if queue in self._acknowledged else self._lists(queue))
        ]
        # By the answer's time its queue may be consumed without acknowledgements, or not at all.
        self._bells = frozenset(map(_bell, self._acknowledged))
        self._ask("BRPOP", *keys, timeout)

    def _ask(self, *command: Any) -> None:
        self._in_poll = self.client.connection
        self._brpop_sent_at = time.monotonic()
        # Its health is known from its answers, which come every second. redis-py would ask for a
        # PING first whenever this process was busy, and the worker stand still for its answer.
        self.client.connection.send_command(*command, check_health=False)

    def read_now(self) -> None:
        """Hand over what has come already, before the worker's loop gets to it."""
        link = self.client.connection
        # One that has ended would be opened anew by the question.
        if self._in_poll and link._sock is not None and link.can_read(0):
            with suppress(Empty):
                self._brpop_read()

    def _brpop_read(self, **options: Any) -> Any:
        if not self._in_poll:
            # It was read before the loop got to it.
            raise Empty
        waited, self._waits = self._waits, False
        try:
            answer = self._answer(options)
        finally:
            self._in_poll = None
            self._flush_brpop_reauth()
        if self._questions is not None:
            self._questions.answered()
        if answer is None or (waited and bytes_to_str(answer[0]) in self._bells):
            # After a bell, and after a wait, the next question is for a message.
            self._found_nothing = not waited
            raise Empty
        key, message, *tags = answer
        queue = bytes_to_str(key).rsplit(self.sep, 1)[0]
        tag = bytes_to_str(tags[0]) if tags else ""
        self._queue_cycle.rotate(queue)
        if queue not in self.active_queues:
            self._give_up(message, key, tag=tag)
            raise Empty
        self._hand_over(message, queue, tag=tag)
        if not tags and self.takes_more():
            [more] = self._exchange(("RPOP", key, MORE))
            for each in more or ():
                self._hand_over(each, queue, tag="")
        return True

    def _give_up(self, data: bytes, key: bytes | str, *, tag: str) -> None:
        """Put a message back, as the next one of its queue: its consumer was cancelled meanwhile.

        kombu puts it back through any channel that it knows, and drops it when it knows none, as
        while it closes a connection.
        """
        log.info("a message that came when its consumer had ended goes back: %s", bytes_to_str(key))
        if tag:
            self.put_back(tag)
        else:
            self._exchange(("RPUSH", key, data))

    def _answer(self, options: dict[str, Any]) -> Any:
        try:
            return self.client.parse_response(self.client.connection, "BRPOP", **options)
        except ResponseError as error:
            # The message is still in its queue. Celery connects again after this error only.
            raise RedisConnectionError(str(error)) from error
        except self.connection_errors:
            self.client.connection.disconnect()
            raise

    def _on_connection_disconnect(self, connection: Any) -> None:
        super()._on_connection_disconnect(connection)  # type: ignore[misc]
        questions = self._questions
        number = None if questions is None else questions.unanswered()
        if questions is not None and number is not None:
            self.was_not_heard(questions, number)

    def was_not_heard(self, questions: Questions, number: int) -> None:
        """Note that the link broke before the answer to a question for messages was read."""

    # What cannot be read

    def _hand_over(self, data: bytes, queue: str, tag: str) -> None:
        """Give a message to the consumer of its queue.

        Args:
            tag: the tag under which the message is noted as unacknowledged; empty if it is not.
        """
        self.taken = bool(tag)
        try:
            self.connection._deliver(loads(data.decode()), queue)
            if tag and queue in self.active_queues and queue not in self._acknowledged:
                # Taken for a consumer before this one, which acknowledges nothing.
                self.forget(tag)
        except FAILURES:
            raise
        except Exception as error:
            self.set_aside(data, source=queue, reason=error, tag=tag)
        finally:
            self.taken = False

    def set_aside(self, data: bytes | str, *, source: str, reason: object, tag: str = "") -> None:
        """Keep a message that cannot be read in the list of these, and take it as settled.

        Never raises: where that fails, a message that is written down comes again, and of any
        other the line in the log is what is left.
        """
        unreadable.tell(data, source=source, reason=reason, key=self.unreadable_key)
        keys = [self.unacked_index_key, self.unacked_key, self.unreadable_key]
        entry = unreadable.entry(data, source=source, reason=reason)
        last = str(unreadable.MOST_KEPT - 1)
        try:
            self._exchange(("EVAL", *_SET_ASIDE.given(keys, [tag, entry, last])))
        except FAILURES as error:
            log.error("it could not be set aside: %s", error)
        if tag in self.qos._delivered:
            virtual.QoS.ack(self.qos, tag)

    def _receive_one(self, client: Any) -> Any:
        # Remote control: kombu gives out whatever is JSON.
        try:
            return super()._receive_one(client)  # type: ignore[misc]
        except ResponseError as error:
            # To a PING, for example, while Redis cannot write its snapshot. As above.
            raise RedisConnectionError(str(error)) from error
        except (Empty, *FAILURES):
            raise
        except Exception as error:
            log.error("a message of Celery's remote control cannot be read: %r", error)
            raise Empty from None

    def get_table(self, exchange: str) -> list[tuple[str, str, str]]:
        """The queues that are bound to an exchange; entries that are not bindings are left out."""
        bindings: list[Any] = super().get_table(exchange)
        return [binding for binding in bindings if len(binding) == 3]

    def _lists(self, queue: str) -> list[str]:
        """The lists of a queue, one for each priority."""
        return [self._q_for_pri(queue, priority) for priority in self.priority_steps]

    # Ringing

    def _put(self, queue: str, message: dict[str, Any], **kwargs: Any) -> None:
        may_be_lost = message.get("properties", {}).get("delivery_mode") == TRANSIENT
        headers = message.get("headers") or {}
        if queue in self._expires or kwargs.get("_publish_batch") is not None:
            super()._put(queue, message, **kwargs)
            return
        key = self._q_for_pri(queue, self._get_message_priority(message, reverse=False))
        if TICKET in headers:
            self._exchange(("EVAL", *_ANSWER.given([key], [dumps(message), ANSWER_EXPIRY])))
            return
        if may_be_lost:
            self._push(key, dumps(message))
            return
        last = self._limits.last(self._link().socket_timeout, self._ask_time)
        bell = (BELL_SIZE, BELL_EXPIRY, int(ALSO_WHEN_FULL in headers))
        if self._exchange(
            ("EVAL", *PUSH.given([key, _bell(queue)], [dumps(message), last, *bell]))
        ) == [0]:
            self._limits.distrust()
            raise PushedTooLate

    def _ask_time(self) -> RedisTime:
        [(seconds, microseconds)] = self._exchange(("TIME",))
        return int(seconds), int(microseconds)

    def _push(self, key: str, data: str) -> None:
        """Put a message on a list."""
        self._exchange(("LPUSH", key, data))

    def give_back(self, message: Any) -> None:
        """Put a message without acknowledgement back, as the next one of its queue.

        No handler may have begun with it.
        """
        self._exchange(("RPUSH", message.delivery_info["routing_key"], dumps(message._raw)))

    @property
    def overdue(self) -> float:
        """Seconds for which Redis has owed the answer to what was asked for messages."""
        if not self._in_poll or self._brpop_sent_at is None:
            return 0.0
        waited: float = time.monotonic() - self._brpop_sent_at - self.brpop_timeout
        return max(0.0, waited)

    def probe(self) -> None:
        """Have Redis answer over the link on which is sent.

        Raises:
            RedisError, OSError: when it does not.
        """
        self._exchange(("PING",))

    def _exchange(self, *commands: tuple[Any, ...]) -> list[Any]:
        """Have Redis do something, over a link of this channel's own.

        redis-py's client, which kombu uses, takes several times as long for it.
        """
        link = self._link()
        try:
            packed = [part for each in commands for part in link.pack_command(*each)]
            link.send_packed_command([b"".join(packed)])
            return [link.read_response() for _ in commands]
        except BaseException:
            # Whatever was under way on it; it connects again when it is next used.
            link.disconnect()
            self._limits.distrust()
            raise

    def _link(self) -> Any:
        if self._sending_pid != os.getpid() or self._sending_pool is not self.pool:
            # After a fork it is the parent's, and in a child of Celery's the pool is another one.
            self._sending_link = self.pool.get_connection()
            self._sending_pid, self._sending_pool = os.getpid(), self.pool
        return self._sending_link

    def restore(self, data: bytes, pipe: Any, *, last: bool) -> None:
        """Put an unacknowledged message back on its queue, as the first or the last; or aside, when
        it cannot be read."""
        try:
            message, exchange, routing_key = loads(data.decode())
            self._do_restore_message(message, exchange, routing_key, pipe, last)
        except FAILURES:
            raise
        except Exception as error:
            facts: dict[str, Any] = {"source": self.unacked_key, "reason": error}
            unreadable.tell(data, key=self.unreadable_key, **facts)
            pipe.lpush(self.unreadable_key, unreadable.entry(data, **facts))
            pipe.ltrim(self.unreadable_key, 0, unreadable.MOST_KEPT - 1)

    def _do_restore_message(
        self, payload: Any, exchange: str, routing_key: str, pipe: Any, leftmost: bool = False
    ) -> None:
        # kombu's own forgets a message that it cannot put back.
        payload.setdefault("headers", {})["redelivered"] = True
        payload["properties"]["delivery_info"]["redelivered"] = True
        priority, data = self._get_message_priority(payload, reverse=False), dumps(payload)
        queues = self._lookup(exchange, routing_key)
        if not queues:
            raise LookupError(f"no queue takes {routing_key!r} of the exchange {exchange!r}")
        for queue in queues:
            (pipe.lpush if leftmost else pipe.rpush)(self._q_for_pri(queue, priority), data)
            _ring(pipe, queue)


def _bell(queue: str) -> str:
    return f"{queue}.{BELL}"


def _ring(pipe: Any, queue: str) -> None:
    bell = _bell(queue)
    pipe.lpush(bell, 1)
    pipe.ltrim(bell, 0, BELL_SIZE - 1)
    pipe.pexpire(bell, BELL_EXPIRY)
