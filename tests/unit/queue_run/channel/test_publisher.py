"""The publisher, beside a Redis whose answers the test chooses. What it promises on real ones is in
tests/contract/test_channel.py."""

import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any, cast

import pytest
import redis
from redis.exceptions import BusyLoadingError, MasterDownError, ReadOnlyError, ResponseError

from queue_run.channel.publisher import (
    BUSY_COUNT,
    BUSY_PAUSE,
    FIELDS_AT_ONCE,
    PIPELINE_SIZE,
    SHARED_BYTES,
    Publisher,
)
from queue_run.channel.receipts import Receipt
from queue_run.contracts.answers import Answer
from queue_run.errors import ChannelUnavailable
from queue_run.storage.links import BlockingLink, Command
from tests.waiting import DEADLINE, eventually

Said = Exception | Sequence[bytes | None] | None

LOADING = BusyLoadingError("Redis is loading the dataset in memory")
WRONG_TYPE = ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value")


class ScriptedRedis:
    """Answers round trips from a list, then with success; keeps the entries of each."""

    def __init__(self) -> None:
        self.script: list[BaseException | Sequence[Said]] = []
        self.round_trips: list[list[bytes]] = []
        self.commands: list[tuple[Any, ...]] = []
        self.closed = False

    def exchange(self, commands: Sequence[Command]) -> list[Any]:
        self.commands += [tuple(command) for command in commands]
        self.round_trips.append([cast("bytes", command[-1]) for command in commands])
        answers = self.script.pop(0) if self.script else [None] * len(commands)
        if isinstance(answers, BaseException):
            raise answers
        success = f"{len(self.round_trips)}-".encode()
        return [answer or success + str(number).encode() for number, answer in enumerate(answers)]

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def server() -> ScriptedRedis:
    return ScriptedRedis()


@pytest.fixture
def publisher(server: ScriptedRedis) -> Iterator[Publisher]:
    publisher = Publisher("redis://127.0.0.1:1/0", timeout=DEADLINE)
    publisher._link = cast("BlockingLink", server)
    yield publisher
    publisher.close()


def test_an_entry_is_written_to_a_capped_stream(
    publisher: Publisher, server: ScriptedRedis
) -> None:
    assert publisher.publish("stream", b"hi", max_entries=100).value.offset == "1-0"
    assert server.commands == [("XADD", "stream", "MAXLEN", "~", 100, "*", "e", b"hi")]


def test_an_entry_for_an_existing_stream_makes_none(
    publisher: Publisher, server: ScriptedRedis
) -> None:
    publisher.publish("stream", b"hi", max_entries=100, create=False)
    assert server.commands == [
        ("XADD", "stream", "NOMKSTREAM", "MAXLEN", "~", 100, "*", "e", b"hi")
    ]


@pytest.mark.parametrize(
    "passing",
    [
        redis.ConnectionError("connection reset"),
        redis.TimeoutError("no answer"),
        OSError("no route to host"),
    ],
    ids=repr,
)
def test_a_round_trip_that_is_lost_is_made_again(
    publisher: Publisher, server: ScriptedRedis, passing: Exception
) -> None:
    server.script = [passing, passing]
    assert publisher.publish("stream", b"hi", max_entries=100).value.offset == "3-0"
    assert server.round_trips == [[b"hi"]] * 3


@pytest.mark.parametrize(
    "passing",
    [
        LOADING,
        # redis-py takes the code off the text.
        ReadOnlyError("You can't write against a read only replica."),
        MasterDownError("Link with MASTER is down"),
        ResponseError("BUSY Redis is busy running a script"),
    ],
    ids=str,
)
def test_a_redis_that_will_soon_answer_is_asked_again(
    publisher: Publisher, server: ScriptedRedis, passing: Exception
) -> None:
    server.script = [[passing]]
    assert publisher.publish("stream", b"hi", max_entries=100).value.offset == "2-0"


def offset_of(sending: Answer[Receipt]) -> str | None:
    receipt = sending.peek()
    return None if receipt is None else receipt.offset


def written(sending: Answer[Receipt]) -> None:
    """Wait until another thread has written it."""
    eventually(lambda: sending.done, what="the end of the write")


def submit_together(publisher: Publisher, *entries: bytes) -> list[Any]:
    """Let the entries go out in one round trip."""
    with publisher._writing:
        return [publisher.submit("stream", each, max_entries=100) for each in entries]


def test_what_follows_a_passing_failure_is_written_again_in_order(
    publisher: Publisher, server: ScriptedRedis
) -> None:
    server.script = [[None, LOADING, None]]
    receipts = submit_together(publisher, b"a", b"b", b"c")
    publisher.flush()
    assert server.round_trips == [[b"a", b"b", b"c"], [b"b", b"c"]]
    assert [offset_of(receipt) for receipt in receipts] == ["1-0", "2-0", "2-1"]


