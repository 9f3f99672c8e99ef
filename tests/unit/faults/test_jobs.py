"""What the laboratory says of jobs, from what was pushed and what ran."""

import pytest

from tests.faults.jobs import judge_jobs

PUSHED = [("plain", 0), ("ordered", 1), ("retried", 2), ("plain", 3), ("ordered", 4)]
RUNS = ["plain 0 1", "ordered 1 1", "retried 2 1", "plain 3 1", "ordered 4 1", "retried 2 2"]


def test_all_that_was_pushed_has_run() -> None:
    verdict = judge_jobs(PUSHED, 0, RUNS)
    assert verdict.clean
    assert verdict.run_again == 0


@pytest.mark.parametrize("missing", RUNS)
def test_a_job_that_has_not_run_to_its_end_is_lost(missing: str) -> None:
    verdict = judge_jobs(PUSHED, 0, [run for run in RUNS if run != missing])
    assert verdict.lost == 1
    assert not verdict.clean


def test_a_group_that_ran_in_another_order_is_told() -> None:
    swapped = [RUNS[4], *RUNS[:4], RUNS[5]]
    verdict = judge_jobs(PUSHED, 0, swapped)
    assert verdict.out_of_order == 1
    assert not verdict.clean


def test_a_job_that_ran_again_is_told_and_is_no_fault() -> None:
    verdict = judge_jobs(PUSHED, 2, [*RUNS, RUNS[1]])
    assert verdict.clean
    assert (verdict.run_again, verdict.failed) == (1, 2)
