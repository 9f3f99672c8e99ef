"""`Config`: what a file may say about its handler."""

import math
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from queue_run import Config
from queue_run.application.config import JOB_ONLY, SOCKET_ONLY
from queue_run.contracts.keys import JOBS, RESERVED


def test_nothing_is_said_by_default() -> None:
    assert set(msgspec.structs.astuple(Config())) == {None}


@pytest.mark.parametrize("timeout", [0.5, 1, 300])
def test_a_timeout_is_a_number_of_seconds(timeout: float) -> None:
    assert Config(timeout=timeout).timeout == timeout


@pytest.mark.parametrize("timeout", [0, -1, math.nan, math.inf])
def test_a_timeout_that_never_or_always_ends_is_refused(timeout: float) -> None:
    with pytest.raises(ValueError, match="timeout is a number of seconds above 0, not "):
        Config(timeout=timeout)


@pytest.mark.parametrize("name", ["auto", "json", "text", "binary"])
def test_the_types_of_data(name: Any) -> None:
    assert Config(type=name).type == name


@pytest.mark.parametrize("name", ["JSON", "bytes", "", 1])
def test_another_type_is_refused_with_those_that_exist(name: Any) -> None:
    with pytest.raises(ValueError, match='"auto", "json", "text" or "binary", not '):
        Config(type=name)


@pytest.mark.parametrize("retries", [0, 1, 100])
def test_retries_are_counted(retries: int) -> None:
    assert Config(retries=retries).retries == retries


@pytest.mark.parametrize("retries", [-1, 1.5, True, "3"])
def test_retries_that_cannot_be_counted_are_refused(retries: Any) -> None:
    with pytest.raises(ValueError, match="retries is a whole number from 0, not "):
        Config(retries=retries)


@pytest.mark.parametrize("backoff", [0, -1, math.nan, math.inf])
def test_a_backoff_is_a_number_of_seconds(backoff: float) -> None:
    assert Config(backoff=0.5).backoff == 0.5
    with pytest.raises(ValueError, match="backoff is a number of seconds above 0, not "):
        Config(backoff=backoff)


@pytest.mark.parametrize("name", ["reports", "cpu-bound", "a_1"])
def test_a_celery_queue_has_a_name(name: str) -> None:
    assert Config(celery_queue=name).celery_queue == name


@pytest.mark.parametrize("name", ["", "a.b", "a b", "-", "*", 7, "a:b", "a\x06\x163", "a" * 41])
def test_a_celery_queue_whose_name_would_not_do_is_refused(name: Any) -> None:
    with pytest.raises(ValueError, match="celery_queue is a name of letters, digits, '_' and '-'"):
        Config(celery_queue=name)


def test_jobs_stay_away_from_the_celery_queue_of_requests() -> None:
    with pytest.raises(ValueError, match="that one carries requests"):
        Config(celery_queue="sockets")


@pytest.mark.parametrize("name", sorted(RESERVED - {JOBS}))
def test_a_celery_queue_has_no_name_of_ours_or_of_celerys(name: str) -> None:
    with pytest.raises(ValueError, match=f'celery_queue is not "{name}": .*; choose another name'):
        Config(celery_queue=name)


def test_a_file_may_name_the_usual_celery_queue() -> None:
    assert Config(celery_queue="jobs").celery_queue == "jobs"


@pytest.mark.parametrize("schedule", ["daily", "*/15 * * * *", timedelta(minutes=5)])
def test_a_schedule_is_taken_as_it_is_written(schedule: str | timedelta) -> None:
    assert Config(schedule=schedule).schedule == schedule


def test_users_may_be_let_push_by_http() -> None:
    assert Config(http="user").http == "user"


@pytest.mark.parametrize("who", ["users", "", "all", True, False])
def test_whom_nobody_knows_is_let_push_by_nobody(who: Any) -> None:
    with pytest.raises(ValueError, match='http is "user" or is left out, not '):
        Config(http=who)


def test_a_schedule_that_nobody_understands_is_refused() -> None:
    with pytest.raises(ValueError, match="whenever"):
        Config(schedule="whenever")


def test_a_scheduled_job_has_no_group() -> None:
    with pytest.raises(ValueError, match="schedule and fifo exclude each other"):
        Config(schedule="daily", fifo=True)


def test_every_option_is_for_sockets_for_queues_or_for_both() -> None:
    both = {"timeout"}
    assert {*SOCKET_ONLY, *JOB_ONLY, *both} == set(Config.__struct_fields__)
    assert not set(SOCKET_ONLY) & set(JOB_ONLY)


def test_options_are_given_by_name() -> None:
    with pytest.raises(TypeError):
        Config(10)  # type: ignore[call-arg]


def test_an_unknown_option_is_refused() -> None:
    with pytest.raises(TypeError, match="retires"):
        Config(retires=3)  # type: ignore[call-arg]


def test_a_config_does_not_change() -> None:
    with pytest.raises(AttributeError):
        Config().timeout = 1  # type: ignore[misc]