def test_an_entry_that_redis_refuses_fails_alone(
    publisher: Publisher, server: ScriptedRedis
) -> None:
    server.script = [[None, WRONG_TYPE, None]]
    receipts = submit_together(publisher, b"a", b"b", b"c")
    publisher.flush()
    assert [offset_of(receipt) for receipt in receipts] == ["1-0", None, "1-2"]
    with pytest.raises(ChannelUnavailable, match="Redis refused: WRONGTYPE"):
        receipts[1].now()


def test_a_round_trip_carries_so_many_entries_and_no_more(
    publisher: Publisher, server: ScriptedRedis
) -> None:
    submit_together(publisher, *[b"%d" % number for number in range(PIPELINE_SIZE + 1)])
    publisher.flush()
    assert [len(entries) for entries in server.round_trips] == [PIPELINE_SIZE, 1]


def test_an_entry_fails_when_its_time_is_over(server: ScriptedRedis) -> None:
    publisher = Publisher("redis://127.0.0.1:1/0", timeout=0.05)
    publisher._link = cast("BlockingLink", server)
    server.script = [redis.ConnectionError("refused")] * 1000
    with pytest.raises(ChannelUnavailable, match="Redis took no message: refused"):
        publisher.publish("stream", b"late", max_entries=100)
    server.script = []
    publisher.publish("stream", b"next", max_entries=100)
    assert server.round_trips[-1] == [b"next"]
    publisher.close()


def test_a_thread_writes_what_is_submitted(publisher: Publisher, server: ScriptedRedis) -> None:
    written(publisher.submit("stream", b"hi", max_entries=100))
    assert server.round_trips == [[b"hi"]]


