"""What a type checker must report, a line each: `# wrong` marks them."""

from queues.order import Order, queue

from queue_run import Config, Queue, Refuse, Request, dead_letters, queues, socket
from queue_run.middleware import log_message_received, log_message_sent

socket.to(3.5)  # wrong
socket.to([None])  # wrong
socket.to("ann").send()  # wrong
socket.close("bye")  # wrong
socket.room(7)  # wrong
socket.room("a").send("x", exclude="me")  # wrong
socket.send("x", "y")  # wrong
queues.get(7)  # wrong
queues.get("mail").push()  # wrong
queue.group("ann").push({"number": 1})  # wrong
queue.group("ann").push(7)  # wrong
queue.push(Order(1), params={"a": 1})  # wrong
Queue[Order](7)  # wrong
Queue[Order]("queues.order").push(7)  # wrong
text: str = queue.group("ann").push(Order(1))  # wrong
number: int = queue.group("ann").push(Order(1)).value  # wrong
online: int | None = socket.send("x").online  # wrong
queue.group(1.5)  # wrong
queue.dedupe(None)  # wrong
queues.cancel(7)  # wrong
dead_letters.newest(limit="all")  # wrong
Config(timeout="ten")  # wrong
Config(type="xml")  # wrong
Config(retries="3")  # wrong
Refuse("401")  # wrong
log_message_received("text")  # wrong


def on_message_sent(request: Request) -> None:
    log_message_sent(request)  # wrong
