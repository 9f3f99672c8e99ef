"""When a program that ended starts again."""

import signal

import pytest

from queue_run.cli.supervision.policy import (
    CANNOT_WORK,
    FIRST_DELAY,
    MAX_DELAY,
    STABLE_AFTER,
    RestartPolicy,
    describe_exit,
)


def test_delays_double_up_to_the_limit() -> None:
    policy = RestartPolicy()
    delays = [policy.delay(1, ran_for=0) for _ in range(8)]
    assert delays == [0.5, 1.0, 2.0, 4.0, 8.0, MAX_DELAY, MAX_DELAY, MAX_DELAY]


def test_the_delay_stays_at_the_limit_however_often_a_program_fails() -> None:
    policy = RestartPolicy()
    delays = [policy.delay(1, ran_for=0) for _ in range(5000)]
    assert delays[-1] == MAX_DELAY


def test_a_program_that_ran_well_begins_with_the_first_delay() -> None:
    policy = RestartPolicy()
    for _ in range(5):
        policy.delay(1, ran_for=0)
    assert policy.delay(1, ran_for=STABLE_AFTER) == FIRST_DELAY


def test_a_change_begins_with_the_first_delay() -> None:
    policy = RestartPolicy()
    for _ in range(5):
        policy.delay(-signal.SIGKILL, ran_for=0)
    policy.reset()
    assert policy.delay(-signal.SIGKILL, ran_for=0) == FIRST_DELAY


def test_an_application_that_cannot_be_loaded_waits_for_a_change() -> None:
    policy = RestartPolicy(awaits_change=True)
    assert policy.delay(CANNOT_WORK, ran_for=100) is None
    assert policy.delay(1, ran_for=0) == FIRST_DELAY


def test_a_program_without_the_application_starts_again_whatever_its_exit_code() -> None:
    assert RestartPolicy().delay(CANNOT_WORK, ran_for=0) == FIRST_DELAY


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (0, "exit code 0"),
        (2, "exit code 2"),
        (-signal.SIGKILL, "killed by SIGKILL"),
        (-200, "killed by signal 200"),
    ],
)
def test_an_exit_is_described_in_words(status: int, text: str) -> None:
    assert describe_exit(status) == text
