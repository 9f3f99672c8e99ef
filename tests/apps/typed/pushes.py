"""Pushes that a strict type checker must accept."""

from queues.answer import queue as answers
from queues.order import Order, queue

from queue_run import DeadLetter, dead_letters, queues

pushed: str = queue.group("ann").dedupe(7).push(Order(1), params={"a": "b"})
answers.push({"text": "hi"})
queues.get("anything").push([1, "a", None])
queues.cancel(pushed)

letters: list[DeadLetter] = dead_letters.newest("order", limit=5)
for letter in letters:
    dead_letters.retry(letter.job.id)


async def handler() -> str:
    cancelled: bool = await queues.cancel("a-job")
    return await queue.group("ann").push(Order(2)) if cancelled else ""
