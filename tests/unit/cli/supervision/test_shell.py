"""Who gets the signal when a shell stays in between."""

import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from queue_run.cli.supervision import shell
from queue_run.cli.supervision.child import ChildProcess
from queue_run.cli.supervision.process_groups import ProcessGroups
from queue_run.cli.supervision.reporter import Program
from tests.unit.cli.running import runs
from tests.unit.cli.supervision.conftest import NewProgram
from tests.unit.cli.supervision.test_supervisor import POLITE
from tests.waiting import eventually_async


@pytest.fixture
def in_shell(program: NewProgram, tmp_path: Path) -> "InShell":
    (tmp_path / "polite.py").write_text(POLITE)
    return InShell(program("a", ""))


class InShell:
    def __init__(self, program: Program) -> None:
        self._program = program

    def __call__(self, text: str) -> Program:
        command = ("/bin/sh", "-c", text.replace("polite", f"{sys.executable} -S polite.py"))
        return replace(self._program, command=command, shell=True, environ=dict(os.environ))


@pytest.mark.parametrize(
    "text",
    ["polite", "A=1 polite", "exec polite", "cd . && polite", "true; polite", "polite; true"],
)
async def test_the_program_that_a_shell_runs_ends_in_order(
    in_shell: InShell, groups: ProcessGroups, text: str
) -> None:
    lines: list[str] = []
    child = await ChildProcess.start(in_shell(text), groups=groups, on_line=lines.append)
    await eventually_async(lambda: "up" in lines, what="the program")
    assert await child.stop(grace=30)
    assert lines == ["up", "ends"]


async def test_a_shell_that_goes_on_ends_after_what_it_ran(
    in_shell: InShell, groups: ProcessGroups
) -> None:
    lines: list[str] = []
    program = in_shell("while true; do polite; done")
    child = await ChildProcess.start(program, groups=groups, on_line=lines.append)
    await eventually_async(lambda: "up" in lines, what="the program")
    assert await child.stop(grace=30)
    assert lines[:2] == ["up", "ends"]


@pytest.mark.parametrize("proc", [shell.PROC, Path("/no-such-folder")])
async def test_what_a_shell_runs_is_found_with_and_without_proc(
    in_shell: InShell, groups: ProcessGroups, proc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shell, "PROC", proc)
    program = in_shell("echo in $$; polite; true")
    lines: list[str] = []
    child = await ChildProcess.start(program, groups=groups, on_line=lines.append)
    await eventually_async(lambda: "up" in lines, what="the program")
    assert lines[0] == f"in {child.pid}"
    [found] = shell.run_by(child.pid, program.command)
    assert found != child.pid
    assert runs(found)
    # Not its command: so it is no shell that runs one, and gets its signals itself.
    assert shell.run_by(child.pid, ("/bin/sh", "-c", "another")) == [child.pid]
    assert await child.stop(grace=30)
    assert shell.run_by(child.pid, program.command) == [child.pid]
