"""Periodic work in a thread."""

import queue
import threading

import pytest

from queue_run.threads.caretaker import Caretaker
from tests.waiting import DEADLINE, eventually

#: Seconds, so long that no test waits for it.
NEVER = 3600.0


class Work:
    """Rounds that can be waited for, and fail when they are told to."""

    def __init__(self) -> None:
        self.rounds: queue.SimpleQueue[None] = queue.SimpleQueue()
        self.failure: BaseException | None = None
        self.lost = threading.Event()

    def round(self) -> None:
        self.rounds.put(None)
        if self.failure is not None:
            raise self.failure

    def caretaker(self, interval: float = 0.001, *, waits_first: bool = False) -> Caretaker:
        return Caretaker(
            self.round,
            interval,
            name="test",
            purpose="looking after the test",
            on_loss=self.lost.set,
            waits_first=waits_first,
        )


@pytest.fixture
def work() -> Work:
    return Work()


def test_the_work_is_done_again_and_again_until_it_is_stopped(work: Work) -> None:
    thread = work.caretaker()
    thread.start()
    for _ in range(3):
        work.rounds.get(timeout=DEADLINE)
    thread.stop()
    assert thread.stopping
    assert not thread.is_alive()
    assert not work.lost.is_set()


def test_it_is_done_at_once_or_after_an_interval(work: Work) -> None:
    at_once = work.caretaker(NEVER)
    at_once.start()
    work.rounds.get(timeout=DEADLINE)
    at_once.stop()
    later = work.caretaker(NEVER, waits_first=True)
    later.start()
    later.stop()
    assert work.rounds.empty()


def test_a_failure_ends_nothing(work: Work, caplog: pytest.LogCaptureFixture) -> None:
    work.failure = LookupError("a defect")
    thread = work.caretaker()
    thread.start()
    for _ in range(2):
        work.rounds.get(timeout=DEADLINE)
    eventually(lambda: "a defect" in caplog.text, what="the failure in the log")
    assert "looking after the test failed unexpectedly" in caplog.text
    thread.stop()
    assert not work.lost.is_set()


def test_what_is_no_failure_ends_it_and_is_told(work: Work) -> None:
    work.failure = SystemExit(0)
    work.caretaker().start()
    assert work.lost.wait(DEADLINE)
