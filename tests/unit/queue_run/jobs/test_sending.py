"""Sending tasks over links that fail in whatever way."""

import struct
import time
from collections.abc import Iterator
from typing import Any

import pytest
from amqp.exceptions import (
    AccessRefused,
    AMQPNotImplementedError,
    PreconditionFailed,
    RecoverableConnectionError,
    UnexpectedFrame,
)
from celery import Celery
from kombu.exceptions import EncodeError, OperationalError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import OutOfMemoryError, ResponseError

from queue_run.errors import DispatchUnavailable, HandlerTimeout
from queue_run.jobs.sending import TaskSender

#: What a link that is half dead has been seen to raise, and its like.
BROKEN = [
    AttributeError("'NoneType' object has no attribute 'client'"),
    TypeError("'NoneType' object is not iterable"),
    KeyError(1),
    ValueError("I/O operation on closed file"),
    RuntimeError("dictionary changed size during iteration"),
    NotImplementedError("no such frame"),
    struct.error("unpack requires a buffer of 7 bytes"),
    OSError(9, "Bad file descriptor"),
    TimeoutError("timed out"),
    ConnectionResetError(104, "Connection reset by peer"),
    RecoverableConnectionError("connection already closed"),
    UnexpectedFrame("received frame 3 while expecting 2"),
    AMQPNotImplementedError("Unknown AMQP method"),
    OperationalError("[Errno 111] Connection refused"),
    RedisConnectionError("Connection closed by server."),
]


class FailingCelery(Celery):
    """Its links fail in turn with what a test has told; a message is kept."""

    def __init__(self) -> None:
        super().__init__("test", broker="memory://", set_as_current=False)
        self.failures: Iterator[Exception] = iter(())
        self.sent: list[str] = []
        #: Links over which tasks were tried.
        self.links: list[Any] = []

    def send_task(self, name: str, **options: Any) -> None:  # type: ignore[override]
        producer: Any = options["producer"]
        self.links.append(producer.connection.connection)
        failure = next(self.failures, None)
        if failure is not None:
            raise failure
        self.sent.append(name)


@pytest.fixture
def celery() -> FailingCelery:
    return FailingCelery()


def sender(celery: FailingCelery, patience: float = 20.0) -> TaskSender:
    return TaskSender(lambda: celery, patience)


def test_a_task_is_sent_over_the_link_that_is_open(celery: FailingCelery) -> None:
    for name in ("a", "b"):
        sender(celery).send(name)
    assert celery.sent == ["a", "b"]
    assert celery.links[0] is celery.links[1]


@pytest.mark.parametrize("failure", BROKEN, ids=lambda each: type(each).__name__)
def test_whatever_a_link_fails_with_the_next_try_opens_another(
    celery: FailingCelery, failure: Exception
) -> None:
    celery.failures = iter([failure])
    sender(celery).send("a")
    assert celery.sent == ["a"]
    assert celery.links[0] is not celery.links[1]


@pytest.mark.parametrize("failure", BROKEN, ids=lambda each: type(each).__name__)
def test_whatever_links_go_on_to_fail_with_the_broker_took_no_job(
    celery: FailingCelery, failure: Exception
) -> None:
    celery.failures = iter(lambda: failure, None)
    began = time.monotonic()
    with pytest.raises(DispatchUnavailable, match="the broker took no job: ") as raised:
        sender(celery, 0.2).send("a")
    assert raised.value.__cause__ is failure
    assert len(celery.links) > 1
    assert time.monotonic() - began < 20
    celery.failures = iter(())
    sender(celery).send("b")
    assert celery.sent == ["b"]


@pytest.mark.parametrize(
    ("failure", "text"),
    [
        (PreconditionFailed("inequivalent arg 'x-queue-type'"), "its queue was declared otherwise"),
        (AccessRefused("access to queue refused"), "access to queue refused"),
        (OutOfMemoryError("command not allowed"), "Redis is full"),
        (ResponseError("WRONGTYPE"), "Redis refused: WRONGTYPE"),
    ],
)
def test_what_the_broker_refuses_is_not_tried_again(
    celery: FailingCelery, failure: Exception, text: str
) -> None:
    celery.failures = iter(lambda: failure, None)
    with pytest.raises(DispatchUnavailable, match=text):
        sender(celery).send("a")
    assert len(celery.links) == 1


@pytest.mark.parametrize(
    "failure", [HandlerTimeout(1.0), EncodeError("no JSON"), StopIteration()], ids=repr
)
def test_what_is_none_of_the_links_faults_ends_the_push_as_it_is(
    celery: FailingCelery, failure: Exception
) -> None:
    """A time limit that ends a job may end it anywhere."""
    celery.failures = iter([failure])
    with pytest.raises(type(failure)):
        sender(celery).send("a")
    sender(celery).send("b")
    assert celery.sent == ["b"]
