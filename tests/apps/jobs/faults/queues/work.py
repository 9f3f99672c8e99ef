"""Works for a moment, and is tried again as often as workers die."""

from queue_run import Config
from tests.apps.jobs.queues import work

config = Config(timeout=9, retries=50, backoff=0.2)

handler = work.handler
