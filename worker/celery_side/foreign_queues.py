"""Queues and exchanges of RabbitMQ that bear our names and were declared otherwise, by others.

RabbitMQ refuses to give out such a queue (406 PRECONDITION_FAILED), and would refuse it for ever.
"""

import re

from amqp.exceptions import PreconditionFailed

_REFUSAL = re.compile(
    r"inequivalent arg '(?P<argument>[^']*)' for (?P<kind>queue|exchange) '(?P<name>[^']*)'"
    r".*?: (?P<difference>.*)",
    re.DOTALL,
)


def advice(error: BaseException) -> str | None:
    """A sentence that says what is wrong and what to do; None for another error."""
    # RabbitMQ says 406 of other things, too: a message that was not acknowledged for too long.
    found = _REFUSAL.search(str(error)) if isinstance(error, PreconditionFailed) else None
    if found is None:
        return None
    kind, name = found["kind"], found["name"]
    return (
        f"RabbitMQ has the {kind} {name}, which somebody declared otherwise "
        f"({found['argument']}: {' '.join(found['difference'].split())}): delete it there when "
        f"nothing waits in it, or set QUEUE_RUN_NAMESPACE to another name"
    )