def test_while_many_are_submitted_the_thread_waits_a_moment_for_more(
    publisher: Publisher, server: ScriptedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_sleep = time.sleep
    later: list[Any] = []

    def sleep(seconds: float) -> None:
        if seconds == BUSY_PAUSE:
            later.extend(publisher.submit("stream", each, max_entries=9) for each in (b"y", b"z"))
        else:
            real_sleep(seconds)

    monkeypatch.setattr(time, "sleep", sleep)
    many = [b"x"] * BUSY_COUNT
    submit_together(publisher, *many)
    eventually(lambda: len(later) == 2, what="the pause")
    written(later[-1])
    assert server.round_trips == [many, [b"y", b"z"]]


def test_the_thread_outlives_a_failure_that_nobody_foresaw(
    publisher: Publisher, server: ScriptedRedis, caplog: pytest.LogCaptureFixture
) -> None:
    server.script = [LookupError("unforeseen")]
    publisher.submit("stream", b"first", max_entries=100)
    eventually(lambda: "failed unexpectedly" in caplog.text, what="the failure in the log")
    written(publisher.submit("stream", b"second", max_entries=100))
    assert server.round_trips == [[b"first"], [b"second"]]


def test_another_thread_goes_on_for_one_that_has_ended(
    publisher: Publisher, server: ScriptedRedis, caplog: pytest.LogCaptureFixture
) -> None:
    server.script = [SystemExit(0)]
    lost, *left = submit_together(publisher, *[b"x"] * (PIPELINE_SIZE + 1))
    written(left[-1])
    assert lost.done
    assert "the thread queue-run-publisher ended unexpectedly" in caplog.text
    written(publisher.submit("stream", b"later", max_entries=100))
    assert server.round_trips[-2:] == [[b"x"], [b"later"]]


def test_every_entry_has_an_end_even_after_a_failure_that_nobody_foresaw(
    publisher: Publisher, server: ScriptedRedis
) -> None:
    server.script = [LookupError("unforeseen")]
    [receipt] = submit_together(publisher, b"lost")
    eventually(lambda: server.round_trips, what="the round trip")
    publisher.close()
    assert receipt.done


def test_closing_writes_what_waits_and_ends_the_thread(
    publisher: Publisher, server: ScriptedRedis
) -> None:
    receipts = submit_together(publisher, b"a", b"b")
    publisher.close()
    assert all(receipt.done for receipt in receipts)
    assert server.closed
    assert "queue-run-publisher" not in {thread.name for thread in threading.enumerate()}


def test_a_forked_child_leaves_its_parents_link_alone(
    publisher: Publisher, server: ScriptedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    with publisher._writing:
        publisher.submit("stream", b"the parent's", max_entries=100)
        with monkeypatch.context() as patched:
            patched.setattr("os.getpid", lambda: 1)
            publisher.close()
        assert not server.closed
        assert server.round_trips == []


def test_closing_twice_is_harmless(publisher: Publisher) -> None:
    publisher.close()
    publisher.close()


# What is counted in the same round trip


def test_fields_are_looked_for_just_before_the_entry_is_written(
    publisher: Publisher, server: ScriptedRedis
) -> None:
    server.script = [[[b"1", None, b"2"], None]]
    receipt = publisher.publish(
        "stream", b"hi", max_entries=9, counted=("hash", ["a", "b", "c"])
    ).value
    assert receipt.online == 2
    assert receipt.offset == "1-1"
    assert server.commands == [
        ("HMGET", "hash", "a", "b", "c"),
        ("XADD", "stream", "MAXLEN", "~", 9, "*", "e", b"hi"),
    ]


def test_an_entry_for_which_nothing_is_counted_has_no_count(
    publisher: Publisher, server: ScriptedRedis
) -> None:
    assert publisher.publish("stream", b"hi", max_entries=9).value.online is None


def test_very_many_fields_are_looked_for_in_parts(
    publisher: Publisher, server: ScriptedRedis
) -> None:
    fields = [str(number) for number in range(FIELDS_AT_ONCE + 1)]
    server.script = [[[b"1"] * FIELDS_AT_ONCE, [b"1"], None]]
    receipt = publisher.publish("stream", b"hi", max_entries=9, counted=("hash", fields)).value
    assert receipt.online == len(fields)
    assert [len(command) for command in server.commands] == [FIELDS_AT_ONCE + 2, 3, 8]


def test_a_count_that_fails_is_no_failure_to_write(
    publisher: Publisher, server: ScriptedRedis
) -> None:
    server.script = [[WRONG_TYPE, None]]
    receipt = publisher.publish("stream", b"hi", max_entries=9, counted=("hash", ["a"])).value
    assert (receipt.online, receipt.offset) == (None, "1-1")


def test_a_write_that_is_repeated_counts_again(publisher: Publisher, server: ScriptedRedis) -> None:
    server.script = [ConnectionError("cut"), [[b"1"], LOADING], [[None], None]]
    receipt = publisher.publish("stream", b"hi", max_entries=9, counted=("hash", ["a"])).value
    assert (receipt.online, receipt.offset) == (0, "3-1")


def test_each_entry_of_a_round_trip_has_its_own_count(
    publisher: Publisher, server: ScriptedRedis
) -> None:
    server.script = [[[b"1"], None, None, [None], None]]
    with publisher._writing:
        receipts = [
            publisher.submit("stream", b"x", max_entries=9, counted=counted)
            for counted in (("hash", ["a"]), None, ("hash", ["b"]))
        ]
    publisher.flush()
    assert [receipt.now().online for receipt in receipts] == [1, None, 0]
    assert [offset_of(receipt) for receipt in receipts] == ["1-1", "1-2", "1-4"]


# Entries that are shared


def share(publisher: Publisher, *entries: tuple[str, bytes]) -> list[Any]:
    with publisher._writing:
        return [
            publisher.submit(stream, each, max_entries=9, create=False, share=True)
            for stream, each in entries
        ]


def test_what_may_share_an_entry_of_its_stream_does_in_order(
    publisher: Publisher, server: ScriptedRedis
) -> None:
    receipts = share(publisher, ("a", b"1"), ("b", b"2"), ("a", b"3"), ("a", b"4"))
    publisher.flush()
    options = ("NOMKSTREAM", "MAXLEN", "~", 9, "*")
    assert server.commands == [
        ("XADD", "a", *options, "e", b"1", "e1", b"3", "e2", b"4"),
        ("XADD", "b", *options, "e", b"2"),
    ]
    assert [offset_of(receipt) for receipt in receipts] == ["1-0", "1-1", "1-0", "1-0"]


def test_what_needs_an_entry_of_its_own_has_one(
    publisher: Publisher, server: ScriptedRedis
) -> None:
    submit_together(publisher, b"a", b"b")
    publisher.flush()
    assert server.round_trips == [[b"a", b"b"]]


def test_a_large_entry_is_shared_with_nothing_more(
    publisher: Publisher, server: ScriptedRedis
) -> None:
    share(publisher, ("a", b"x" * SHARED_BYTES), ("a", b"y"), ("a", b"z"))
    publisher.flush()
    assert [len(command) for command in server.commands] == [9, 11]


def test_a_shared_entry_that_fails_fails_for_all(
    publisher: Publisher, server: ScriptedRedis
) -> None:
    server.script = [[WRONG_TYPE, None]]
    receipts = share(publisher, ("a", b"1"), ("b", b"2"), ("a", b"3"))
    publisher.flush()
    for receipt in (receipts[0], receipts[2]):
        with pytest.raises(ChannelUnavailable, match="WRONGTYPE"):
            receipt.now()
    assert receipts[1].now().offset == "1-1"


def test_a_shared_entry_is_written_again_whole(publisher: Publisher, server: ScriptedRedis) -> None:
    server.script = [[None, LOADING]]
    share(publisher, ("b", b"1"), ("a", b"2"), ("a", b"3"))
    publisher.flush()
    assert server.commands[2] == server.commands[1]
