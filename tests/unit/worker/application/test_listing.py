"""What an application offers, as text for people; and `python -m worker`, which prints it."""

import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

from queue_run.application import schedules
from tests.conftest import write_files
from tests.processes import environment
from tests.unit.worker.building import hook, queue, route
from tests.unit.worker.conftest import Load
from tests.waiting import DEADLINE
from worker.application.listing import listing
from worker.application.middleware import Hooks
from worker.application.routes import NO_HOOKS, Routes


def handler(data: object) -> None:
    pass


def rows(text: str) -> list[list[str]]:
    """The lines of a listing, by its columns."""
    return [[cell.strip() for cell in line.split("  ") if cell] for line in text.splitlines()]


def python(folder: Path, **variables: str) -> "subprocess.CompletedProcess[str]":
    # Nothing listens there.
    environ = environment(
        REDIS_URL="redis://127.0.0.1:1/0", QUEUE_RUN_APP_DIR=str(folder), **variables
    )
    return subprocess.run(
        [sys.executable, "-m", "worker"],
        env=environ,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )


def test_a_route_has_a_line_with_its_file_and_its_options() -> None:
    routes = (
        route(handler, "/", timeout=60),
        route(handler, "/chat", timeout=2.5, type="json", ordered=False),
    )
    headings, index, chat, *_ = rows(listing(Routes(sockets=routes)))
    assert headings[:5] == ["path", "file", "takes", "timeout", "order"]
    assert index[:5] == ["/", "sockets/.py", "anything", "60 s", "kept"]
    assert chat[:5] == ["/chat", "sockets/chat.py", "json", "2.5 s", "none"]


def test_a_route_that_answers_below_its_path_is_marked(load: Load) -> None:
    files = {"sockets/index.py": "def handler(): pass", "sockets/a.py": "def handler(): pass"}
    assert {line[0] for line in rows(listing(load(files))) if line} >= {"/ …", "/a"}


def test_a_route_names_the_file_of_each_of_its_middleware() -> None:
    hooks = Hooks(received=hook(handler, "default"), sent=hook(handler, "sockets/a.py"), error=None)
    shown = rows(listing(Routes(sockets=(route(handler, "/a", hooks=hooks),))))
    assert shown[0][5:] == ["received", "sent", "error"]
    assert shown[1][5:] == ["default", "sockets/a.py", "off"]


def test_who_authenticates_is_named() -> None:
    assert "on_authenticate: sockets/_middleware.py" in listing(Routes(authenticate=hook(handler)))
    assert "on_authenticate: everybody is let in" in listing(Routes())


def test_a_queue_has_a_line_with_its_file_and_its_options() -> None:
    jobs = (
        queue(handler, "mail", timeout=90),
        queue(handler, "report", timeout=2.5, retries=0),
        queue(handler, "chat", fifo=True),
    )
    text = listing(Routes(queues={job.name: job for job in jobs}))
    assert rows(text)[-4:] == [
        ["queue", "file", "timeout", "retries", "order"],
        ["mail", "queues/mail.py", "90 s", "3", "-"],
        ["report", "queues/report.py", "2.5 s", "0", "-"],
        ["chat", "queues/chat.py", "300 s", "3", "fifo"],
    ]


def test_schedules_have_columns_where_a_queue_has_one() -> None:
    jobs = (
        queue(handler, "clean", schedule=schedules.parse("*/15 * * * *")),
        queue(handler, "report", schedule=schedules.parse("weekly")),
        queue(handler, "poll", schedule=schedules.parse(timedelta(seconds=30))),
        queue(handler, "mail"),
    )
    routes = Routes(queues={job.name: job for job in jobs})
    shown = rows(listing(routes, now=datetime(2026, 3, 5, 14, 11, tzinfo=UTC)))[-5:]
    assert [(line[0], *line[5:]) for line in shown] == [
        ("queue", "schedule (UTC)", "next run (UTC)"),
        ("clean", "every 15 minutes", "in 4 minutes (14:15)"),
        ("report", "weekly on Monday at 00:00", "Monday at 00:00"),
        ("poll", "every 30 seconds", "within 30 seconds"),
        ("mail", "-", "-"),
    ]


def test_who_may_push_by_http_is_shown_where_users_may() -> None:
    jobs = (queue(handler, "mail", http="user"), queue(handler, "report"))
    shown = rows(listing(Routes(queues={job.name: job for job in jobs})))[-3:]
    assert [line[5:] for line in shown] == [["http"], ["users, programs"], ["programs"]]
    # Beside a schedule it keeps its place.
    poll = queue(handler, "poll", schedule=schedules.parse(timedelta(seconds=30)))
    shown = rows(listing(Routes(queues={job.name: job for job in (*jobs, poll)})))[-4:]
    assert shown[-1][5:7] == ["programs", "every 30 seconds"]


def test_next_runs_are_in_utc_wherever_the_clock_is() -> None:
    routes = Routes(queues={"mail": queue(handler, schedule=schedules.parse("daily"))})
    now = datetime(2026, 7, 2, 1, 30, tzinfo=timezone(timedelta(hours=2)))
    assert rows(listing(routes, now=now))[-1][-2:] == ["daily at 00:00", "in 30 minutes (00:00)"]


def test_next_runs_are_counted_from_the_clock_unless_a_time_is_given() -> None:
    routes = Routes(queues={"mail": queue(handler, schedule=schedules.parse("* * * * *"))})
    assert re.fullmatch(r"now|in \d+ (second|minute).*", rows(listing(routes))[-1][-1])


def test_an_application_without_routes_is_told_what_that_means() -> None:
    text = listing(Routes())
    assert text.startswith("no routes: messages are answered with an error")
    assert "queue" not in text


def test_columns_stand_below_each_other_and_no_line_has_blanks_at_its_end() -> None:
    routes = tuple(route(handler, pattern, hooks=NO_HOOKS) for pattern in ("/", "/a/longer/path"))
    lines = listing(Routes(sockets=routes)).splitlines()[:3]
    assert len({line.index("off") for line in lines[1:]}) == 1
    assert [line for line in lines if line != line.rstrip()] == []


# The process


def test_it_prints_the_application_without_redis(tmp_path: Path) -> None:
    app = write_files(
        tmp_path,
        {
            "sockets/chat.py": "def handler(data): return data",
            "queues/mail.py": "def handler(job): pass",
        },
    )
    ran = python(app)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "sockets/chat.py" in ran.stdout
    assert "queues/mail.py" in ran.stdout


def test_an_application_that_cannot_be_loaded_ends_with_exit_code_2(tmp_path: Path) -> None:
    ran = python(write_files(tmp_path, {"sockets/chat.py": "import no_such_module"}))
    assert (ran.returncode, ran.stdout) == (2, "")
    assert "sockets/chat.py: line 1: ModuleNotFoundError" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_settings_that_cannot_be_used_end_with_exit_code_2(tmp_path: Path) -> None:
    ran = python(tmp_path, PORT="http")
    assert (ran.returncode, ran.stdout) == (2, "")
    assert "PORT='http'" in ran.stderr


def test_the_hooks_of_presence_are_listed_where_there_are_any() -> None:
    text = listing(Routes(online=hook(handler), offline=hook(handler)))
    assert "on_online: sockets/_middleware.py" in text
    assert "on_offline: sockets/_middleware.py" in text
    assert "on_online" not in listing(Routes())
