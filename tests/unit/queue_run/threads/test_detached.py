"""Threads that keep no process alive; what handlers add is in the tests of theirs."""

import threading
from typing import Any, cast

import pytest

from queue_run.threads.detached import DetachedThreads
from tests.waiting import DEADLINE, eventually


@pytest.fixture
def lost() -> threading.Event:
    return threading.Event()


@pytest.fixture
def thread(lost: threading.Event) -> DetachedThreads:
    return DetachedThreads(1, name="test", on_loss=lost.set)


def test_one_thread_does_one_thing_after_another_and_closing_waits_for_it(
    thread: DetachedThreads,
) -> None:
    done: list[int] = []
    for number in range(50):
        thread.submit(done.append, number)
    thread.close(DEADLINE)
    assert done == list(range(50))


def test_closing_does_not_wait_for_ever(thread: DetachedThreads) -> None:
    never = threading.Event()
    thread.submit(never.wait)
    thread.close(0.01)
    [running] = thread._threads
    assert running.daemon
    assert running.name == "test"
    never.set()


def test_a_failure_does_not_end_the_thread(thread: DetachedThreads) -> None:
    def fail() -> None:
        raise LookupError("a defect")

    failed = thread.submit(fail)
    assert thread.submit(lambda: 1).result(DEADLINE) == 1
    with pytest.raises(LookupError):
        failed.result(DEADLINE)
    thread.close(DEADLINE)


def spoil(threads: DetachedThreads) -> None:
    """Nothing that is submitted ends a thread; a defect of the thread itself could."""
    threads._calls.put(cast("Any", ()))
    threads.submit(lambda: None)


def test_a_defect_that_ends_the_thread_is_told(
    thread: DetachedThreads, lost: threading.Event
) -> None:
    spoil(thread)
    assert lost.wait(DEADLINE)


def test_without_somebody_to_tell_another_thread_goes_on() -> None:
    threads = DetachedThreads(1, name="test")
    spoil(threads)
    eventually(lambda: [each.name for each in threads._threads] == ["test-2"], what="another one")
    threads.close(DEADLINE)
