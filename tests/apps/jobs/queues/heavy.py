"""Works in a Celery queue of its own."""

from queue_run import Config
from tests.apps.jobs.queues import work

config = Config(timeout=60, celery_queue="heavy", notify=True)

handler = work.handler
