"""The event loop of a worker process."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.waiting import DEADLINE, eventually
from worker.running.background import BackgroundLoop


@pytest.fixture
def background() -> Iterator[BackgroundLoop]:
    background = BackgroundLoop(on_loss=lambda: None)
    background.start()
    yield background
    if not background.loop.is_closed():
        background.stop()


def test_work_runs_on_a_thread_of_its_own(background: BackgroundLoop) -> None:
    async def work() -> tuple[str, bool]:
        return threading.current_thread().name, asyncio.get_running_loop() is background.loop

    assert background.submit(work()).result(DEADLINE) == ("queue-run-handlers", True)


def test_a_failure_is_given_to_whoever_submitted(background: BackgroundLoop) -> None:
    async def fail() -> None:
        raise LookupError("x")

    assert isinstance(background.submit(fail()).exception(DEADLINE), LookupError)


def test_work_runs_side_by_side(background: BackgroundLoop) -> None:
    together = asyncio.Barrier(2)

    async def work() -> int:
        async with asyncio.timeout(DEADLINE):
            return await together.wait()

    futures = [background.submit(work()) for _ in range(2)]
    assert {future.result(DEADLINE) for future in futures} == {0, 1}


def test_stopping_cancels_what_still_runs_and_lets_it_clean_up(background: BackgroundLoop) -> None:
    events: list[str] = []

    async def work() -> None:
        events.append("started")
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            events.append("cleaned up")

    future = background.submit(work())
    eventually(lambda: events, what="the start")
    background.stop()
    assert events == ["started", "cleaned up"]
    assert future.cancelled()
    assert background.loop.is_closed()
    assert not background._thread.is_alive()


def test_stopping_ends_asynchronous_generators(background: BackgroundLoop) -> None:
    ended: list[bool] = []

    async def numbers():  # type: ignore[no-untyped-def]
        try:
            yield 1
        finally:
            ended.append(True)

    generator = numbers()  # type: ignore[no-untyped-call]

    async def begin() -> None:
        await anext(generator)

    background.submit(begin()).result(DEADLINE)
    background.stop()
    assert ended == [True]


@pytest.mark.parametrize(
    ("failure", "text"),
    [
        (SystemExit(3), "sys.exit(3) was called"),
        (KeyboardInterrupt(), "KeyboardInterrupt was raised"),
    ],
)
def test_work_that_would_end_the_process_has_failed_and_does_not_end_the_loop(
    background: BackgroundLoop, failure: BaseException, text: str
) -> None:
    async def leave() -> None:
        raise failure

    async def stay() -> str:
        return "here"

    assert str(background.submit(leave()).exception(DEADLINE)) == text
    assert background.submit(stay()).result(DEADLINE) == "here"


@pytest.mark.parametrize("failure", [SystemExit(3), KeyboardInterrupt()], ids=repr)
def test_a_task_left_behind_that_would_end_the_process_does_not_end_the_loop(
    background: BackgroundLoop, caplog: pytest.LogCaptureFixture, failure: BaseException
) -> None:
    # A task whose end nobody asks for tells its loop of it.
    background.loop.set_exception_handler(lambda loop, facts: None)
    left: list[asyncio.Task[None]] = []

    async def leave() -> None:
        raise failure

    async def leave_behind() -> None:
        left.append(asyncio.create_task(leave()))

    async def stay() -> str:
        return "here"

    background.submit(leave_behind()).result(DEADLINE)
    eventually(lambda: f"{failure!r} on the loop" in caplog.text, what="the exit in the log")
    assert background.submit(stay()).result(DEADLINE) == "here"


def test_work_that_does_not_let_itself_be_cancelled_does_not_keep_the_loop(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("worker.running.background.CANCEL_TIME", 0.05)
    background = BackgroundLoop(on_loss=lambda: None)
    background.start()
    started = threading.Event()
    tasks: list[asyncio.Task[Any]] = []

    async def stubborn() -> None:
        tasks.extend(asyncio.all_tasks())
        started.set()
        while True:
            try:
                await asyncio.sleep(DEADLINE)
            except asyncio.CancelledError:
                continue

    background.submit(stubborn())
    assert started.wait(DEADLINE)
    background.stop()
    for task in tasks:
        # Else asyncio tells of it when it is collected: a task without a loop never ends.
        task._log_destroy_pending = False  # type: ignore[attr-defined]
    assert "does not let itself be cancelled" in caplog.text
    assert background.loop.is_closed()


def test_the_loss_of_the_loop_is_told() -> None:
    told = threading.Event()
    background = BackgroundLoop(on_loss=told.set)
    # Nothing of ours does this; it stands for a defect.
    background.loop.close()
    background.start()
    assert told.wait(DEADLINE)
