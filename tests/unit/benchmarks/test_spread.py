"""Medians, quantiles and ratios."""

import pytest

from benchmarks.spread import Spread, quantile, ratios, spread


def test_a_spread_has_the_median_and_both_ends() -> None:
    assert spread([3, 1, 2]) == Spread(2, 1, 3)


def test_ratios_are_taken_round_by_round() -> None:
    assert ratios([1, 2, 30], [2, 4, 10]) == Spread(0.5, 0.5, 3)


def test_rounds_without_a_partner_are_an_error() -> None:
    with pytest.raises(ValueError, match="shorter"):
        ratios([1, 2], [1])


@pytest.mark.parametrize(
    ("share", "value"), [(0.0, 1), (0.01, 1), (0.5, 50), (0.99, 99), (1.0, 100)]
)
def test_a_quantile_is_one_of_the_values(share: float, value: float) -> None:
    assert quantile(range(100, 0, -1), share) == value


def test_a_quantile_of_one_value_is_that_value() -> None:
    assert quantile([7], 0.99) == 7


def test_nothing_has_no_quantile() -> None:
    with pytest.raises(ValueError, match="no quantile"):
        quantile([], 0.5)
