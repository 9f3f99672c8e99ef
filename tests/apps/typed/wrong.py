"""What a type checker must report, a line each: `# wrong` marks them."""

from queue_run import Config, Refuse, Request, queues, socket
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
Config(timeout="ten")  # wrong
Config(type="xml")  # wrong
Refuse("401")  # wrong
log_message_received("text")  # wrong


def on_message_sent(request: Request) -> None:
    log_message_sent(request)  # wrong
