"""Threads for plain handlers."""

import asyncio
import contextlib
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import pytest

from tests.processes import environment
from tests.unit.worker.building import Gate
from tests.waiting import DEADLINE, eventually
from worker.calls.around import Around
from worker.calls.threads import HandlerThreads, LoopThreads


def results(futures: list["Future[Any]"]) -> list[Any]:
    return [future.result(DEADLINE) for future in futures]


def test_a_call_runs_in_a_thread_and_gives_its_result(threads: HandlerThreads) -> None:
    future = threads.submit(lambda a, *, b: (a, b, threading.current_thread().name), 1, b=2)
    assert future.result(DEADLINE) == (1, 2, "queue-run-handler-1")


@pytest.mark.parametrize("failure", [LookupError("x"), SystemExit(3), KeyboardInterrupt()])
def test_a_failure_is_the_callers_and_the_thread_goes_on(
    threads: HandlerThreads, failure: BaseException
) -> None:
    def fail() -> None:
        raise failure

    assert threads.submit(fail).exception(DEADLINE) is failure
    assert threads.submit(threading.get_ident).result(DEADLINE)


def test_a_thread_that_has_ended_of_a_defect_is_replaced(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = HandlerThreads(1)

    def spoilt() -> None:
        monkeypatch.undo()
        raise SystemExit(0)

    monkeypatch.setattr(threads._idle, "release", spoilt)
    assert threads.submit(lambda: 1).result(DEADLINE) == 1
    assert threads.submit(lambda: 2).result(DEADLINE) == 2
    assert "the thread queue-run-handler-1 ended unexpectedly" in caplog.text
    assert [thread.name for thread in threads._threads] == ["queue-run-handler-2"]


def test_a_stop_iteration_becomes_a_failure_that_can_be_awaited(threads: HandlerThreads) -> None:
    """As in a coroutine (PEP 479)."""
    failure = threads.submit(next, iter(())).exception(DEADLINE)
    assert isinstance(failure, RuntimeError)
    assert isinstance(failure.__cause__, StopIteration)


def test_no_more_run_at_once_than_its_size() -> None:
    threads, gate = HandlerThreads(3), Gate()
    futures = [threads.submit(gate.pass_through) for _ in range(10)]
    eventually(lambda: gate.inside == 3, what="three calls side by side")
    gate.open()
    assert len(set(results(futures))) <= 3
    assert gate.most == 3
    threads.shutdown()


def test_it_grows_only_when_all_threads_are_busy() -> None:
    threads = HandlerThreads(8)
    for _ in range(20):
        threads.submit(lambda: None).result(DEADLINE)
        # The thread tells that it is idle after it has given its result.
        eventually(lambda: threads._idle._value == 1, what="an idle thread")
    assert len(threads._threads) == 1
    threads.shutdown()


def test_without_work_it_has_no_threads() -> None:
    assert HandlerThreads(8)._threads == []


def test_what_waits_runs_in_its_order() -> None:
    threads, gate = HandlerThreads(1), Gate()
    order: list[int] = []
    futures = [threads.submit(gate.pass_through)]
    futures += [threads.submit(order.append, number) for number in range(20)]
    gate.open()
    results(futures)
    assert order == list(range(20))
    threads.shutdown()


def test_a_call_that_was_cancelled_before_its_turn_does_not_run() -> None:
    threads, gate = HandlerThreads(1), Gate()
    ran: list[str] = []
    first = threads.submit(gate.pass_through)
    eventually(lambda: gate.inside, what="the first call")
    cancelled, last = threads.submit(ran.append, "cancelled"), threads.submit(ran.append, "last")
    assert cancelled.cancel()
    gate.open()
    results([first, last])
    assert ran == ["last"]
    threads.shutdown()


def test_shutting_down_lets_what_is_queued_run_and_the_threads_end() -> None:
    threads, gate = HandlerThreads(2), Gate()
    futures = [threads.submit(gate.pass_through) for _ in range(6)]
    threads.shutdown()
    gate.open()
    results(futures)
    for thread in threads._threads:
        thread.join(DEADLINE)
        assert not thread.is_alive()


def test_a_handler_that_hangs_does_not_keep_the_interpreter_alive() -> None:
    code = (
        "import threading\n"
        "from worker.calls.threads import HandlerThreads\n"
        "started = threading.Event()\n"
        "def hang():\n"
        "    started.set()\n"
        "    threading.Event().wait()\n"
        "HandlerThreads(2).submit(hang)\n"
        "started.wait()\n"
        "print('the end')\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )
    assert (ran.returncode, ran.stdout) == (0, "the end\n")


class Noting(Around):
    """Notes what is done around which thread's calls."""

    idle = False

    def __init__(self) -> None:
        self.notes: list[str] = []

    @contextlib.contextmanager
    def call(self) -> Iterator[None]:
        self.notes.append("before")
        try:
            yield
        finally:
            self.notes.append("after")

    def leave(self) -> None:
        self.notes.append("leave")


def fail() -> None:
    raise ValueError("failed")


def test_what_is_done_around_a_call_is_done_in_its_thread_also_when_it_fails() -> None:
    around = Noting()
    threads = HandlerThreads(1, around=around)
    with pytest.raises(ValueError, match="failed"):
        threads.submit(fail).result(DEADLINE)
    assert threads.submit(lambda: list(around.notes)).result(DEADLINE) == [
        *("before", "after"),
        "before",
    ]
    threads.shutdown()
    eventually(lambda: around.notes[-1] == "leave", what="the end of the thread")


async def test_threads_behind_to_thread_do_it_too() -> None:
    around = Noting()
    with LoopThreads(around) as threads:
        asyncio.get_running_loop().set_default_executor(threads)
        await asyncio.to_thread(around.notes.append, "call")
    assert around.notes == ["before", "call", "after"]
