"""A push server is killed while its links to Redis swallow bytes, and its clients go on at another
one: what it had begun runs once, and is answered."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Callable
from typing import Any, NamedTuple

import pytest
from websockets.exceptions import InvalidHandshake

from tests.acceptance.test_resume import APP, Enveloped, enveloped, runs
from tests.conftest import NewStack
from tests.faults.proxy import Proxy
from tests.processes import RedisServer, Stack
from tests.waiting import eventually_async

#: Beyond a handler's own timeout, how long push servers wait for an outcome that is lost.
SETTINGS = {"QUEUE_RUN_DEADLINE_GRACE": "5"}
#: Seconds within which a client is back, and has the outcome of what it had asked.
BACK_WITHIN = 60.0


@contextlib.asynccontextmanager
async def back(stack: Stack, before: Enveloped) -> AsyncIterator[Enveloped]:
    """The client at the other server, as soon as that lets it in."""
    async with contextlib.AsyncExitStack() as entered:
        while True:
            with contextlib.suppress(TimeoutError, InvalidHandshake):
                after = await entered.enter_async_context(enveloped(stack, 1, user="asks"))
                break
            await asyncio.sleep(0.2)
        await after.resume(before.place)
        yield after


class Outcome(NamedTuple):
    """What a client was told that came back."""

    #: Whether it has the session that it had.
    same_session: bool
    #: "resumed" or "gap".
    place: str
    answer: dict[str, Any]


async def outcome_of(stack: Stack, before: Enveloped, name: str) -> Outcome:
    async with asyncio.timeout(BACK_WITHIN), back(stack, before) as after:
        place = await after.next()
        await after.ask(1, name=name, sleep=1)
        frames = [await after.next()]
        while frames[-1]["type"] not in ("reply", "error"):
            frames.append(await after.next())
        same = place["session"] == before.place["session"]
        return Outcome(same, place["type"], frames[-1])


@pytest.mark.parametrize("of", ["the killed one", "all processes"])
@pytest.mark.parametrize("swallow", [Proxy.mute, Proxy.half_open], ids=["answers", "everything"])
async def test_what_a_killed_push_server_had_begun_runs_once_and_is_answered(
    redis_server: RedisServer, new_stack: NewStack, swallow: Callable[[Proxy], int], of: str
) -> None:
    """Of two clients: ann's request runs when the silence begins, bob's is asked in it."""
    async with Proxy(redis_server.port) as proxy:
        silent = {"REDIS_URL": f"redis://127.0.0.1:{proxy.port}/0"}
        others = silent if of == "all processes" else {}
        stack = new_stack(redis_server, APP, **SETTINGS)
        await asyncio.to_thread(stack.push_server, **silent)
        await asyncio.to_thread(stack.push_server, **others)
        stack.worker("-P", "threads", "-c", "2", **others)
        await asyncio.to_thread(stack.wait_until_ready)
        async with enveloped(stack, user="asks") as ann, enveloped(stack, user="asks") as bob:
            await ann.ask(1, name="running", sleep=1)
            await eventually_async(lambda: runs(stack, "running") == 1, what="the handler to run")
            assert swallow(proxy) > 0
            swallowed = proxy.swallowed
            await bob.ask(1, name="unsure", sleep=1)
            await eventually_async(lambda: proxy.swallowed > swallowed, what="bytes to go")
            stack.push_servers[0].send(signal.SIGKILL)
        anns, bobs = await asyncio.gather(
            outcome_of(stack, ann, "running"), outcome_of(stack, bob, "unsure")
        )
        assert anns.same_session
        assert anns.answer == {"type": "reply", "id": 1, "data": "running"}
        assert runs(stack, "running") == 1
        # Redis may never have heard of bob's session, and of his request: then he has a new one.
        assert {each.place for each in (anns, bobs)} <= {"resumed", "gap"}
        if bobs.answer["type"] == "reply":
            assert runs(stack, "unsure") == 1
        else:
            # Who had claimed it was killed before it was sent; or the application's own link to
            # Redis was silent, too.
            assert bobs.answer["error"].startswith(("no answer in time", "internal error"))
            assert runs(stack, "unsure") <= 1
        assert all(process.running for process in (stack.push_servers[1], *stack.workers))
