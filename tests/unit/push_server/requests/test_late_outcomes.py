"""Outcomes that stand in the stream of another push server, on every Redis."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import pytest
import redis
import redis.asyncio

from push_server.requests import late_outcomes
from push_server.requests.claims import Holder
from push_server.requests.late_outcomes import PAGE, LateOutcomes, Wanted
from queue_run.contracts.envelopes import ChannelEnvelope, Hello, Outcome, encode
from queue_run.contracts.ids import ConnectionId, RequestId, ServerId
from queue_run.contracts.keys import Keys
from queue_run.contracts.messages import Form, Message
from tests.processes import RedisServer
from tests.waiting import DEADLINE, eventually_async

THERE = ServerId("there")


def request(number: int, server: str = THERE) -> RequestId:
    return RequestId(f"{server}-1-{number}")


def outcome(number: int, *, server: str = THERE, after: str | None = None) -> Outcome:
    return Outcome(
        connection=ConnectionId(f"{server}-1"),
        request=request(number, server),
        reply=Message(Form.JSON, str(number).encode()),
        after=after,
    )


class Looking:
    """Looks for outcomes, while the block lasts."""

    def __init__(self, url: str, keys: Keys) -> None:
        self.keys = keys
        self.client = redis.asyncio.Redis.from_url(url, socket_timeout=None)
        self.found: list[Outcome] = []
        self.late = LateOutcomes(self.client, keys, keep=100)

    async def write(self, *envelopes: ChannelEnvelope, server: str = THERE) -> None:
        stream = self.keys.server(ServerId(server))
        for envelope in envelopes:
            await self.client.xadd(stream, {"e": encode(envelope)})

    async def now(self) -> int:
        seconds, microseconds = await self.client.time()
        return int(seconds) * 1000 + int(microseconds) // 1000

    def want(
        self,
        number: int,
        since: int,
        *,
        server: str = THERE,
        seconds: float = DEADLINE,
        as_: str = "here-5-1",
    ) -> None:
        connection, _, _ = as_.rpartition("-")
        self.late.want(
            Holder(request(number, server), since),
            Wanted(ConnectionId(connection), RequestId(as_), until=time.monotonic() + seconds),
        )

    async def until(self, *replies: int) -> None:
        await eventually_async(lambda: len(self.found) >= len(replies), what=f"{replies}")
        assert [int(each.reply.data) for each in self.found if each.reply] == list(replies)


@contextlib.asynccontextmanager
async def looking(url: str, keys: Keys) -> AsyncIterator[Looking]:
    made = Looking(url, keys)
    task = asyncio.create_task(made.late.run(made.found.append))
    try:
        yield made
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await made.client.aclose()


@pytest.fixture
def keys(namespace: str) -> Keys:
    return Keys(namespace)


async def test_an_outcome_that_stands_there_is_that_of_the_request_here(
    redis_url: str, keys: Keys
) -> None:
    async with looking(redis_url, keys) as here:
        since = await here.now()
        await here.write(Hello(), outcome(1, after="7-0"), outcome(2))
        here.want(1, since, as_="here-5-3")
        await here.until(1)
        [found] = here.found
        assert (found.connection, found.request, found.after) == ("here-5", "here-5-3", "7-0")


async def test_an_outcome_that_comes_later_is_found(redis_url: str, keys: Keys) -> None:
    async with looking(redis_url, keys) as here:
        await here.write(Hello())
        here.want(1, await here.now())
        await asyncio.sleep(0)
        await here.write(outcome(2), outcome(1))
        await here.until(1)


async def test_it_waits_for_a_stream_that_is_not_there(redis_url: str, keys: Keys) -> None:
    async with looking(redis_url, keys) as here:
        here.want(1, await here.now())
        await asyncio.sleep(0)
        await here.write(outcome(1))
        await here.until(1)


async def test_what_is_asked_for_later_may_stand_before_what_was_read(
    redis_url: str, keys: Keys
) -> None:
    async with looking(redis_url, keys) as here:
        since = await here.now()
        await here.write(outcome(1), outcome(2))
        # Several looks have gone by when the second is asked for.
        here.want(2, since)
        await here.until(2)
        here.want(9, since)
        await here.write(outcome(3))
        here.want(3, since)
        await here.until(2, 3)
        here.want(1, since)
        await here.until(2, 3, 1)


async def test_streams_are_read_on_in_pages(redis_url: str, keys: Keys) -> None:
    async with looking(redis_url, keys) as here:
        since = await here.now()
        count = 2 * PAGE + 3
        await here.write(*(outcome(number) for number in range(count)))
        for number in (0, PAGE, count - 1):
            here.want(number, since, as_=f"here-5-{number}")
        await here.until(0, PAGE, count - 1)


async def test_servers_are_not_confused(redis_url: str, keys: Keys) -> None:
    async with looking(redis_url, keys) as here:
        since = await here.now()
        await here.write(outcome(1, server="one"), server="one")
        await here.write(outcome(1, server="two"), server="two")
        here.want(1, since, server="two", as_="here-5-2")
        await here.until(1)
        assert here.found[0].request == "here-5-2"


async def test_a_client_that_came_back_twice_is_answered_where_it_is_now(
    redis_url: str, keys: Keys
) -> None:
    async with looking(redis_url, keys) as here:
        since = await here.now()
        here.want(1, since, as_="here-5-1")
        here.want(1, since, as_="here-6-1")
        await here.write(outcome(1), outcome(1))
        await here.until(1)
        assert here.found[0].connection == "here-6"
        await here.write(outcome(2))
        here.want(2, since, as_="here-6-2")
        await here.until(1, 2)


async def test_what_is_no_outcome_is_passed_over(redis_url: str, keys: Keys) -> None:
    async with looking(redis_url, keys) as here:
        since = await here.now()
        stream = keys.server(THERE)
        await here.client.xadd(stream, {"e": b"\x02of a later version"})
        await here.client.xadd(stream, {"other": b"field"})
        await here.write(Hello(), outcome(1))
        here.want(1, since)
        await here.until(1)


async def test_a_stream_that_is_looked_at_is_kept(redis_url: str, keys: Keys) -> None:
    async with looking(redis_url, keys) as here:
        stream = keys.server(THERE)
        await here.write(Hello())
        await here.client.expire(stream, 10)
        here.want(1, await here.now())
        with redis.Redis.from_url(redis_url) as other:
            await eventually_async(lambda: int(other.ttl(stream)) > 10, what="a longer life")
            assert int(other.ttl(stream)) <= 100


async def test_what_was_trimmed_is_not_found_and_the_rest_is(redis_url: str, keys: Keys) -> None:
    async with looking(redis_url, keys) as here:
        since = await here.now()
        await here.write(outcome(1), outcome(2))
        await here.client.xtrim(keys.server(THERE), maxlen=1, approximate=False)
        here.want(1, since)
        here.want(2, since, as_="here-5-2")
        await here.until(2)


async def test_after_its_time_nothing_is_looked_for(redis_url: str, keys: Keys) -> None:
    async with looking(redis_url, keys) as here:
        since = await here.now()
        here.want(1, since, seconds=0.0)
        await eventually_async(lambda: not here.late._streams, what="the end of the search")
        assert not here.late._wanting.is_set()
        await here.write(outcome(1), outcome(2))
        # And it begins anew.
        here.want(2, since)
        await here.until(2)


async def test_when_all_was_found_it_rests(redis_url: str, keys: Keys) -> None:
    async with looking(redis_url, keys) as here:
        since = await here.now()
        await here.write(outcome(1))
        here.want(1, since)
        await here.until(1)
        await eventually_async(lambda: not here.late._wanting.is_set(), what="the rest")


async def test_while_redis_is_away_it_tries_again(
    own_redis: RedisServer, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(late_outcomes, "LONGEST_PAUSE", 0.05)
    async with looking(own_redis.url, keys) as here:
        since = await here.now()
        await here.write(outcome(1))
        await asyncio.to_thread(own_redis.kill)
        here.want(1, since)
        await asyncio.to_thread(own_redis.start)
        await here.until(1)
