"""The end of a worker that has lost a part of itself: with exit code 1, and soon."""

import logging

from billiard.process import current_process
from celery.worker import state

from queue_run.threads.vital import EXIT_LOST, end_process, end_process_within

log = logging.getLogger(__name__)

#: Seconds in which jobs and requests that run may end. What does not is run elsewhere: a job when
#: its lease has ended.
ENDING_TIME = 5.0


def end_worker() -> None:
    """End the worker of this process, or this child of a prefork pool; from any thread."""
    if current_process().name != "MainProcess":
        # Its parent hands its job out again, and starts another child.
        end_process()
    log.critical("this worker ends, within %g seconds", ENDING_TIME)
    # Its stub knows of None only.
    state.should_stop = EXIT_LOST  # type: ignore[assignment]
    end_process_within(ENDING_TIME)
