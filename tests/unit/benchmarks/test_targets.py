"""What counts as met."""

from benchmarks.targets import TARGETS, Target, target_of


def test_less_meets_a_target_and_so_does_the_same() -> None:
    target = Target(work="x", figure="cpu", target=0.08, stretch=0.05)
    assert target.met(0.08)
    assert not target.met(0.081)
    assert target.stretched(0.05)
    assert not target.stretched(0.06)


def test_where_more_is_better_more_meets_it() -> None:
    target = Target(work="x", figure="rate", target=10, stretch=15, more_is_better=True)
    assert target.met(12)
    assert not target.met(9)
    assert not target.stretched(12)
    assert target.text == "≥ 10 (15)"


def test_without_a_stretch_nothing_is_stretched() -> None:
    assert not Target(work="x", figure="cpu", target=1).stretched(0)


def test_each_figure_has_one_target() -> None:
    named = [(target.work, target.figure) for target in TARGETS]
    assert len(named) == len(set(named))


def test_a_figure_without_a_target_has_none() -> None:
    assert target_of("round-trip", "p99") is None
    found = target_of("round-trip", "cpu")
    assert found is not None
    assert found.target == 0.08
