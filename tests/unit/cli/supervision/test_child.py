"""One process: its output, its end, and what it leaves behind."""

import signal

from queue_run.cli.supervision.child import LAST_LINES, ChildProcess
from queue_run.cli.supervision.process_groups import ProcessGroups
from tests.unit.cli.running import runs
from tests.unit.cli.supervision.conftest import NewProgram
from tests.waiting import eventually_async

SLEEP = "import time; print('up', flush=True); time.sleep(600)"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEP}"


async def test_both_outputs_arrive_line_by_line_before_the_end(
    program: NewProgram, groups: ProcessGroups
) -> None:
    lines: list[str] = []
    code = "import sys; print('out', flush=True); sys.stderr.write('err\\nlast'); sys.exit(3)"
    child = await ChildProcess.start(program("a", code), groups=groups, on_line=lines.append)
    assert await child.ended == 3
    assert lines == ["out", "err", "last"]


async def test_the_last_lines_are_remembered(program: NewProgram, groups: ProcessGroups) -> None:
    child = await ChildProcess.start(
        program("a", "for n in range(100): print(n)"), groups=groups, on_line=lambda _: None
    )
    await child.ended
    assert list(child.last_lines) == [str(n) for n in range(100 - LAST_LINES, 100)]


async def test_a_child_has_no_input_to_wait_for(program: NewProgram, groups: ProcessGroups) -> None:
    lines: list[str] = []
    child = await ChildProcess.start(
        program("a", "import sys; print(repr(sys.stdin.read()))"),
        groups=groups,
        on_line=lines.append,
    )
    await child.ended
    assert lines == ["''"]


async def test_a_child_that_ends_when_asked_is_not_killed(
    program: NewProgram, groups: ProcessGroups
) -> None:
    lines: list[str] = []
    child = await ChildProcess.start(program("a", SLEEP), groups=groups, on_line=lines.append)
    await eventually_async(lambda: lines, what="the program")
    assert await child.stop(grace=30)
    assert child.ended.result() == -signal.SIGTERM


async def test_a_child_that_does_not_end_is_killed_after_the_grace(
    program: NewProgram, groups: ProcessGroups
) -> None:
    lines: list[str] = []
    child = await ChildProcess.start(program("a", STUBBORN), groups=groups, on_line=lines.append)
    await eventually_async(lambda: lines, what="the program")
    assert not await child.stop(grace=0.1)
    assert child.ended.result() == -signal.SIGKILL


async def test_stopping_a_child_that_has_ended_is_harmless(
    program: NewProgram, groups: ProcessGroups
) -> None:
    child = await ChildProcess.start(program("a", ""), groups=groups, on_line=lambda _: None)
    await child.ended
    assert await child.stop(grace=30)
    child.kill()


async def test_what_a_child_leaves_behind_ends_with_it(
    program: NewProgram, groups: ProcessGroups
) -> None:
    lines: list[str] = []
    code = (
        "import subprocess, sys; "
        f"left = subprocess.Popen([sys.executable, '-S', '-c', {STUBBORN!r}]); print(left.pid)"
    )
    child = await ChildProcess.start(program("a", code), groups=groups, on_line=lines.append)
    await child.ended
    pid = int(next(line for line in lines if line != "up"))
    await eventually_async(lambda: not runs(pid), what="the end of what was left behind")
