"""The same, in groups."""

import time

from queue_run import Config

config = Config(fifo=True)


def handler(job: object) -> None:
    time.sleep(0.01)
