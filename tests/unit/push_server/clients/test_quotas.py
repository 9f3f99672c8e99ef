"""How much one user or one address may have."""

from push_server.clients.quotas import MAX_RATES, Rates, Tally


def test_nobody_takes_more_than_the_limit() -> None:
    tally = Tally(2)
    for _ in range(2):
        assert not tally.full("ann")
        tally.take("ann")
    assert tally.full("ann")
    assert not tally.full("bob")
    tally.give_back("ann")
    assert not tally.full("ann")


def test_who_has_nothing_takes_no_memory() -> None:
    tally = Tally(2)
    for _ in range(2):
        tally.take("ann")
    tally.give_back("ann", 2)
    # To give back twice is harmless.
    tally.give_back("ann")
    assert len(tally) == 0
    assert not tally.full("ann")


def test_without_a_limit_nothing_is_counted() -> None:
    tally = Tally(0)
    for _ in range(100):
        assert not tally.full("ann")
        tally.take("ann")
    assert len(tally) == 0


def test_a_rate_is_for_long_and_twice_a_seconds_worth_comes_at_once() -> None:
    rates = Rates(5)
    assert [rates.admits("ann", 0.0) for _ in range(12)] == [True] * 10 + [False] * 2
    assert rates.admits("bob", 0.0)
    # Who was refused has lost nothing by that.
    assert [rates.admits("ann", 0.2) for _ in range(2)] == [True, False]
    assert [rates.admits("ann", 100.0) for _ in range(11)] == [True] * 10 + [False]


def test_a_slow_rate_admits_one_at_once() -> None:
    rates = Rates(0.1)
    assert [rates.admits("ann", 0.0) for _ in range(2)] == [True, False]
    assert not rates.admits("ann", 9.0)
    assert rates.admits("ann", 10.1)


def test_without_a_rate_everybody_is_admitted() -> None:
    rates = Rates(0)
    assert all(rates.admits("ann", 0.0) for _ in range(1000))
    assert not rates._tokens


def test_rates_of_many_take_no_more_memory() -> None:
    rates = Rates(1)
    for number in range(MAX_RATES + 50):
        rates.admits(number, 0.0)
    assert len(rates._tokens) == MAX_RATES
