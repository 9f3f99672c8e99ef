"""How fast a client may send."""

import pytest

from push_server.transport.pace import Pace


def test_two_seconds_worth_may_come_at_once() -> None:
    pace = Pace(10, 0.0)
    assert [pace.take(0.0) for _ in range(20)] == [0.0] * 20
    assert pace.take(0.0) > 0


def test_beyond_that_the_pause_is_what_the_rate_asks_for() -> None:
    pace = Pace(10, 0.0)
    for _ in range(20):
        pace.take(0.0)
    assert pace.take(0.0) == pytest.approx(0.1)
    # Who waits as told may send one more, and waits again.
    assert pace.take(0.1) == pytest.approx(0.1)
    assert pace.take(0.2) == pytest.approx(0.1)


def test_who_sends_within_the_rate_never_waits() -> None:
    pace = Pace(10, 0.0)
    assert {pace.take(n * 0.1) for n in range(1, 1000)} == {0.0}


def test_a_long_silence_does_not_allow_more_than_two_seconds_worth() -> None:
    pace = Pace(10, 0.0)
    assert [pace.take(1_000_000.0) for _ in range(20)] == [0.0] * 20
    assert pace.take(1_000_000.0) > 0


def test_a_rate_below_one_lets_one_message_pass_and_makes_the_next_wait() -> None:
    pace = Pace(0.5, 0.0)
    assert pace.take(0.0) == 0.0
    assert pace.take(0.0) == pytest.approx(2.0)


def test_the_clock_may_begin_anywhere() -> None:
    pace = Pace(1, 5000.0)
    assert [pace.take(5000.0) for _ in range(3)] == [0.0, 0.0, pytest.approx(1.0)]


def test_what_costs_less_than_a_message_may_come_more_often() -> None:
    pace = Pace(10, 0.0)
    assert [pace.take(0.0, 0.25) for _ in range(80)] == [0.0] * 80
    assert pace.take(0.0, 0.25) == pytest.approx(0.025)
