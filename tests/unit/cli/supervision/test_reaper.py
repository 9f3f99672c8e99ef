"""Nothing is left when the supervisor is killed."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from queue_run.cli.supervision import reaper
from queue_run.cli.supervision.process_groups import ProcessGroups
from tests.processes import Process, environment
from tests.unit.cli.running import runs
from tests.unit.cli.supervision.test_child import STUBBORN
from tests.waiting import eventually

#: A supervisor with three children: one ends when asked, one does not, one has a child itself.
SUPERVISOR = """
import asyncio, sys
from pathlib import Path
from queue_run.cli.supervision.child import ChildProcess
from queue_run.cli.supervision.process_groups import ProcessGroups
from queue_run.cli.supervision.reporter import Program

sleep = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
stubborn = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + sleep
start = "import subprocess, sys; subprocess.Popen([sys.executable, '-S', '-c', %r]); " % stubborn
parent = start + sleep

async def main():
    folder = Path(sys.argv[1])
    with ProcessGroups(folder, grace=0.5) as groups:
        for code in (sleep, stubborn, parent):
            program = Program(
                name="a", command=(sys.executable, "-S", "-c", code), environ={}, cwd=folder.parent
            )
            await ChildProcess.start(
                program, groups=groups, on_line=lambda line: print("child", line, flush=True)
            )
        await asyncio.sleep(600)

asyncio.run(main())
"""


def children_of(supervisor: Process) -> list[int]:
    return [int(line.split()[1]) for line in supervisor.output.splitlines() if "child" in line]


def test_killing_the_supervisor_ends_every_process_and_removes_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "session"
    folder.mkdir()
    (folder / "file").write_text("left")
    supervisor = Process([sys.executable, "-c", SUPERVISOR, str(folder)], environ=environment())
    try:
        eventually(lambda: len(children_of(supervisor)) == 4, what="four children")
        children = children_of(supervisor)
        assert all(map(runs, children))
        supervisor.send(signal.SIGKILL)
        assert supervisor.wait() == -signal.SIGKILL
        for pid in children:
            eventually(lambda pid=pid: not runs(pid), what=f"the end of {pid}")  # type: ignore[misc]
        eventually(lambda: not folder.exists(), what="the removal of the folder")
    finally:
        supervisor.end()


def test_a_child_whose_supervisor_dies_before_it_is_known_never_runs(tmp_path: Path) -> None:
    code = """
import asyncio, os, sys
from pathlib import Path
from queue_run.cli.supervision.child import ChildProcess
from queue_run.cli.supervision.process_groups import ProcessGroups
from queue_run.cli.supervision.reporter import Program

class Dying(ProcessGroups):
    def add(self, group):
        print("pid", group, flush=True)
        os.kill(os.getpid(), 9)

async def main():
    folder = Path(sys.argv[1])
    command = ("/bin/sh", "-c", "touch ran; sleep 600")
    program = Program(name="a", command=command, environ=os.environ, cwd=folder)
    with Dying(folder / "session") as groups:
        await ChildProcess.start(program, groups=groups, on_line=print)

asyncio.run(main())
"""
    supervisor = Process([sys.executable, "-c", code, str(tmp_path)], environ=environment())
    try:
        assert supervisor.wait() == -signal.SIGKILL
        pid = int(supervisor.output.split()[1])
        eventually(lambda: not runs(pid), what="the end of the child")
        assert not (tmp_path / "ran").exists()
    finally:
        supervisor.end()


def test_leaving_the_context_ends_what_is_still_registered(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-S", "-c", STUBBORN], stdout=subprocess.PIPE, start_new_session=True
    ) as left:
        assert left.stdout
        left.stdout.readline()
        with ProcessGroups(tmp_path / "session", grace=0.1) as groups:
            groups.add(left.pid)
        assert left.wait(30) == -signal.SIGKILL


def test_a_group_that_was_removed_is_left_alone(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-S", "-c", STUBBORN], stdout=subprocess.PIPE, start_new_session=True
    ) as left:
        try:
            with ProcessGroups(tmp_path / "session", grace=0.1) as groups:
                groups.add(left.pid)
                groups.remove(left.pid)
            assert left.poll() is None
        finally:
            left.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_reaper_outlives_signals_and_ends_with_its_pipe(
    tmp_path: Path, number: signal.Signals
) -> None:
    folder = tmp_path / "session"
    folder.mkdir()
    with subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _ready_reaper(), "0.1", str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdin
        assert process.stdout
        process.stdout.readline()
        process.send_signal(number)
        process.stdin.write(b"+99999999\n-99999999\n")
        process.stdin.close()
        assert process.wait(30) == 0
    assert not folder.exists()


def _ready_reaper() -> str:
    """The reaper, with a line when its signals are set: only then may the test send one."""
    source = Path(reaper.__file__).read_text()
    return source.replace("    end_groups(", "    print(flush=True)\n    end_groups(", 1)


def test_a_group_that_has_ended_is_gone() -> None:
    with subprocess.Popen([sys.executable, "-S", "-c", ""], start_new_session=True) as ended:
        ended.wait(30)
        assert not reaper.send(ended.pid, 0)
