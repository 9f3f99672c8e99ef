"""Medians, quantiles and spread: noise on a shared machine is told, not hidden."""

import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Spread:
    """What several rounds have given."""

    median: float
    low: float
    high: float


def spread(values: Iterable[float]) -> Spread:
    given = list(values)
    return Spread(statistics.median(given), min(given), max(given))


def ratios(ours: Iterable[float], theirs: Iterable[float]) -> Spread:
    """Ratio of each round of ours to theirs beside it."""
    return spread(a / b for a, b in zip(ours, theirs, strict=True))


def quantile(values: Iterable[float], share: float) -> float:
    """The smallest value that is not below this share of the values."""
    ordered = sorted(values)
    if not ordered:
        raise ValueError("no values, no quantile")
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
