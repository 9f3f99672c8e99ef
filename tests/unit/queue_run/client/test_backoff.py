"""The delays between connections."""

import pytest

from queue_run.client.backoff import CAP, FIRST, Backoff


def longest(count: int) -> list[float]:
    backoff = Backoff(chance=lambda: 1.0)
    return [backoff.delay() for _ in range(count)]


def test_delays_double_up_to_the_cap() -> None:
    assert longest(8) == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, CAP, CAP]


def test_after_days_of_failures_it_is_still_the_cap() -> None:
    assert longest(5000)[-1] == CAP


def test_delays_are_a_random_part_of_that() -> None:
    assert Backoff(chance=lambda: 0.25).delay() == FIRST / 4
    assert Backoff(chance=lambda: 0.0).delay() == 0.0
    assert len({Backoff().delay() for _ in range(100)}) > 90


@pytest.mark.parametrize(("lasted", "next_ceiling"), [(3.9, 4.0), (4.0, FIRST)])
def test_a_connection_that_outlived_the_delay_begins_anew(
    lasted: float, next_ceiling: float
) -> None:
    backoff = Backoff()
    for _ in range(3):
        backoff.delay()
    assert backoff.ceiling == 4.0
    backoff.lasted(lasted)
    assert backoff.ceiling == next_ceiling
