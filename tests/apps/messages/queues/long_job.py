"""A plain job that runs past its timeout, and says whether its signal tells it so."""

from queue_run import Config, HandlerTimeout, Signal, socket

config = Config(timeout=0.5, retries=0)


def handler(job: str, *, signal: Signal) -> None:
    try:
        stopped = signal.wait(600)
    except HandlerTimeout:
        # In a process of its own it is interrupted too.
        stopped = signal.wait(60)
    socket.to(job).send({"stopped": stopped})
