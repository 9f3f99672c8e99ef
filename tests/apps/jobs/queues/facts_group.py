"""Notes all that a plain job of a FIFO group is given."""

from queue_run import Config
from tests.apps.jobs.queues import facts

config = Config(fifo=True)

handler = facts.handler
