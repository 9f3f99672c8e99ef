"""From costs to machines."""

import pytest

from benchmarks.arithmetic import BUSY, Costs, line, plan

COSTS = Costs(
    memory=4096,
    push=100e-6,
    delivery=10e-6,
    idle_entry=20e-6,
    redis_entry=20e-6,
    redis_reader=5e-6,
)


def test_a_line_goes_through_its_points() -> None:
    assert line([1, 2, 4], [3, 5, 9]) == pytest.approx((1, 2))


def test_little_load_needs_one_redis() -> None:
    found = plan(COSTS, connections=100_000, per_server=15_000, per_user_hour=6)
    assert (found.instances, found.servers) == (1, 7)
    assert found.memory == 100_000 * 4096


def test_much_load_is_split_until_no_core_is_too_busy() -> None:
    found = plan(COSTS, connections=1_000_000, per_server=15_000, per_user_hour=60)
    assert found.instances > 1
    assert found.redis_cores / found.instances <= BUSY
    assert found.server_cores / found.servers <= BUSY


def test_pushes_come_from_all_connections() -> None:
    found = plan(COSTS, connections=3600, per_server=15_000, per_user_hour=2)
    assert found.pushes == 2
