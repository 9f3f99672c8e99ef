"""Growth is told from noise."""

import pytest

from tests.faults.scenarios.soak import Series, slope


def test_the_slope_of_a_straight_line_is_its_own() -> None:
    assert slope([0, 1, 2, 3], [5, 7, 9, 11]) == pytest.approx(2)


def test_the_slope_of_one_moment_is_none() -> None:
    assert slope([1, 1], [5, 9]) == 0


def series(*values: float) -> Series:
    made = Series("Redis", "memory MiB")
    for time, value in enumerate(values):
        made.add(time, value)
    return made


def test_what_wavers_is_steady() -> None:
    assert series(*[100, 103] * 20).steady


def test_what_grows_is_not_steady() -> None:
    assert not series(*[100 + 2 * n for n in range(40)]).steady


def test_growth_in_the_first_part_is_warming_up() -> None:
    assert series(*[100 + 5 * min(n, 10) for n in range(40)]).steady
