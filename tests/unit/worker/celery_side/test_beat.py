"""Beat's scheduler in real folders; what it prevents in a read-only one is an acceptance test."""

import logging
import shelve
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery
from celery.beat import Service

from queue_run.broker.celery_app import create_celery
from queue_run.settings import Settings
from tests.processes import RedisServer
from worker.celery_side.beat import Scheduler, _Patience

SCHEDULE = {"tick": {"task": "tick", "schedule": 60.0}}
NewScheduler = Callable[..., Any]


@pytest.fixture
def new_scheduler() -> NewScheduler:
    def new(file: Path, schedule: dict[str, Any] | None = None) -> Any:
        app = Celery("beat", broker="memory://", set_as_current=False)
        app.conf.update(beat_scheduler="worker.celery_side.beat:Scheduler", result_expires=None)
        app.conf.beat_schedule = SCHEDULE if schedule is None else schedule
        return Service(app, scheduler_cls=Scheduler, schedule_filename=str(file)).scheduler

    return new


def test_without_schedules_there_is_no_file(new_scheduler: NewScheduler, tmp_path: Path) -> None:
    scheduler = new_scheduler(tmp_path / "beat", {})
    assert scheduler.tick() > 0
    scheduler.close()
    assert not list(tmp_path.iterdir())


def test_with_schedules_the_file_keeps_the_last_runs(
    new_scheduler: NewScheduler, tmp_path: Path
) -> None:
    first = new_scheduler(tmp_path / "beat")
    first.reserve(first.schedule["tick"])
    first.close()
    assert new_scheduler(tmp_path / "beat").schedule["tick"].total_run_count == 1


def test_a_last_job_in_the_future_is_of_now(
    new_scheduler: NewScheduler, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = new_scheduler(tmp_path / "beat", {**SCHEDULE, "other": SCHEDULE["tick"]})
    first.schedule["tick"].last_run_at += timedelta(hours=1)
    first.close()
    second = new_scheduler(tmp_path / "beat", {**SCHEDULE, "other": SCHEDULE["tick"]})
    assert 0 < second.tick() <= 60
    assert 0 < second.schedule["tick"].is_due().next <= 60
    [warning] = [each for each in caplog.records if each.levelno >= logging.WARNING]
    assert "the last jobs of tick lay in the future" in warning.getMessage()
    # Nothing more is looked for while nobody sets the clock.
    second.schedule["tick"].last_run_at += timedelta(hours=1)
    second.tick()
    assert second.schedule["tick"].is_due().next > 600


def test_a_clock_that_is_set_back_is_followed_while_beat_runs(
    new_scheduler: NewScheduler, tmp_path: Path
) -> None:
    scheduler = new_scheduler(tmp_path / "beat", {**SCHEDULE, "rarely": {**SCHEDULE["tick"]}})
    scheduler.tick()
    heap = scheduler._heap
    scheduler.schedule["tick"].last_run_at += timedelta(hours=1)
    # The clock was an hour ahead at the last look.
    scheduler._ahead += 3600
    scheduler.tick()
    assert 0 < scheduler.schedule["tick"].is_due().next <= 60
    # Next times that were found by the other clock are forgotten.
    assert scheduler._heap is not heap


def test_a_folder_that_is_not_there_costs_one_warning(
    new_scheduler: NewScheduler, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    scheduler = new_scheduler(tmp_path / "none" / "beat")
    scheduler.reserve(scheduler.schedule["tick"])
    scheduler.sync()
    scheduler.close()
    assert scheduler.schedule["tick"].total_run_count == 1
    [warning] = [each for each in caplog.records if each.levelno >= logging.WARNING]
    assert "BEAT_SCHEDULE" in warning.getMessage()


def test_a_folder_in_the_place_of_the_file_stays(
    new_scheduler: NewScheduler, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for suffix in ("", ".db", ".dat", ".dir", ".bak"):
        (tmp_path / f"beat{suffix}").mkdir()
    scheduler = new_scheduler(tmp_path / "beat")
    assert set(scheduler.schedule) == {"tick"}
    assert (tmp_path / "beat").is_dir()
    assert "goes on without it" in caplog.text


def test_a_damaged_file_is_made_anew(
    new_scheduler: NewScheduler, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    new_scheduler(tmp_path / "beat").close()
    for file in tmp_path.iterdir():
        file.write_bytes(b"not a file of beat at all" * 100)
    scheduler = new_scheduler(tmp_path / "beat")
    assert set(scheduler.schedule) == {"tick"}
    assert "is damaged" in caplog.text
    assert "goes on without it" not in caplog.text
    scheduler.close()


def test_a_file_with_what_this_release_does_not_have_is_made_anew(
    new_scheduler: NewScheduler, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    new_scheduler(tmp_path / "beat").close()
    with shelve.open(str(tmp_path / "beat")) as store:
        database: Any = store
        database.dict[b"entries"] = b"cno_such_module\nSchedule\n."
    new_scheduler(tmp_path / "beat").close()
    assert "is damaged" in caplog.text
    caplog.clear()
    new_scheduler(tmp_path / "beat").close()
    assert not caplog.text


def test_a_file_that_fails_later_leaves_the_schedule_in_memory(
    new_scheduler: NewScheduler, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    scheduler = new_scheduler(tmp_path / "beat")
    scheduler.reserve(scheduler.schedule["tick"])
    scheduler._store.dict.close()  # As good as gone: nothing can be written to it any more.
    scheduler.sync()
    assert scheduler.schedule["tick"].total_run_count == 1
    scheduler.sync()
    scheduler.close()
    assert caplog.text.count("goes on without it") == 1


def test_the_application_s_schedules_win_over_those_in_the_file(
    new_scheduler: NewScheduler, tmp_path: Path
) -> None:
    new_scheduler(tmp_path / "beat").close()
    other = {"tock": {"task": "tock", "schedule": 60.0}}
    scheduler = new_scheduler(tmp_path / "beat", other)
    assert set(scheduler.schedule) == {"tock"}
    scheduler.close()


def test_a_full_redis_costs_two_lines_however_many_jobs_it_refuses(
    own_redis: RedisServer, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = create_celery(Settings(redis_url=own_redis.url, namespace=namespace, publish_timeout=0.5))
    app.conf.beat_schedule = SCHEDULE
    scheduler: Any = Service(app, scheduler_cls=Scheduler).scheduler
    scheduler.setup_schedule = lambda: None
    entry = scheduler.Entry(app=app, name="tick", **SCHEDULE["tick"])
    caplog.set_level(logging.WARNING)
    with own_redis.client() as client:
        client.config_set("maxmemory", "1")
        for _ in range(3):
            scheduler.apply_entry(entry)
        client.config_set("maxmemory", "0")
        scheduler.apply_entry(entry)
        assert client.llen(f"{namespace}.jobs") == 1
    lines = [line.partition(":")[0] for line in caplog.messages]
    assert lines == ["Redis is full", "Redis has room again"]
    app.close()


def test_all_connections_of_a_scheduler_share_its_patience() -> None:
    patience = _Patience()
    client = redis.Redis(retry=patience)
    pool: Any = client.connection_pool
    assert pool.make_connection().retry is patience
