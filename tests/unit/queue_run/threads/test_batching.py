"""What waits for a thread that works for many."""

import threading

from queue_run.threads.batching import Batching
from tests.waiting import DEADLINE


class Numbers(Batching[int]):
    """Takes numbers together."""

    def submit(self, number: int) -> None:
        self._waiting.append(number)
        if not self._woken:
            self._ring()

    def take(self, within: float = DEADLINE) -> list[int] | None:
        """What has come since the last time; None when nothing comes."""
        if not self._is_woken(within):
            return None
        self._woken = False
        found = []
        while self._waiting:
            found.append(self._waiting.popleft())
        return found


def test_the_bell_is_rung_once_for_all_that_has_come() -> None:
    numbers = Numbers()
    for number in range(3):
        numbers.submit(number)
    assert numbers.take() == [0, 1, 2]
    assert numbers.take(within=0.001) is None


def test_what_comes_after_the_thread_has_looked_rings_again() -> None:
    numbers = Numbers()
    numbers.submit(1)
    assert numbers.take() == [1]
    numbers.submit(2)
    assert numbers.take() == [2]


def test_a_thread_that_waits_is_woken() -> None:
    numbers, found = Numbers(), []
    thread = threading.Thread(target=lambda: found.append(numbers.take()))
    thread.start()
    numbers.submit(7)
    thread.join(DEADLINE)
    assert found == [[7]]
