"""A plain job that runs past its timeout until its signal tells it to stop."""

from queue_run import Config, Signal, socket

config = Config(timeout=0.5)


def handler(job: str, *, signal: Signal) -> None:
    stopped = signal.wait(600)
    socket.to(job).send({"stopped": stopped})
