"""The listener, beside a Redis whose answers the test chooses. What it promises on real ones is in
tests/contract/test_channel.py."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable
from typing import Any, cast

import pytest
import redis.asyncio

from queue_run.channel.listener import (
    ANSWER_TIMEOUT,
    BLOCK_MS,
    BUSY_COUNT,
    PROOF_INTERVAL,
    STALLED_MS,
    Entry,
    Listener,
    LostEntries,
    Take,
    format_offset,
    parse_offset,
)
from queue_run.storage.links import Answered, AsyncLink
from tests.waiting import eventually_async

#: As redis-py's client gives it.
Parsed = tuple[bytes, dict[bytes, bytes] | None]
#: As Redis answers it.
Raw = tuple[bytes, list[bytes] | None]


class ScriptedRedis:
    """Gives each command its next answer; keeps what was asked."""

    def __init__(self, **answers: list[Any]) -> None:
        self.answers = answers
        self.asked: list[tuple[str, Any]] = []
        #: Whether each answer ended what it was part of.
        self.conversations: list[bool] = []
        self.closed = False
        #: Keys with which it was asked to show that it takes writes, and how it refuses.
        self.proofs: list[str] = []
        self.refusals: list[Exception] = []

    async def converse(self, command: bytes, answered: Answered, *, patience: float) -> None:
        assert patience == BLOCK_MS / 1000 + ANSWER_TIMEOUT
        following: bytes | None = command
        while following is not None:
            # Each word behind its length.
            words = following.decode().split("\r\n")[2::2]
            assert words[:6:5] == ["XREAD", "STREAMS"]
            half = len(words[6:]) // 2
            streams = dict(zip(words[6 : 6 + half], words[6 + half :], strict=True))
            if not self.answers["xread"]:
                await asyncio.Event().wait()
            following = answered(self._answer("xread", streams))
            self.conversations.append(following is None)

    async def prove(self, key: str, *, patience: float) -> None:
        assert patience == ANSWER_TIMEOUT
        self.proofs.append(key)
        if self.refusals:
            raise self.refusals.pop()

    async def close(self) -> None:
        self.closed = True

    async def xrange(
        self, stream: str, start: str = "-", end: str = "+", *, count: int | None = None
    ) -> Any:
        assert start == end or (start == "-" and count == 1)
        return self._answer("xrange", (stream, start))

    async def xrevrange(self, stream: str, *, count: int) -> Any:
        return self._answer("xrevrange", stream)

    @property
    def connection_pool(self) -> "ScriptedRedis":
        return self

    async def disconnect(self, *, inuse_connections: bool) -> None:
        """The links on which nobody waits."""

    async def aclose(self) -> None:
        self.closed = True

    def _answer(self, command: str, asked: Any) -> Any:
        self.asked.append((command, asked))
        answer = self.answers[command].pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


class ScriptedListener(Listener):
    """A listener that knows where its gaps are to be noted."""

    gaps: list[LostEntries]


def listener(
    server: ScriptedRedis, *streams: str, gaps: list[LostEntries] | None = None, **options: Any
) -> ScriptedListener:
    made = ScriptedListener("redis://127.0.0.1:1/0", streams, **options)
    made.gaps = gaps if gaps is not None else []
    made._client = cast("redis.asyncio.Redis", server)
    made._link = cast("AsyncLink", server)
    return made


@contextlib.asynccontextmanager
async def running(reader: ScriptedListener) -> AsyncIterator[list[list[Entry]]]:
    """The batches that a listener gives out."""
    batches: list[list[Entry]] = []
    task = asyncio.create_task(reader.run(batches.append, reader.gaps.append))
    try:
        yield batches
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def first_of(reader: ScriptedListener, count: int = 1) -> list[list[Entry]]:
    async with running(reader) as batches:
        await eventually_async(lambda: len(batches) >= count, what=f"{count} batches")
        return batches


def entry(offset: bytes, data: bytes) -> Parsed:
    return (offset, {b"e": data})


def raw(offset: bytes, *data: bytes) -> Raw:
    names = [b"e", *(b"e%d" % number for number in range(1, len(data)))]
    return (offset, [part for pair in zip(names, data, strict=True) for part in pair])


def test_offsets_compare_as_the_stream_does() -> None:
    shuffled = ["9-10", "10-0", "8-11", "9-9"]
    assert sorted(shuffled, key=parse_offset) == ["8-11", "9-9", "9-10", "10-0"]


@pytest.mark.parametrize("text", ["0-0", "1700000000000-3"])
def test_an_offset_comes_back_unchanged(text: str) -> None:
    assert format_offset(parse_offset(text)) == text
    assert parse_offset(text.encode()) == parse_offset(text)


def test_an_offset_without_a_number_is_the_first_of_its_millisecond() -> None:
    assert parse_offset("17") == (17, 0)


async def test_opening_takes_the_ends_of_the_streams_as_places_to_start_from() -> None:
    server = ScriptedRedis(xrevrange=[[entry(b"7-1", b"old")], []])
    reader = listener(server, "a", "b")
    await reader.open()
    assert (reader.position("a"), reader.position("b")) == ((7, 1), (0, 0))


@pytest.mark.parametrize("resp3", [True, False])
async def test_entries_are_read_in_either_form_of_the_protocol(resp3: bool) -> None:
    entries = [raw(b"1-0", b"one"), raw(b"2-0", b"two")]
    answer = {b"a": entries} if resp3 else [(b"a", entries)]
    server = ScriptedRedis(xrevrange=[[]], xread=[answer])
    reader = listener(server, "a")
    await reader.open()
    assert await first_of(reader) == [
        [Entry("a", (1, 0), b"one"), Entry("a", (2, 0), b"two")],
    ]
    assert reader.position("a") == (2, 0)


async def test_each_read_continues_behind_the_last_entry() -> None:
    server = ScriptedRedis(
        xrevrange=[[entry(b"5-0", b"old")], []],
        xread=[
            [(b"a", [raw(b"6-0", b"one")])],
            None,
            [(b"b", [raw(b"9-0", b"two")])],
        ],
    )
    reader = listener(server, "a", "b")
    await reader.open()
    await first_of(reader, 2)
    reads = [asked for command, asked in server.asked if command == "xread"]
    assert reads == [
        {"a": "5-0", "b": "0-0"},
        {"a": "6-0", "b": "0-0"},
        {"a": "6-0", "b": "0-0"},
    ]
    assert reader.position("b") == (9, 0)


async def test_entries_that_are_not_ours_are_passed_over() -> None:
    page: list[Raw] = [
        (b"1-0", None),
        (b"2-0", [b"x", b"y", b"event", b"z"]),
        raw(b"3-0", b"ours"),
        (b"4-0", []),
    ]
    server = ScriptedRedis(xrevrange=[[]], xread=[[(b"a", page)]])
    reader = listener(server, "a")
    await reader.open()
    assert await first_of(reader) == [[Entry("a", (3, 0), b"ours")]]
    assert reader.position("a") == (4, 0)


async def test_an_entry_may_hold_several_envelopes() -> None:
    server = ScriptedRedis(xrevrange=[[]], xread=[[(b"a", [raw(b"1-0", b"x", b"y", b"z")])]])
    reader = listener(server, "a")
    await reader.open()
    [batch] = await first_of(reader)
    assert batch == [Entry("a", (1, 0), data) for data in (b"x", b"y", b"z")]


async def lose_link_and_read(
    *, held: bool, end: bytes | None
) -> tuple[list[Entry], list[LostEntries], ScriptedRedis]:
    """Stop at 5-0, lose the link, and come back to a stream that holds 5-0 or not."""
    gaps: list[LostEntries] = []
    server = ScriptedRedis(
        xrevrange=[[entry(b"5-0", b"seen")], [entry(end, b"last")] if end else []],
        xread=[redis.ConnectionError("cut"), [(b"a", [raw(b"9-0", b"next")])]],
        xrange=[
            [entry(b"5-0", b"seen")] if held else [],
            [entry(b"8-0", b"first")] if end == b"8-0" else [],
        ],
    )
    reader = listener(server, "a", gaps=gaps)
    await reader.open()
    [batch] = await first_of(reader)
    assert reader.connected
    return batch, gaps, server


async def test_after_a_lost_link_it_continues_where_it_stopped() -> None:
    batch, gaps, server = await lose_link_and_read(held=True, end=None)
    assert batch == [Entry("a", (9, 0), b"next")]
    assert gaps == []
    assert server.asked[-1] == ("xread", {"a": "5-0"})


async def test_a_place_that_was_trimmed_is_a_gap() -> None:
    _, gaps, server = await lose_link_and_read(held=False, end=b"8-0")
    assert gaps == [LostEntries("a", went_back=False)]
    # Right before the first entry that there is: what is missing will not come.
    assert server.asked[-1] == ("xread", {"a": f"7-{2**63}"})


@pytest.mark.parametrize("end", [None, b"3-0"])
async def test_a_stream_that_was_emptied_is_a_gap_and_read_from_its_start(
    end: bytes | None,
) -> None:
    _, gaps, server = await lose_link_and_read(held=False, end=end)
    assert gaps == [LostEntries("a", went_back=True)]
    assert server.asked[-1] == ("xread", {"a": "0-0"})


async def test_a_stream_that_was_empty_from_the_start_has_no_gap() -> None:
    gaps: list[LostEntries] = []
    server = ScriptedRedis(
        xrevrange=[[]], xread=[redis.ConnectionError("cut"), [(b"a", [raw(b"1-0", b"first")])]]
    )
    reader = listener(server, "a", gaps=gaps)
    await reader.open()
    assert await first_of(reader) == [[Entry("a", (1, 0), b"first")]]
    assert gaps == []


async def test_while_redis_is_away_it_is_not_connected(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("queue_run.channel.listener.FIRST_PAUSE", 0.001)
    server = ScriptedRedis(
        xrevrange=[[]],
        xread=[redis.ConnectionError("cut"), OSError("away"), [(b"a", [raw(b"1-0", b"x")])]],
    )
    reader = listener(server, "a")
    await reader.open()
    await first_of(reader)
    assert reader.connected
    assert caplog.text.count("lost the channel") == 2


async def test_closing_closes_the_link() -> None:
    server = ScriptedRedis()
    await listener(server).close()
    assert server.closed


# When it reads on at once


async def test_after_few_entries_it_reads_on_at_once() -> None:
    few = [raw(b"1-0", b"x")]
    server = ScriptedRedis(xrevrange=[[]], xread=[[(b"a", few)], None, [(b"a", few)]])
    reader = listener(server, "a")
    await reader.open()
    await first_of(reader, 2)
    assert server.conversations == [False] * 3


async def test_after_many_entries_it_lets_more_come() -> None:
    many = [raw(f"{number}-0".encode(), b"x") for number in range(1, BUSY_COUNT + 1)]
    server = ScriptedRedis(xrevrange=[[]], xread=[[(b"a", many)], [(b"a", [raw(b"99-0", b"y")])]])
    reader = listener(server, "a")
    await reader.open()
    await first_of(reader, 2)
    assert server.conversations == [True, False]


async def test_it_waits_for_who_is_not_done_with_a_batch() -> None:
    server = ScriptedRedis(
        xrevrange=[[]], xread=[[(b"a", [raw(b"1-0", b"x")])], [(b"a", [raw(b"2-0", b"y")])]]
    )
    reader = listener(server, "a")
    await reader.open()
    done = asyncio.Event()
    got: list[bytes] = []

    def take(batch: list[Entry]) -> Awaitable[object] | None:
        got.extend(each.data for each in batch)
        return done.wait() if got == [b"x"] else None

    task = asyncio.create_task(reader.run(cast("Take", take)))
    await eventually_async(lambda: got, what="the first entry")
    await asyncio.sleep(0)
    assert len(server.answers["xread"]) == 1
    done.set()
    await eventually_async(lambda: got == [b"x", b"y"], what="the second one")
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("when", ["before the question", "before the answer"])
async def test_after_a_standstill_it_asks_whether_its_place_is_held(when: str) -> None:
    """As if this process had been stopped."""

    class StoppingRedis(ScriptedRedis):
        def _answer(self, command: str, asked: Any) -> Any:
            if command == "xread" and when == "before the answer":
                reader._stepped_at -= 2 * STALLED_MS / 1000
            return super()._answer(command, asked)

    before = when == "before the question"
    server = StoppingRedis(
        xrevrange=[[entry(b"1-0", b"w")], [entry(b"9-0", b"y")]],
        xread=[[(b"a", [raw(b"9-0", b"y")])]] if before else [[(b"a", [raw(b"2-0", b"x")])]],
        xrange=[[], [entry(b"8-0", b"first")]],
    )
    gaps: list[LostEntries] = []
    reader = listener(server, "a", gaps=gaps)
    await reader.open()
    if before:
        reader._stepped_at -= 2 * STALLED_MS / 1000
    async with running(reader):
        await eventually_async(lambda: gaps, what="the gap")
    assert gaps == [LostEntries("a", went_back=False)]
    place = "1-0" if before else "2-0"
    assert ("xrange", ("a", place)) in server.asked


@pytest.mark.parametrize("kept", [{"kept_entries": 2}, {"kept_bytes": 6}])
@pytest.mark.parametrize("held", [True, False])
async def test_as_much_as_a_stream_keeps_is_given_out_when_it_is_known_what_was_before(
    kept: dict[str, int], held: bool
) -> None:
    server = ScriptedRedis(
        xrevrange=[[entry(b"1-0", b"old")]],
        xread=[[(b"a", [raw(b"8-0", b"one"), raw(b"9-0", b"two")])]],
        xrange=[[entry(b"1-0", b"old")] if held else []],
    )
    gaps: list[LostEntries] = []
    reader = listener(server, "a", gaps=gaps, **kept)
    await reader.open()
    async with running(reader) as batches:
        await eventually_async(lambda: batches, what="a batch")
        assert gaps == ([] if held else [LostEntries("a", went_back=False)])
    assert [each.data for each in batches[0]] == [b"one", b"two"]
    assert ("xrange", ("a", "1-0")) in server.asked
    assert reader.position("a") == (9, 0)


async def test_what_cannot_be_proved_is_read_once_more() -> None:
    answer = [(b"a", [raw(b"8-0", b"one"), raw(b"9-0", b"two")])]
    server = ScriptedRedis(
        xrevrange=[[entry(b"1-0", b"old")]],
        xread=[answer, answer],
        xrange=[redis.ConnectionError("gone"), *3 * [[entry(b"1-0", b"old")]]],
    )
    reader = listener(server, "a", kept_entries=2)
    await reader.open()
    assert [each.data for each in (await first_of(reader))[0]] == [b"one", b"two"]
    assert len([asked for asked, _ in server.asked if asked == "xread"]) == 2


async def test_a_doubt_is_looked_into_though_nothing_stood_still() -> None:
    server = ScriptedRedis(
        xrevrange=[[entry(b"9-0", b"w")], [entry(b"2-0", b"x")]],
        xread=[[(b"a", [raw(b"2-0", b"x")])]],
        xrange=[[], [entry(b"2-0", b"x")]],
    )
    gaps: list[LostEntries] = []
    reader = listener(server, "a", gaps=gaps)
    await reader.open()
    reader.doubt()
    async with running(reader):
        await eventually_async(lambda: gaps, what="the gap")
    assert gaps == [LostEntries("a", went_back=True)]


async def test_it_leaves_a_node_that_takes_no_writes(caplog: pytest.LogCaptureFixture) -> None:
    """Reads are answered there, and nothing new would ever come."""
    scripted = ScriptedRedis(xrevrange=[[]], xread=[[[b"s", [raw(b"5-0", b"a")]]]], xrange=[])
    reader = listener(scripted, "s")
    await reader.open()
    scripted.refusals.append(redis.exceptions.ReadOnlyError("You can't write"))
    reader._proved_at -= 2 * PROOF_INTERVAL
    [[found]] = await first_of(reader)
    assert found.data == b"a"
    assert scripted.proofs == ["s:probe", "s:probe", "s:probe"]
    assert "You can't write" in caplog.text
