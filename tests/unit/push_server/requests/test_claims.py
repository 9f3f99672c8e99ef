"""Claims of clients' requests, on every Redis they run on."""

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from push_server.requests.claims import ClaimAnswer, Claiming, Claims, Holder
from queue_run.contracts.envelopes import Inbound, Turn
from queue_run.contracts.ids import ConnectionId, RequestId
from queue_run.contracts.keys import Keys
from queue_run.errors import InfrastructureError, JobStoreUnavailable
from queue_run.settings import Settings
from queue_run.storage.clock import Clock
from queue_run.storage.scripts import Store
from tests.processes import RedisServer
from tests.waiting import eventually_async

LONG = 600.0


@pytest.fixture
def store(redis_url: str, namespace: str) -> Iterator[Store]:
    store = Store(Settings(redis_url=redis_url, namespace=namespace), patience=5.0)
    yield store
    store.close()


@pytest.fixture
def claims(store: Store) -> Claims:
    return Claims(store)


@pytest.fixture
def keys(namespace: str) -> Keys:
    return Keys(namespace)


def named(keys: Keys, *pairs: tuple[str, str]) -> list[tuple[str, RequestId]]:
    """Requests by what their client calls them, and their ids here."""
    return [(keys.claim("session", name), RequestId(request)) for name, request in pairs]


def summary(answers: Sequence[ClaimAnswer]) -> list[tuple[int, str | None]]:
    return [(each.taken, each.holder.request if each.holder else None) for each in answers]


# The script


def test_what_nobody_has_taken_is_claimed(claims: Claims, keys: Keys) -> None:
    turns = [named(keys, ("1", "a-1-1"), ("2", "a-1-2")), named(keys, ('"1"', "a-2-1"))]
    assert summary(claims.take(turns, lasts=LONG)) == [(2, None), (1, None)]


def test_a_request_that_was_claimed_is_not_claimed_again(claims: Claims, keys: Keys) -> None:
    claims.take([named(keys, ("1", "a-1-1"))], lasts=LONG)
    again = claims.take([named(keys, ("1", "b-9-1"))], lasts=LONG)
    assert summary(again) == [(0, "a-1-1")]


def test_a_turn_is_claimed_up_to_the_first_that_somebody_has(
    claims: Claims, keys: Keys, store: Store
) -> None:
    claims.take([named(keys, ("2", "a-1-2"))], lasts=LONG)
    turn = named(keys, ("1", "b-1-1"), ("2", "b-1-2"), ("3", "b-1-3"))
    assert summary(claims.take([turn], lasts=LONG)) == [(1, "a-1-2")]
    # What follows is free: it will be sent behind the one that waits.
    assert not store.client.exists(keys.claim("session", "3"))
    assert summary(claims.take([turn[2:]], lasts=LONG)) == [(1, None)]


def test_turns_of_one_batch_are_independent(claims: Claims, keys: Keys) -> None:
    claims.take([named(keys, ("x", "a-1-1"))], lasts=LONG)
    turns = [
        named(keys, ("1", "b-1-1"), ("2", "b-1-2")),
        named(keys, ("x", "b-2-1"), ("y", "b-2-2")),
        named(keys, ("3", "b-3-1")),
        # The same client, which was quicker than its first socket's end.
        named(keys, ("1", "b-4-1")),
    ]
    assert summary(claims.take(turns, lasts=LONG)) == [
        (2, None),
        (0, "a-1-1"),
        (1, None),
        (0, "b-1-1"),
    ]


def test_a_batch_whose_answer_was_lost_may_be_claimed_once_more(claims: Claims, keys: Keys) -> None:
    turns = [named(keys, ("1", "a-1-1"), ("2", "a-1-2")), named(keys, ("3", "a-2-1"))]
    first = claims.take(turns, lasts=LONG)
    assert claims.take(turns, lasts=LONG) == first


def test_sessions_do_not_share_names(claims: Claims, keys: Keys) -> None:
    one = [(keys.claim("one", "1"), RequestId("a-1-1"))]
    two = [(keys.claim("two", "1"), RequestId("a-2-1"))]
    assert summary(claims.take([one, two], lasts=LONG)) == [(1, None), (1, None)]


def test_numbers_and_texts_are_different_names(claims: Claims, keys: Keys) -> None:
    turn = named(keys, ("7", "a-1-1"), ('"7"', "a-1-2"))
    assert summary(claims.take([turn], lasts=LONG)) == [(2, None)]


def test_a_claim_tells_when_it_was_made_by_the_clock_of_redis(
    claims: Claims, keys: Keys, store: Store
) -> None:
    def now() -> int:
        entry: Any = store.client.xadd(f"{keys.namespace}:clock", {"x": "x"})
        return int(entry.partition(b"-")[0])

    before = now()
    claims.take([named(keys, ("1", "a-1-1"))], lasts=LONG)
    after = now()
    [answer] = claims.take([named(keys, ("1", "b-1-1"))], lasts=LONG)
    assert answer.holder is not None
    assert before <= answer.holder.since <= after


