"""Scripts in Redis: patience while it is away, and with what it answers."""

import threading
import time
from collections.abc import Iterator

import pytest
import redis
from redis.exceptions import ResponseError

from queue_run.errors import JobStoreUnavailable
from queue_run.settings import Settings
from queue_run.storage.script_files import Script
from queue_run.storage.scripts import CONNECTIONS, Store, milliseconds
from tests.processes import RedisServer
from tests.waiting import DEADLINE, eventually

COUNT = Script("count", "-- KEYS: n\n-- ARGV: none\nreturn redis.call('INCR', KEYS[1])")
ECHO = Script("echo", "-- KEYS: none\n-- ARGV: text\nreturn ARGV[1]")
BROKEN = Script("broken", "-- KEYS: none\n-- ARGV: none\nreturn nothing.at_all")
NOW = Script("now", "-- KEYS: none\n-- ARGV: none\n-- INCLUDE: now\nreturn now")


def new_store(url: str, namespace: str, patience: float = DEADLINE) -> Store:
    return Store(Settings(redis_url=url, namespace=namespace), patience=patience)


@pytest.fixture
def store(redis_server: RedisServer, namespace: str) -> Iterator[Store]:
    store = new_store(redis_server.url, namespace)
    yield store
    store.close()


def count(store: Store, key: str = "n") -> int:
    """A script that changes something."""
    answer = store.call(COUNT, [f"{store.keys.namespace}:{key}"], [])
    assert isinstance(answer, int)
    return answer


@pytest.mark.parametrize(
    ("seconds", "expected"), [(1, 1000), (0.0004, 1), (0, 1), (1.2345, 1234), (600.0, 600_000)]
)
def test_scripts_take_milliseconds_and_never_none(seconds: float, expected: int) -> None:
    assert milliseconds(seconds) == expected


def test_a_script_knows_the_time_of_redis(store: Store) -> None:
    before, now = time.time(), store.call(NOW, [], [])
    assert before - 1 <= now / 1000 <= time.time() + 1


def test_a_script_that_redis_does_not_know_is_told_to_it(
    own_redis: RedisServer, namespace: str
) -> None:
    store = new_store(own_redis.url, namespace)
    assert count(store) == 1
    with redis.Redis.from_url(own_redis.url) as client:
        client.script_flush()
    assert count(store) == 2
    store.close()


def test_scripts_of_one_round_trip_answer_in_order(store: Store) -> None:
    answers = store.call_all((ECHO, [], [number]) for number in range(5))
    assert answers == [b"0", b"1", b"2", b"3", b"4"]
    assert store.call_all([]) == []


def test_a_script_is_not_sent_with_too_few_arguments(store: Store) -> None:
    for ask in (store.call, store.call_in_time):
        with pytest.raises(ValueError, match="the script now takes the keys"):
            ask(NOW, [], ["what", "is this"])
    with pytest.raises(ValueError, match="the script echo takes the keys"):
        store.call_all([(ECHO, [], [])])


def test_a_script_with_a_mistake_fails_at_once(store: Store) -> None:
    before = time.monotonic()
    with pytest.raises(JobStoreUnavailable, match="Redis refused: "):
        store.call(BROKEN, [], [])
    assert time.monotonic() - before < DEADLINE / 2
    assert count(store) == 1


def test_without_redis_it_fails_when_the_patience_ends(namespace: str) -> None:
    store = new_store("redis://127.0.0.1:1/0", namespace, patience=0.2)
    before = time.monotonic()
    with pytest.raises(JobStoreUnavailable, match="Redis did not answer: "):
        count(store)
    assert 0.05 < time.monotonic() - before < DEADLINE
    with pytest.raises(redis.ConnectionError):
        store.call_all([(ECHO, [], [1])])
    store.close()


def answered(store: Store) -> tuple[threading.Thread, list[object]]:
    """A call that waits for Redis in another thread, and what came of it."""
    answers: list[object] = []

    def ask() -> None:
        try:
            answers.append(count(store))
        except JobStoreUnavailable as error:
            answers.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    return thread, answers


def test_a_redis_that_was_restarted_is_asked_again(own_redis: RedisServer, namespace: str) -> None:
    store = new_store(own_redis.url, namespace)
    assert count(store) == 1
    own_redis.kill()
    thread, answers = answered(store)
    own_redis.start()
    thread.join(DEADLINE)
    assert answers == [2]
    store.close()


@pytest.mark.parametrize(
    ("begin", "end"),
    [
        (("REPLICAOF", "127.0.0.1", "1"), ("REPLICAOF", "NO", "ONE")),
        (("CONFIG", "SET", "maxmemory", "1"), ("CONFIG", "SET", "maxmemory", "0")),
    ],
    ids=["fails over", "is full"],
)
def test_a_redis_that_takes_no_change_for_a_while_is_asked_again(
    own_redis: RedisServer, namespace: str, begin: tuple[str, ...], end: tuple[str, ...]
) -> None:
    store = new_store(own_redis.url, namespace)
    assert count(store) == 1
    with redis.Redis.from_url(own_redis.url) as client:
        client.execute_command(*begin)
        with pytest.raises(ResponseError):
            client.incr("refused")
        refused = errors_of(client)
        thread, answers = answered(store)
        eventually(lambda: errors_of(client) > refused, what="a refusal")
        client.execute_command(*end)
        thread.join(DEADLINE)
    assert answers == [2]
    store.close()


def errors_of(client: redis.Redis) -> int:
    """Errors that Redis has answered with."""
    errors: dict[str, int] = client.info("stats")
    return errors["total_error_replies"]


def test_more_threads_than_links_take_turns(store: Store) -> None:
    numbers: list[int] = []
    threads = [
        threading.Thread(target=lambda: numbers.extend(count(store) for _ in range(20)))
        for _ in range(2 * CONNECTIONS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    assert sorted(numbers) == list(range(1, 40 * CONNECTIONS + 1))


def test_what_was_closed_is_opened_again_when_it_is_used(store: Store) -> None:
    count(store)
    store.close()
    assert count(store) == 2
