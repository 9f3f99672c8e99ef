"""Kills the process that runs it, in a FIFO group."""

from queue_run import Config
from tests.apps.jobs.queues import poison

config = Config(timeout=60, retries=2, backoff=0.2, notify=True, fifo=True)

handler = poison.handler
