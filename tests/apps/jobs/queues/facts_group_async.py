"""Notes all that an asynchronous job of a FIFO group is given."""

from queue_run import Config
from tests.apps.jobs.queues import facts_async

config = Config(fifo=True)

handler = facts_async.handler
