"""Time limits of plain code: in a main thread by an alarm, in others by the signal alone."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from queue_run import HandlerTimeout, Signal
from tests.waiting import DEADLINE, eventually
from worker.running.time_limits import TimeLimits, run_limited

#: A limit that passes at once.
SOON = 0.02
#: One that never does.
FAR = 10 * DEADLINE


def forever() -> None:
    threading.Event().wait(DEADLINE)


@pytest.fixture(autouse=True)
def alarms() -> Iterator[None]:
    """Every test leaves the alarm as it was: pytest's own time limit rings by it."""
    handler, (left, _) = (
        signal.getsignal(signal.SIGALRM),
        signal.getitimer(signal.ITIMER_REAL),
    )
    yield
    assert signal.getsignal(signal.SIGALRM) == handler
    now, _ = signal.getitimer(signal.ITIMER_REAL)
    assert (now > 0) == (left > 0)
    assert left - DEADLINE < now <= left


# In a main thread


def test_code_in_time_gives_its_result() -> None:
    told = Signal()
    assert run_limited(FAR, told, lambda: "done") == "done"
    assert not told.is_set()


def test_code_past_its_time_is_interrupted_and_told() -> None:
    told = Signal()
    with pytest.raises(HandlerTimeout, match=r"no answer within 0\.02 seconds"):
        run_limited(SOON, told, forever)
    assert told.wait(DEADLINE)


@pytest.mark.parametrize(
    "failure", [LookupError("x"), StopIteration(), SystemExit(3), KeyboardInterrupt()], ids=repr
)
def test_what_the_code_raises_is_raised(failure: BaseException) -> None:
    def fail() -> None:
        raise failure

    with pytest.raises(BaseException) as caught:  # noqa: PT011
        run_limited(FAR, Signal(), fail)
    assert caught.value is failure


def test_code_that_is_told_while_it_asks_its_signal_is_interrupted_all_the_same() -> None:
    """The alarm may ring while the code that it interrupts holds the lock of its own signal."""
    told = Signal()

    def ask() -> None:
        with told._making:
            forever()

    with pytest.raises(HandlerTimeout):
        run_limited(SOON, told, ask)
    assert told.wait(DEADLINE)


def test_code_that_clears_up_is_not_interrupted_again() -> None:
    cleared_up: list[float] = []

    def clear_up() -> None:
        began = time.monotonic()
        try:
            forever()
        finally:
            threading.Event().wait(5 * SOON)
            cleared_up.append(time.monotonic() - began)

    with pytest.raises(HandlerTimeout):
        run_limited(SOON, Signal(), clear_up)
    assert cleared_up[0] >= 5 * SOON


@pytest.mark.parametrize("inner", ["in time", "late"])
def test_a_limit_within_another_one_leaves_that_one_its_time(inner: str) -> None:
    def outer() -> None:
        if inner == "in time":
            run_limited(FAR, Signal(), lambda: None)
        else:
            with pytest.raises(HandlerTimeout, match=r"0\.02 seconds"):
                run_limited(SOON, Signal(), forever)
        forever()

    with pytest.raises(HandlerTimeout, match=r"no answer within 0\.3 seconds"):
        run_limited(0.3, Signal(), outer)


def test_a_limit_that_passed_within_a_longer_one_counts_at_its_end() -> None:
    def outer() -> None:
        run_limited(FAR, Signal(), lambda: threading.Event().wait(5 * SOON))
        forever()

    with pytest.raises(HandlerTimeout, match=r"no answer within 0\.02 seconds"):
        run_limited(SOON, Signal(), outer)


def test_an_alarm_that_rings_as_the_code_ends_leaves_nothing_behind() -> None:
    """Wherever it rings, the outcome is one or the other; the fixture looks at what is left."""
    ended = interrupted = 0
    for number in range(2000):
        seconds = 1e-6 * (1 + number % 200)
        try:
            run_limited(seconds, Signal(), lambda: sum(range(number % 300)))  # noqa: B023
            ended += 1
        except HandlerTimeout:
            interrupted += 1
        assert signal.getsignal(signal.SIGALRM) != signal.SIG_IGN
    assert ended + interrupted == 2000
    assert interrupted > 0


# Several calls in turn


def test_each_of_several_calls_has_a_time_of_its_own() -> None:
    told = Signal()
    with TimeLimits() as limits:
        for _ in range(4):
            limits.run(0.5, told, lambda: threading.Event().wait(0.2))
        assert not told.is_set()
        with pytest.raises(HandlerTimeout, match=r"0\.02 seconds"):
            limits.run(SOON, told, forever)
        assert limits.run(FAR, Signal(), lambda: "done") == "done"
    assert told.wait(DEADLINE)


def test_an_alarm_that_rings_between_two_calls_is_ignored() -> None:
    told = Signal()
    with TimeLimits() as limits:
        limits.run(SOON, told, lambda: None)
        threading.Event().wait(5 * SOON)
        assert limits.run(FAR, told, lambda: "done") == "done"
    assert not told.is_set()


def test_an_alarm_of_a_call_before_leaves_the_next_one_its_time() -> None:
    """It may have rung, and come late."""

    def ring() -> None:
        signal.raise_signal(signal.SIGALRM)
        forever()

    with TimeLimits() as limits:
        limits.run(FAR, Signal(), lambda: None)
        began = time.monotonic()
        with pytest.raises(HandlerTimeout):
            limits.run(5 * SOON, Signal(), ring)
        assert time.monotonic() - began >= 5 * SOON


def test_a_call_that_has_alarms_of_its_own_takes_none_from_the_next() -> None:
    def use_alarms() -> None:
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        signal.setitimer(signal.ITIMER_REAL, 0)

    with TimeLimits() as limits:
        limits.run(FAR, Signal(), use_alarms)
        with pytest.raises(HandlerTimeout):
            limits.run(SOON, Signal(), forever)


def test_limits_that_nothing_was_run_under_leave_the_alarm_alone() -> None:
    handler = signal.getsignal(signal.SIGALRM)
    with TimeLimits():
        assert signal.getsignal(signal.SIGALRM) == handler


# In other threads


def in_a_thread(run: Callable[[], Any]) -> Any:
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(run()))
    thread.start()
    thread.join(DEADLINE)
    return results[0]


def test_in_another_thread_code_is_told_and_goes_on() -> None:
    told = Signal()
    assert in_a_thread(lambda: run_limited(SOON, told, lambda: told.wait(DEADLINE)))


def test_in_another_thread_code_in_time_is_not_told_and_leaves_no_timer() -> None:
    told = Signal()
    assert in_a_thread(lambda: run_limited(FAR, told, lambda: "done")) == "done"
    assert not told.is_set()

    def timers() -> bool:
        return any(isinstance(each, threading.Timer) for each in threading.enumerate())

    eventually(lambda: not timers(), what="the end of its timer")


def test_in_another_thread_each_of_several_calls_is_told() -> None:
    def in_turn() -> list[bool]:
        with TimeLimits() as limits:
            signals = [Signal(), Signal()]
            return [limits.run(SOON, each, lambda: each.wait(DEADLINE)) for each in signals]  # noqa: B023

    assert in_a_thread(in_turn) == [True, True]
