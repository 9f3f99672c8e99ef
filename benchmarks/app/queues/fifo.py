"""The same, in groups."""

from queue_run import Config

config = Config(fifo=True)


def handler(job: object) -> None:
    pass
