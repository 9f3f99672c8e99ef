import asyncio
from typing import Any

import pytest

from queue_run.client.tokens import NoToken, ask_for_token, problem


async def later() -> str:
    await asyncio.sleep(0)
    return "later"


async def test_a_function_may_be_plain_or_asynchronous() -> None:
    assert await ask_for_token(lambda: "now") == "now"
    assert await ask_for_token(later) == "later"


async def test_a_function_that_takes_too_long_gives_no_token() -> None:
    async def never() -> str:
        await asyncio.Event().wait()
        return ""

    with pytest.raises(NoToken, match="TimeoutError"):
        await ask_for_token(never, timeout=0.05)


async def test_a_cancellation_passes_through() -> None:
    async def never() -> str:
        await asyncio.Event().wait()
        return ""

    asking = asyncio.create_task(ask_for_token(never))
    await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking


@pytest.mark.parametrize("end", [KeyboardInterrupt, SystemExit])
async def test_the_end_of_the_process_passes_through(end: type[BaseException]) -> None:
    def ends() -> str:
        raise end

    with pytest.raises(end):
        await ask_for_token(ends)


class OutOfTime(BaseException):
    """As gevent and others raise it: no Exception."""


class Wordless(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OutOfTime("late"), "OutOfTime: late"),
        (BaseExceptionGroup("both", [OutOfTime()]), "BaseExceptionGroup: both"),
        (Wordless(), "failed: Wordless"),
        (StopIteration(), "failed: StopIteration"),
    ],
)
async def test_whatever_a_function_raises_it_gives_no_token(
    error: BaseException, said: str
) -> None:
    def fails() -> str:
        raise error

    with pytest.raises(NoToken, match=said):
        await ask_for_token(fails)


@pytest.mark.parametrize("given", [None, b"bytes", 7, "", "a b", "line\n", "\x00", "größe"])
async def test_what_is_no_token_is_none(given: Any) -> None:
    assert problem(given)
    with pytest.raises(NoToken, match="none that can be sent"):
        await ask_for_token(lambda: given)


def test_tokens_as_they_are_can_be_sent() -> None:
    assert problem("eyJhbGciOiJIUzI1NiJ9.e30.a-_~+/=") is None
