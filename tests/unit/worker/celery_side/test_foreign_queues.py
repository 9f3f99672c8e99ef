"""What RabbitMQ says of queues that others have declared. Really: test_rabbitmq_faults.py."""

import pytest
from amqp.exceptions import NotFound, PreconditionFailed

from worker.celery_side.foreign_queues import advice


def test_the_queue_is_named_and_what_is_other() -> None:
    error = PreconditionFailed(
        "PRECONDITION_FAILED - inequivalent arg 'x-queue-type' for queue 'shop.jobs' in vhost '/': "
        "received none but current is the value 'quorum' of type 'longstr'",
        (50, 10),
        "Queue.declare",
    )
    assert advice(error) == (
        "RabbitMQ has the queue shop.jobs, which somebody declared otherwise (x-queue-type: "
        "received none but current is the value 'quorum' of type 'longstr'): delete it there when "
        "nothing waits in it, or set QUEUE_RUN_NAMESPACE to another name"
    )


def test_an_exchange_is_one_too() -> None:
    error = PreconditionFailed(
        "PRECONDITION_FAILED - inequivalent arg 'type' for exchange 'shop' in vhost '/': received "
        "'direct' but current is 'topic'"
    )
    assert (advice(error) or "").startswith("RabbitMQ has the exchange shop, which somebody")


@pytest.mark.parametrize(
    "error",
    [
        PreconditionFailed("PRECONDITION_FAILED - delivery acknowledgement on channel 1 timed out"),
        NotFound("NOT_FOUND - no queue 'shop.jobs' in vhost '/'"),
        ValueError("inequivalent arg 'type' for queue 'a' in vhost '/': received x"),
    ],
    ids=repr,
)
def test_other_errors_are_none_of_these(error: Exception) -> None:
    assert advice(error) is None
