"""What a process knows of Redis' clock."""

import os
import time

import pytest
import redis

from queue_run.storage.clock import Clock


def learn(clock: Clock, redis_time: float, *, took: float = 0.0) -> None:
    """A measurement that has just ended."""
    ended = time.monotonic()
    seconds = int(redis_time)
    clock.learn((seconds, round((redis_time - seconds) * 1e6)), ended - took, ended)


def ahead_of_redis(clock: Clock) -> float:
    return time.time() - clock.now()


def test_before_the_first_measurement_it_is_the_clock_of_this_machine() -> None:
    clock = Clock()
    assert not clock.measured
    assert ahead_of_redis(clock) == pytest.approx(0, abs=0.5)
    assert clock.difference() == 0
    assert clock.from_system(1.5) == 1.5


@pytest.mark.parametrize("off", [20, 3600, -3600])
def test_it_says_redis_time(off: float) -> None:
    clock = Clock()
    learn(clock, time.time() - off)
    assert ahead_of_redis(clock) == pytest.approx(off, abs=0.5)
    assert clock.difference() == pytest.approx(off, abs=0.5)
    assert clock.at(time.monotonic() - 10) == pytest.approx(clock.now() - 10, abs=0.5)
    assert clock.from_system(time.time() + 5) == pytest.approx(clock.now() + 5, abs=0.5)


def test_it_is_in_the_middle_of_the_round_trip_at_first() -> None:
    clock = Clock()
    learn(clock, time.time() - 100, took=10)
    # Redis has read its clock 5 seconds ago, as far as anybody can know.
    assert ahead_of_redis(clock) == pytest.approx(95, abs=0.5)


def test_a_measurement_that_took_long_makes_a_good_one_no_worse() -> None:
    clock = Clock()
    learn(clock, time.time() - 100)
    learn(clock, time.time() - 104, took=8)
    assert ahead_of_redis(clock) == pytest.approx(100, abs=0.5)


def test_a_good_measurement_mends_one_that_took_long() -> None:
    clock = Clock()
    learn(clock, time.time() - 100, took=10)
    learn(clock, time.time() - 100)
    assert ahead_of_redis(clock) == pytest.approx(100, abs=0.5)


def test_a_clock_of_redis_that_was_set_is_followed_at_once() -> None:
    clock = Clock()
    learn(clock, time.time())
    learn(clock, time.time() + 30)
    assert ahead_of_redis(clock) == pytest.approx(-30, abs=0.5)


def test_what_a_long_round_trip_explains_is_no_difference() -> None:
    clock = Clock()
    learn(clock, time.time() - 3, took=8)
    assert clock.difference() == 0


def test_it_asks_a_real_redis(redis_url: str) -> None:
    clock = Clock()
    assert clock.is_older_than(1000)
    with redis.Redis.from_url(redis_url) as client:
        clock.measure(client.time)
    assert clock.measured
    assert not clock.is_older_than(1000)
    assert ahead_of_redis(clock) == pytest.approx(0, abs=1)


async def test_it_asks_on_an_event_loop() -> None:
    clock = Clock()

    async def ask() -> tuple[int, int]:
        return int(time.time()) - 50, 0

    await clock.measure_async(ask)
    assert ahead_of_redis(clock) == pytest.approx(50, abs=2)


def test_a_question_without_an_answer_counts_as_a_try() -> None:
    clock = Clock()

    def ask() -> tuple[int, int]:
        raise ConnectionError("away")

    with pytest.raises(ConnectionError):
        clock.measure(ask)
    assert not clock.measured
    assert not clock.is_older_than(1000)


def test_a_forked_child_hears_of_what_its_parent_measures() -> None:
    clock = Clock()
    ready, go = os.pipe()
    said, says = os.pipe()
    child = os.fork()
    if child == 0:
        os.read(ready, 1)
        os.write(says, f"{ahead_of_redis(clock):.0f}".encode())
        os._exit(0)
    learn(clock, time.time() - 500)
    os.write(go, b"x")
    assert os.read(said, 10) == b"500"
    os.waitpid(child, 0)
    for each in (ready, go, said, says):
        os.close(each)
