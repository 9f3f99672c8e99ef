"""The commands that become another process: which one, and what it is told."""

import os
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from queue_run.cli import main

Executed = tuple[str, list[str], dict[str, str]]


@pytest.fixture
def executed(monkeypatch: pytest.MonkeyPatch) -> list[Executed]:
    """What would have been executed: the test itself has to go on."""
    calls: list[Executed] = []
    monkeypatch.setattr(os, "execve", lambda *arguments: calls.append(arguments))
    return calls


def run(*arguments: str, **environ: str | None) -> None:
    result = CliRunner().invoke(main, arguments, env=environ)
    assert result.exit_code == 0, result.output


def test_the_push_server_is_told_its_options_by_variables(
    executed: list[Executed], tmp_path: Path
) -> None:
    run(
        *("push-server", "--host", "0.0.0.0", "--port", "8001", "--app", str(tmp_path)),
        REDIS_URL="redis://10.0.0.5:6379/0",
    )
    [(path, command, environ)] = executed
    assert path == sys.executable
    assert command == [sys.executable, "-m", "push_server"]
    assert environ["QUEUE_RUN_HOST"] == "0.0.0.0"
    assert environ["PORT"] == "8001"
    assert environ["QUEUE_RUN_APP_DIR"] == str(tmp_path)
    assert environ["REDIS_URL"] == "redis://10.0.0.5:6379/0"


@pytest.mark.parametrize(
    ("serve", "pool_and_queues"),
    [
        ("sockets", ["-P", "solo", "-Q", "shop.sockets"]),
        ("jobs", ["-X", "shop.sockets"]),
        ("all", ["-P", "threads"]),
    ],
)
def test_a_worker_serves_its_queues_in_the_pool_that_suits_them(
    executed: list[Executed], serve: str, pool_and_queues: list[str]
) -> None:
    run("worker", "--serve", serve, QUEUE_RUN_NAMESPACE="shop")
    [(_, command, _)] = executed
    assert command == [
        *(sys.executable, "-m", "celery", "-A", "worker", "worker"),
        *pool_and_queues,
        *("--without-gossip", "--without-mingle", "--without-heartbeat"),
        *("-n", f"{serve}@%h", "-l", "INFO"),
    ]


def test_what_follows_two_dashes_goes_to_celery_unchanged(executed: list[Executed]) -> None:
    run("worker", "--serve", "jobs", "--", "-c", "4", "--pool=prefork", "--help")
    [(_, command, _)] = executed
    assert command[-4:] == ["-c", "4", "--pool=prefork", "--help"]


def test_an_option_of_celery_without_two_dashes_is_refused(executed: list[Executed]) -> None:
    result = CliRunner().invoke(main, ["worker", "-c", "4"])
    assert result.exit_code == 2
    assert not executed


def test_a_worker_is_told_the_applications_folder(executed: list[Executed], tmp_path: Path) -> None:
    run("worker", "--app", str(tmp_path))
    [(_, _, environ)] = executed
    assert environ["QUEUE_RUN_APP_DIR"] == str(tmp_path)


def test_routes_are_listed_by_a_process_that_is_told_the_folder(
    executed: list[Executed], tmp_path: Path
) -> None:
    run("routes", "--app", str(tmp_path))
    [(path, command, environ)] = executed
    assert path == sys.executable
    assert command == [sys.executable, "-m", "worker"]
    assert environ["QUEUE_RUN_APP_DIR"] == str(tmp_path)
