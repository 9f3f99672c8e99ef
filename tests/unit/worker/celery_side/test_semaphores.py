"""What needs semaphores, where there are some; a system without is an acceptance test."""

from types import SimpleNamespace

import pytest

from worker.celery_side import semaphores


@pytest.mark.parametrize(("pool", "beat"), [("prefork", False), ("threads", True), ("solo", False)])
def test_a_system_with_semaphores_is_no_problem(pool: str, beat: bool) -> None:
    worker = SimpleNamespace(pool_cls=pool, options={"beat": beat})
    assert semaphores.problem(worker) == ""
