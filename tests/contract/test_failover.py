"""A reader whose address leads to another Redis, on real ones: what is missing is told, once."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from redis import Redis

from queue_run.channel.listener import Entry, Listener, LostEntries, parse_offset
from tests.faults.proxy import Proxy
from tests.replicas import Replicas
from tests.waiting import eventually_async


class Reader:
    """What a listener gave out, and what it told."""

    def __init__(self, port: int, stream: str) -> None:
        self.gaps: list[LostEntries] = []
        self.read: list[bytes] = []
        self.listener = Listener(f"redis://127.0.0.1:{port}/0", [stream])

    def take(self, batch: list[Entry]) -> None:
        self.read += [each.data for each in batch]

    async def has(self, *data: bytes) -> None:
        """Wait until these were the last entries."""
        await eventually_async(
            lambda: self.read[-len(data) :] == list(data), what=f"{data!r} at the end"
        )


@pytest.fixture
def nodes() -> Iterator[Replicas]:
    found = Replicas()
    yield found
    found.end()


@contextlib.asynccontextmanager
async def reading(nodes: Replicas, stream: str) -> AsyncIterator[tuple[Reader, Proxy]]:
    """A reader behind a proxy that leads to the primary, with one entry read."""
    async with Proxy(nodes.primary.port) as proxy:
        reader = Reader(proxy.port, stream)
        await reader.listener.open()
        task = asyncio.create_task(reader.listener.run(reader.take, reader.gaps.append))
        try:
            with nodes.primary.client() as client:
                write(client, stream, "first")
            await reader.has(b"first")
            yield reader, proxy
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await reader.listener.close()


def write(client: Redis, stream: str, data: str) -> str:
    return str(client.xadd(stream, {"e": data}))


async def test_a_planned_failover_loses_nothing_and_tells_nothing(
    nodes: Replicas, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "queue_run.channel.listener")
    async with reading(nodes, namespace) as (reader, proxy):
        with nodes.primary.client() as old:
            write(old, namespace, "last")
        await asyncio.to_thread(nodes.fail_over)
        with nodes.primary.client() as new:
            write(new, namespace, "next")
            # The old node tells how far it went, unless the address stands for another one first.
            await eventually_async(
                lambda: "is_primary=False" in caplog.text, what="an answer of the demoted node"
            )
            proxy.lead_to(nodes.primary.port)
            await reader.has(b"first", b"last", b"next")
            write(new, namespace, "and so on")
            await reader.has(b"next", b"and so on")
    assert reader.gaps == []


async def test_a_promoted_replica_may_lack_what_was_not_read(
    nodes: Replicas, namespace: str
) -> None:
    """What the old primary took last reached neither its replica nor the reader."""
    async with Proxy(nodes.primary.port) as replication:
        await asyncio.to_thread(nodes.follow, replication.port)
        async with reading(nodes, namespace) as (reader, proxy):
            replication.freeze()
            proxy.freeze()
            with nodes.primary.client() as old:
                write(old, namespace, "lost")
            await asyncio.to_thread(nodes.promote, at_once=True)
            with nodes.primary.client() as new:
                write(new, namespace, "next")
                proxy.lead_to(nodes.primary.port)
                proxy.cut()
                proxy.resume()
                await reader.has(b"first", b"next")
                facts: Any = new.info("replication")
                history = facts["master_replid"]
    assert reader.gaps == [LostEntries(namespace, went_back=False, history=history)]


async def test_a_promoted_replica_that_lacks_what_was_read_is_read_from_where_they_part(
    nodes: Replicas, namespace: str
) -> None:
    """Also where its offsets are behind those that were read: its clock may be."""
    async with Proxy(nodes.primary.port) as replication:
        await asyncio.to_thread(nodes.follow, replication.port)
        async with reading(nodes, namespace) as (reader, proxy):
            replication.freeze()
            with nodes.primary.client() as old:
                offset = parse_offset(write(old, namespace, "ahead"))
                await reader.has(b"ahead")
                old.xadd(namespace, {"e": "far ahead"}, id=f"{offset[0] + 600_000}-0")
                await reader.has(b"far ahead")
            await asyncio.to_thread(nodes.promote, at_once=True)
            with nodes.primary.client() as new:
                write(new, namespace, "next")
                proxy.lead_to(nodes.primary.port)
                await reader.has(b"far ahead", b"next")
    [gap] = reader.gaps
    assert gap.went_back
    assert gap.history


async def test_a_redis_that_was_a_replica_for_a_while_has_lost_nothing(
    nodes: Replicas, namespace: str
) -> None:
    async with reading(nodes, namespace) as (reader, _):
        nodes.demote()
        await eventually_async(lambda: not reader.listener.connected, what="a lost link")
        nodes.promote_again()
        with nodes.primary.client() as client:
            write(client, namespace, "next")
        await reader.has(b"first", b"next")
    assert reader.gaps == []


async def test_a_redis_that_is_started_again_has_lost_nothing(
    nodes: Replicas, namespace: str
) -> None:
    async with reading(nodes, namespace) as (reader, _):
        await asyncio.to_thread(nodes.primary.kill)
        await asyncio.to_thread(nodes.primary.start)
        with nodes.primary.client() as client:
            write(client, namespace, "next")
        await reader.has(b"first", b"next")
    assert reader.gaps == []


async def test_a_redis_that_does_not_tell_which_node_it_is_is_read_all_the_same(
    nodes: Replicas, namespace: str
) -> None:
    with nodes.primary.client() as admin:
        admin.acl_setuser(
            "default", enabled=True, nopass=True, categories=["+@all"], commands=["-info"]
        )
    async with reading(nodes, namespace) as (reader, proxy):
        proxy.cut()
        with nodes.primary.client() as client:
            write(client, namespace, "next")
        await reader.has(b"first", b"next")
    assert reader.gaps == []
