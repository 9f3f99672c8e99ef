"""A queue whose payload has a type."""

from dataclasses import dataclass

from queue_run import Config, Queue

config = Config(fifo=True)


@dataclass
class Order:
    number: int


queue = Queue[Order](__name__)


async def handler(order: Order, *, group_id: str, sequence_number: int) -> None:
    assert order.number
