"""The end of a worker that has lost a part of itself.

The whole of it, with Celery, is in tests/acceptance/test_lost_parts.py.
"""

import subprocess
import sys

from tests.processes import environment
from tests.waiting import DEADLINE

MAIN = """
import threading
from celery.exceptions import WorkerShutdown
from celery.worker import state
from worker import ending

ending.ENDING_TIME = {time}
ending.end_worker()
try:
    state.maybe_shutdown()
except WorkerShutdown as error:
    print("Celery ends it with", error.code, flush=True)
threading.Event().wait()
"""
CHILD = """
import logging
from billiard import Process
from worker import ending

def lose():
    ending.end_worker()

if __name__ == "__main__":
    child = Process(target=lose)
    child.start()
    child.join()
    print("the child ended with", child.exitcode)
"""


def run(code: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", code]
    return subprocess.run(
        command, env=environment(), capture_output=True, text=True, timeout=DEADLINE, check=False
    )


def test_celery_is_told_to_end_and_the_process_ends_if_that_does_not() -> None:
    ended = run(MAIN.format(time=0.2))
    assert ended.stdout == "Celery ends it with 1\n"
    assert ended.returncode == 1


def test_a_child_of_a_pool_ends_at_once() -> None:
    ended = run(CHILD)
    assert ended.stdout == "the child ended with 1\n", ended.stderr
