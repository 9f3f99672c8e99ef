"""What `queue-run start` refuses, and its own lines; all of it is in tests/acceptance."""

import signal
import sys
from pathlib import Path

import pytest

from tests.processes import Process, environment
from tests.unit.cli.running import descendants, runs
from tests.unit.cli.test_command import assert_refused, queue_run
from tests.waiting import eventually

PROCFILE = "web: python -m push_server\nworker: celery -A worker worker\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "Procfile").write_text(PROCFILE)
    return tmp_path


def test_a_missing_procfile_is_refused(tmp_path: Path) -> None:
    assert_refused(queue_run("start", cwd=tmp_path), "Procfile cannot be read", "PROCFILE")
    assert_refused(queue_run("start", "other", cwd=tmp_path), "other cannot be read")


def test_a_malformed_line_is_named(folder: Path) -> None:
    (folder / "Procfile").write_text(PROCFILE + "beat celery -A worker beat\n")
    result = queue_run("start", cwd=folder)
    assert_refused(result, "Procfile, line 3", "'beat celery -A worker beat'")


def test_an_unknown_name_is_refused(folder: Path) -> None:
    result = queue_run("start", "--processes", "web=2,jobs=1", cwd=folder)
    assert_refused(result, "'jobs=1'", "web, worker")


def start(folder: Path, procfile: str, **variables: str) -> Process:
    (folder / "Procfile").write_text(procfile)
    command = [sys.executable, "-m", "queue_run", "start"]
    return Process(command, environ=environment(**variables), cwd=folder)


def test_lines_have_the_name_of_their_process_and_no_colours(folder: Path) -> None:
    process = start(folder, "a: echo $QUEUE_RUN_PROCESS $OWN; sleep 600\n", OWN="mine")
    try:
        process.wait_for_output("a.1   | 1 mine\n")
        process.send(signal.SIGTERM)
        assert process.wait() == 0
        assert "start | stopping (a second signal kills at once)\n" in process.output
        assert "\x1b" not in process.output
    finally:
        process.end()


def test_a_second_signal_kills_what_does_not_end(folder: Path) -> None:
    (folder / "stubborn.py").write_text(
        "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print('up', flush=True)\ntime.sleep(600)\n"
    )
    process = start(folder, f"a: {sys.executable} stubborn.py\n")
    try:
        process.wait_for_output("a.1   | up")
        pids = [each.pid for each in descendants(process.pid)]
        process.send(signal.SIGINT)
        process.wait_for_output("stopping")
        process.send(signal.SIGTERM)
        assert process.wait() == 0
        eventually(lambda: not any(map(runs, pids)), what="the end of all")
    finally:
        process.end()


def test_a_rolling_restart_needs_the_lines_that_tell_of_readiness(folder: Path) -> None:
    process = start(folder, "a: echo up; sleep 600\n", QUEUE_RUN_LOG_LEVEL="WARNING")
    try:
        process.wait_for_output("a.1   | up")
        process.send(signal.SIGHUP)
        process.wait_for_output("no rolling restart")
        assert "QUEUE_RUN_LOG_LEVEL=DEBUG or INFO" in process.output
        assert process.output.count("| up") == 1
    finally:
        process.end()
