"""What `queue-run start` refuses, and its own lines; all of it is in tests/acceptance."""

import os
import shutil
import signal
import sys
import venv
from collections.abc import Callable, Iterator
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


def test_a_named_procfile_that_is_missing_is_refused(tmp_path: Path) -> None:
    for name in ("other", "Procfile", f"{tmp_path}/deploy/Procfile"):
        assert_refused(queue_run("start", name, cwd=tmp_path), f"{name} cannot be read", "PROCFILE")


def test_a_procfile_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "Procfile").mkdir()
    assert_refused(queue_run("start", cwd=tmp_path), "Procfile cannot be read (Is a directory)")
    (tmp_path / "Procfile").rmdir()
    (tmp_path / "Procfile").symlink_to("missing")
    assert_refused(queue_run("start", cwd=tmp_path), "Procfile cannot be read (No such file")


def test_an_unknown_name_is_refused_with_those_of_the_default(tmp_path: Path) -> None:
    result = queue_run("start", "--processes", "worker=2,mail=1", cwd=tmp_path)
    assert_refused(result, "'mail=1'", "web, worker, jobs, beat")


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


# A folder that is a link


class Shop:
    """A deployment by link; what its processes say tells their release."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.current = folder / "current"

    def release(self, name: str, procfile: str) -> None:
        """Put a release into place."""
        folder = self.folder / "releases" / name
        (folder / "bin").mkdir(parents=True)
        (folder / "name").write_text(f"release {name}\n")
        (folder / "bin/tell").write_text(f"#!/bin/sh\necho tool {name}\n")
        (folder / "bin/tell").chmod(0o755)
        (folder / "Procfile").write_text(procfile)
        self.turn(name)

    def turn(self, name: str) -> None:
        self.lead_to(f"releases/{name}")

    def lead_to(self, target: str) -> None:
        (self.folder / "new").symlink_to(target)
        (self.folder / "new").rename(self.current)


TELL = "a: cat name; tell; sleep 600\n"
DONE = "rolling restart: done"

#: How the command is started: its arguments, its working directory below the shop, PWD, variables.
WAYS: dict[str, tuple[tuple[str, ...], str, str, dict[str, str]]] = {
    "by a shell": ((), "current", "{shop}/current", {}),
    "by a service manager": ((), "current", "/", {}),
    "with a relative Procfile": (("Procfile",), "current", "{shop}/current", {}),
    "with an absolute Procfile": (("{shop}/current/Procfile",), "current", "/", {}),
    "with an application's folder": (
        (),
        "current",
        "/",
        {"QUEUE_RUN_APP_DIR": "{shop}/current"},
    ),
}


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    shop = Shop(tmp_path / "shop")
    shop.release("1", TELL)
    return shop


#: Starts the command in one of the ways above.
StartShop = Callable[..., Process]


@pytest.fixture
def start_shop(shop: Shop) -> Iterator[StartShop]:
    started = []

    def start(way: str = "by a shell", **more: str) -> Process:
        arguments, cwd, pwd, variables = WAYS[way]
        values = {"PWD": pwd, **variables, **more}
        # As after `source venv/bin/activate` in the release.
        path = f"{shop.current.resolve()}/bin:{os.environ['PATH']}"
        process = Process(
            [
                *(sys.executable, "-m", "queue_run", "start"),
                *(each.format(shop=shop.folder) for each in arguments),
            ],
            environ=environment(
                PATH=path, **{name: text.format(shop=shop.folder) for name, text in values.items()}
            ),
            cwd=shop.folder / cwd,
        )
        started.append(process)
        return process

    yield start
    for each in started:
        each.end()


def restart(process: Process, *, times: int) -> None:
    process.send(signal.SIGHUP)
    eventually(lambda: process.output.count(DONE) == times, what=f"restart {times}")


@pytest.mark.parametrize("way", WAYS)
def test_a_rolling_restart_runs_the_release_that_the_link_leads_to(
    shop: Shop, start_shop: StartShop, way: str
) -> None:
    process = start_shop(way)
    process.wait_for_output("a.1   | tool 1")
    shop.release("2", TELL)
    shutil.rmtree(shop.folder / "releases/1")
    restart(process, times=1)
    process.wait_for_output("a.1   | tool 2")
    assert "a.1   | release 2" in process.output
    assert f"rolling restart in {shop.current} (now {shop.folder}/releases/2)" in process.output
    shop.release("3", TELL)
    restart(process, times=2)
    process.wait_for_output("a.1   | tool 3")


def test_a_rolling_restart_reads_the_procfile_of_the_new_release(
    shop: Shop, start_shop: StartShop
) -> None:
    process = start_shop()
    process.wait_for_output("a.1   | tool 1")
    shop.release("2", "a: echo changed; sleep 600\nb: cat name; sleep 600\n")
    restart(process, times=1)
    process.wait_for_output("a.1   | changed")
    process.wait_for_output("b.1   | release 2")
    shop.release("3", "b: cat name; sleep 600\n")
    restart(process, times=2)
    process.wait_for_output("b.1   | release 3")
    assert "a.1 stops, the Procfile no longer has it" in process.output
    assert not any("changed" in each.command for each in descendants(process.pid))


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda shop: shop.current.unlink(), "the folder {shop}/current is not there"),
        (
            lambda shop: shop.lead_to("releases/9"),
            "the folder {shop}/current is not there (No such",
        ),
        (lambda shop: shop.lead_to("current"), "the folder {shop}/current is not there (Too many"),
        (
            lambda shop: (shop.current / "Procfile").unlink(),
            "{shop}/current/Procfile cannot be read (No such file or directory)",
        ),
        (
            lambda shop: (shop.current / "Procfile").write_text("nonsense"),
            "{shop}/current/Procfile, line 1: expected 'name: command'",
        ),
        (
            lambda shop: (shop.current / "Procfile").write_text("b: sleep 600"),
            "--processes 'a=1': the Procfile has no line 'a', only b",
        ),
    ],
)
def test_a_release_that_cannot_be_run_leaves_all_as_it_is(
    shop: Shop, spoil: Callable[[Shop], object], reason: str
) -> None:
    process = Process(
        [sys.executable, "-m", "queue_run", "start", "--processes", "a=1"],
        environ=environment(PWD=str(shop.current), PATH=f"{shop.current}/bin:{os.environ['PATH']}"),
        cwd=shop.current,
    )
    try:
        process.wait_for_output("a.1   | tool 1")
        running = {each.pid for each in descendants(process.pid)}
        spoil(shop)
        process.send(signal.SIGHUP)
        process.wait_for_output("no rolling restart, all stays as it is: ")
        assert reason.format(shop=shop.folder) in process.output
        assert running <= {each.pid for each in descendants(process.pid)}
        shop.release("2", TELL)
        restart(process, times=1)
        process.wait_for_output("a.1   | tool 2")
    finally:
        process.end()


def test_a_process_that_cannot_start_is_told_and_the_others_run_on(
    shop: Shop, start_shop: StartShop
) -> None:
    (shop.current / "Procfile").write_text(
        "a: cat name; sleep 600\nb: no-such-command\n"
        "c: cat name; while [ -e go ]; do sleep 0.1; done\n"
    )
    (shop.current / "go").touch()
    process = start_shop()
    process.wait_for_output("c.1   | release 1")
    process.wait_for_output("b.1 ended (exit code 127): it starts again in 1 s")
    # The release goes, and with it the working directory of all.
    shop.current.unlink()
    shutil.rmtree(shop.folder / "releases/1")
    process.wait_for_output(
        f"c.1 cannot be started (No such file or directory: {shop.current}): it is tried again in"
    )
    process.wait_for_output("tried again in 1 s")
    assert process.output.count("a.1   | release 1") == 1
    shop.release("2", TELL)
    process.wait_for_output("c.1   | release 2")
    assert "a.1 ended" not in process.output
    restart(process, times=1)
    process.wait_for_output("a.1   | release 2")


def add_environment(release: Path) -> None:
    """A virtual environment in the release, with the command in it, as pip writes it."""
    venv.create(release / "venv", with_pip=False)
    [packages] = (release / "venv").glob("lib/python*/site-packages")
    (packages / "ours.pth").write_text("\n".join(each for each in sys.path if each))
    command = release / "venv/bin/queue-run"
    command.write_text(
        f"#!{release.resolve()}/venv/bin/python\nfrom queue_run.cli import main\nmain()\n"
    )
    command.chmod(0o755)


@pytest.mark.parametrize("cwd", ["current", ""])
def test_a_virtual_environment_in_the_release_changes_with_it(shop: Shop, cwd: str) -> None:
    procfile = "a: python -c 'import sys; print(sys.prefix)'; sleep 600\n"
    (shop.current / "Procfile").write_text(procfile)
    add_environment(shop.current)
    process = Process(
        [f"{shop.current}/venv/bin/queue-run", "start", f"{shop.current}/Procfile"],
        environ=environment(PWD=str(shop.folder), PYTHONPATH=""),
        cwd=shop.folder / cwd,
    )
    try:
        process.wait_for_output("/venv\n")
        shop.release("2", procfile.replace("sys.prefix", "sys.prefix, 2"))
        add_environment(shop.current)
        shutil.rmtree(shop.folder / "releases/1")
        restart(process, times=1)
        process.wait_for_output("/venv 2\n")
        lines = [line for line in process.output.splitlines() if line.endswith(("venv", "venv 2"))]
        assert [line.partition("| ")[2] for line in lines] == [
            f"{shop.current}/venv",
            f"{shop.current}/venv 2",
        ]
        process.send(signal.SIGTERM)
        assert process.wait() == 0
        assert "Traceback" not in process.output
    finally:
        process.end()


# Without a Procfile


def test_a_folder_without_a_procfile_runs_the_one_of_the_package(tmp_path: Path) -> None:
    (tmp_path / "sockets").mkdir()
    command = [sys.executable, "-m", "queue_run", "start"]
    process = Process(command, environ=environment(REDIS_URL="redis://127.0.0.1:1/0"), cwd=tmp_path)
    try:
        process.wait_for_output("start    | there is no ")
        process.wait_for_output("queue-run's own is used, with web, worker, jobs, beat")
        process.wait_for_output("worker.1 | Redis at redis://127.0.0.1:1/0 does not answer")
        # From now on it is the folder's own.
        (tmp_path / "Procfile").write_text("a: echo mine; sleep 600\n")
        process.send(signal.SIGHUP)
        process.wait_for_output("a.1      | mine")
        # Who has had one has lost it, when it is gone.
        (tmp_path / "Procfile").unlink()
        process.send(signal.SIGHUP)
        process.wait_for_output("Procfile cannot be read (No such file or directory)")
    finally:
        process.end()
