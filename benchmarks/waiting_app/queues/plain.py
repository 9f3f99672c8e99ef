"""A job of ten milliseconds."""

import time


def handler(job: object) -> None:
    time.sleep(0.01)