def test_a_claim_lasts_as_long_as_was_said(claims: Claims, keys: Keys, store: Store) -> None:
    claims.take([named(keys, ("1", "a-1-1"))], lasts=LONG)
    left = store.client.pttl(keys.claim("session", "1"))
    assert 0 < left <= LONG * 1000
    assert left > (LONG - 60) * 1000


@pytest.mark.parametrize("name", ['"ü"', '"a b"', '"\\""', "-1", '":"', '"\\u0000"'])
def test_names_are_of_any_kind(claims: Claims, keys: Keys, name: str) -> None:
    assert summary(claims.take([named(keys, (name, "a-1-1"))], lasts=LONG)) == [(1, None)]
    assert summary(claims.take([named(keys, (name, "b-1-1"))], lasts=LONG)) == [(0, "a-1-1")]


def test_of_many_who_claim_the_same_at_once_one_has_it(claims: Claims, keys: Keys) -> None:
    answers: list[ClaimAnswer] = []

    def claim(server: int) -> None:
        answers.extend(claims.take([named(keys, ("1", f"s{server}-1-1"))], lasts=LONG))

    threads = [threading.Thread(target=claim, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(each.taken for each in answers) == [0] * 11 + [1]
    assert len({each.holder.request for each in answers if each.holder}) == 1


def test_without_redis_nothing_is_claimed_and_the_dispatcher_tries_again(keys: Keys) -> None:
    store = Store(
        Settings(redis_url="redis://127.0.0.1:1/0", namespace=keys.namespace), patience=0.05
    )
    with pytest.raises(JobStoreUnavailable):
        Claims(store).take([named(keys, ("1", "a-1-1"))], lasts=LONG)
    store.close()
    # What the dispatcher takes for a failure that passes.
    assert issubclass(JobStoreUnavailable, InfrastructureError)


def test_a_restart_of_redis_only_takes_time(own_redis: RedisServer, keys: Keys) -> None:
    store = Store(Settings(redis_url=own_redis.url, namespace=keys.namespace), patience=60.0)
    claims = Claims(store)
    claims.take([named(keys, ("1", "a-1-1"))], lasts=LONG)
    own_redis.kill()
    own_redis.start()
    turns = [named(keys, ("1", "b-1-1")), named(keys, ("2", "b-2-1"))]
    assert summary(claims.take(turns, lasts=LONG)) == [(0, "a-1-1"), (1, None)]
    store.close()


# On behalf of the dispatcher


def turn(server: str, *requests: str, expires_in: float = 65.0) -> Turn:
    return Turn(
        connection=ConnectionId(f"{server}-1"),
        path="/",
        session="session",
        requests=[Inbound(id=RequestId(f"{server}-1-{each}"), text="1") for each in requests],
        expires=time.time() + expires_in,
    )


async def test_what_was_sent_before_is_told_on_the_loop(claims: Claims, keys: Keys) -> None:
    told: list[tuple[Turn, int, Holder, int]] = []
    claiming = Claiming(claims, keys.claim, session_time=60, clock=Clock())
    claiming.start(
        lambda turn, number, holder: told.append((turn, number, holder, threading.get_ident()))
    )
    first, second = turn("a", "2"), turn("b", "1", "2", "3")
    assert await asyncio.to_thread(claiming, [(first, ["2"])]) == [1]
    assert await asyncio.to_thread(claiming, [(second, ["1", "2", "3"])]) == [1]
    await eventually_async(lambda: told, what="the turn that was sent before")
    [(which, number, holder, thread)] = told
    assert (which, number, holder.request) == (second, 1, "a-1-2")
    assert thread == threading.get_ident()


async def test_a_claim_outlives_its_request_by_the_time_of_a_session_twice(
    claims: Claims, keys: Keys, store: Store
) -> None:
    claiming = Claiming(claims, keys.claim, session_time=100, clock=Clock())
    claiming([(turn("a", "1", expires_in=50), ["1"]), (turn("a", "2", expires_in=500), ["2"])])
    for name in ("1", "2"):
        left = store.client.pttl(keys.claim("session", name)) / 1000
        assert 640 < left <= 700


async def test_before_the_start_there_is_nobody_to_tell(claims: Claims, keys: Keys) -> None:
    claiming = Claiming(claims, keys.claim, session_time=60, clock=Clock())
    assert claiming([(turn("a", "1"), ["1"]), (turn("b", "1"), ["1"])]) == [1, 0]


async def test_a_session_of_which_redis_does_not_know_yet_lives_with_its_first_request(
    claims: Claims, keys: Keys, store: Store
) -> None:
    """Its push server may be killed before it has written that."""
    untold = {"session": (keys.session("session"), "17-3")}
    claiming = Claiming(claims, keys.claim, session_time=100, clock=Clock(), untold=untold.get)
    turns = [(turn("a", "1", "2"), ["1", "2"]), (turn("b", "2", "3"), ["2", "3"])]
    assert claiming(turns) == [2, 0]
    assert store.client.get(keys.session("session")) == b"17-3"
    assert 190_000 < store.client.pttl(keys.session("session")) <= 200_000
    untold.clear()
    store.client.delete(keys.session("session"))
    assert claiming([(turn("a", "4"), ["4"])]) == [1]
    assert not store.client.exists(keys.session("session"))
