"""What a send gives: its receipt, when it is known how it ended."""

import gc
import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest

from queue_run.channel.receipts import Receipt, Sending, finished
from queue_run.errors import ChannelUnavailable, NotAwaited
from queue_run.storage.fullness import Fullness
from tests.waiting import DEADLINE, eventually

HERE = Receipt("17-3", online=2)


async def test_a_send_that_has_ended_is_still_to_be_awaited() -> None:
    sending = finished(HERE)
    assert sending.done
    with pytest.raises(NotAwaited):
        _ = sending.value
    assert await sending == HERE == sending.value


async def test_a_send_is_true_before_it_was_awaited() -> None:
    assert Sending()
    assert finished(HERE)


# Failures that nobody looks at


def failed() -> Sending:
    sending = Sending()
    # An error of its own: an error that was raised holds on to all that it passed through.
    sending.complete(None, ChannelUnavailable("Redis took no message"))
    return sending


def test_a_failure_that_nobody_waited_for_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        failed()
        logged = eventually(lambda: caplog.text, what="a line in the log")
    assert "a message that nobody waited for was not sent: Redis took no message" in logged


def test_a_full_redis_is_logged_once_for_all_that_nobody_waited_for(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    fullness = Fullness(logging.getLogger("receipts"), "they are not sent")
    monkeypatch.setattr("queue_run.channel.receipts._fullness", fullness)
    for _ in range(5):
        sending = Sending()
        sending.complete(None, ChannelUnavailable("OOM command: used memory > 'maxmemory'"))
        del sending
    eventually(lambda: fullness, what="a refusal")
    gc.collect()
    [line] = [line for line in caplog.messages if "not sent" in line]
    assert line.startswith("Redis is full")


@pytest.fixture
def collected() -> None:
    """What other tests have dropped is gone, and says so no more."""
    gc.collect()


@pytest.mark.usefixtures("collected")
async def test_a_failure_that_was_raised_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.clear()
    sending = failed()
    with pytest.raises(ChannelUnavailable):
        await sending
    del sending
    gc.collect()
    assert "was not sent" not in caplog.text


@pytest.mark.usefixtures("collected")
def test_a_success_that_nobody_waited_for_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.clear()
    finished(HERE)
    Sending()
    gc.collect()
    assert caplog.text == ""


# Former spellings


@pytest.mark.parametrize(("name", "value"), [("offset", "17-3"), ("online", 2)])
def test_a_receipts_attributes_on_the_send_are_a_former_spelling(name: str, value: object) -> None:
    text = rf"send\(…\)\.{name} is a former spelling.* use send\(…\)\.value\.{name}"
    for sending, known in ((finished(HERE), value), (Sending(), None)):
        with pytest.warns(DeprecationWarning, match=text) as told:
            assert getattr(sending, name) == known
        assert [each.filename for each in told] == [__file__]


def test_to_wait_for_a_send_is_a_former_spelling() -> None:
    sending = Sending()
    thread = threading.Thread(target=sending.complete, args=(HERE,))
    thread.start()
    with pytest.warns(DeprecationWarning, match=r"send\(…\)\.wait\(\)"):
        sending.wait(DEADLINE)
    assert sending.value == HERE
    thread.join()
    with pytest.warns(DeprecationWarning, match="wait"), pytest.raises(ChannelUnavailable):
        failed().wait(DEADLINE)
    text = r"no answer within 0\.01 seconds"
    with pytest.warns(DeprecationWarning, match="wait"), pytest.raises(TimeoutError, match=text):
        Sending().wait(0.01)


def test_to_raise_the_error_of_a_send_is_a_former_spelling() -> None:
    with pytest.warns(DeprecationWarning, match=r"send\(…\)\.raise_error\(\)"):
        finished(HERE).raise_error()
    with pytest.warns(DeprecationWarning, match="raise_error"):
        Sending().raise_error()
    with pytest.warns(DeprecationWarning, match="raise_error"), pytest.raises(ChannelUnavailable):
        failed().raise_error()


FORMER: list[tuple[Callable[[Any], object], object]] = [
    (lambda receipt: receipt.done, True),
    (lambda receipt: receipt.wait(1), None),
    (lambda receipt: receipt.raise_error(), None),
]


@pytest.mark.parametrize(("use", "value"), FORMER, ids=["done", "wait", "raise_error"])
def test_a_receipt_is_used_like_the_send_in_former_spellings(
    use: Callable[[Any], object], value: object
) -> None:
    with pytest.warns(DeprecationWarning, match=r"receipt\.\w+"):
        assert use(HERE) is value


async def test_a_receipt_is_awaited_once_more_in_former_spellings() -> None:
    receipt: Any = HERE
    with pytest.warns(DeprecationWarning, match="await receipt"):
        assert await receipt is HERE
    with pytest.warns(DeprecationWarning, match=r"receipt\.settled\(\)"):
        await receipt.settled()
