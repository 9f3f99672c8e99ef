"""Pushes that a strict type checker must accept."""

from queues.answer import queue as answers
from queues.order import Order, queue

from queue_run import Answer, DeadLetter, Receipt, dead_letters, queues, socket

pushed: Answer[str] = queue.group("ann").dedupe(7).push(Order(1), params={"a": "b"})
answers.push({"text": "hi"})
queues.get("anything").push([1, "a", None])
queues.cancel(pushed.value)
known: bool = socket.is_online("ann").value

letters: list[DeadLetter] = dead_letters.newest("order", limit=5).value
for letter in letters:
    dead_letters.retry(letter.job.id)


async def handler() -> str:
    cancelled: bool = await queues.cancel("a-job")
    receipt: Receipt = await socket.to("ann").send("hi")
    letter: DeadLetter = await dead_letters.get("a-job")
    if receipt.online == 0 and await socket.is_online("bob"):
        await dead_letters.retry(letter.job.id)
    return await queue.group("ann").push(Order(2)) if cancelled else ""
