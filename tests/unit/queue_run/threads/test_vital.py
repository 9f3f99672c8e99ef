"""Threads whose end ends their process."""

import subprocess
import sys
import threading

import pytest

from queue_run.threads.vital import VitalThread
from tests.processes import environment
from tests.waiting import DEADLINE


def test_a_thread_that_was_told_to_end_loses_nothing(caplog: pytest.LogCaptureFixture) -> None:
    lost: list[bool] = []
    thread = VitalThread(lambda: None, name="part", on_loss=lambda: lost.append(True))
    thread.start()
    thread.join(DEADLINE)
    assert not thread.is_alive()
    assert lost == []
    assert caplog.text == ""


@pytest.mark.parametrize(
    "failure", [LookupError("x"), SystemExit(0), KeyboardInterrupt()], ids=repr
)
def test_one_that_raises_is_lost_and_the_log_says_of_what(
    caplog: pytest.LogCaptureFixture, failure: BaseException
) -> None:
    def work() -> None:
        raise failure

    told = threading.Event()
    thread = VitalThread(work, name="part", on_loss=told.set)
    thread.start()
    assert told.wait(DEADLINE)
    thread.join(DEADLINE)
    [record] = caplog.records
    assert (record.levelname, record.getMessage()) == (
        "CRITICAL",
        "the thread part ended unexpectedly",
    )
    assert record.exc_info is not None
    assert record.exc_info[1] is failure


LOSES = """
import logging, threading
from queue_run.threads import vital

logging.basicConfig()
def work():
    raise LookupError("a defect")
vital.VitalThread(work, name="part", on_loss=vital.end_process).start()
threading.Event().wait()
"""
LATE = """
import threading
from queue_run.threads import vital

vital.end_process_within(0.01)
threading.Event().wait()
"""


def run(code: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", code]
    return subprocess.run(
        command, env=environment(), capture_output=True, text=True, timeout=DEADLINE, check=False
    )


def test_a_process_that_loses_a_part_ends_with_code_1_and_a_traceback() -> None:
    ended = run(LOSES)
    assert ended.returncode == 1
    assert "CRITICAL:queue_run.threads.vital:the thread part ended unexpectedly" in ended.stderr
    assert "LookupError: a defect" in ended.stderr


def test_a_process_that_does_not_end_by_itself_is_ended() -> None:
    assert run(LATE).returncode == 1
