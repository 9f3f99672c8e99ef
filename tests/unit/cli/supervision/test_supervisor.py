"""Programs that end, fail, change and are stopped: with real processes."""

import asyncio
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

from queue_run.cli.supervision.keeper import ProcessState
from queue_run.cli.supervision.policy import FIRST_DELAY
from queue_run.cli.supervision.process_groups import ProcessGroups
from queue_run.cli.supervision.reporter import StopStage
from queue_run.cli.supervision.supervisor import Supervisor
from tests.unit.cli.running import descendants, runs
from tests.unit.cli.supervision.conftest import NewProgram, Recorder
from tests.unit.cli.supervision.test_child import SLEEP, STUBBORN
from tests.waiting import eventually_async

#: Says when it ends, so that the order of ends can be seen. Not by `print`: the signal may come
#: while the first line is being printed, and the buffer allows no second one meanwhile.
POLITE = """
import os, signal, sys, time
def end(*_):
    os.write(1, b"ends\\n")
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
os.write(1, b"up\\n")
time.sleep(600)
"""


async def test_a_program_that_dies_starts_again_with_growing_delays(
    supervisor: Supervisor, recorder: Recorder, program: NewProgram
) -> None:
    supervisor.add(program("a", "import sys; print('up', flush=True); sys.exit(1)"))
    await recorder.wait_for("a", "up", times=3)
    assert recorder.exits[:2] == [("a", 1, FIRST_DELAY), ("a", 1, 2 * FIRST_DELAY)]


async def test_the_signal_that_killed_a_program_is_reported(
    supervisor: Supervisor, recorder: Recorder, program: NewProgram
) -> None:
    supervisor.add(program("a", "import os; os.kill(os.getpid(), 9)"))
    await eventually_async(lambda: recorder.exits, what="the exit")
    assert recorder.exits[0] == ("a", -signal.SIGKILL, FIRST_DELAY)
    assert supervisor.states() == {"a": ProcessState.PAUSED}


async def test_an_application_that_cannot_be_loaded_waits_for_a_change(
    supervisor: Supervisor, recorder: Recorder, program: NewProgram
) -> None:
    code = "import sys; print('why', flush=True); sys.exit(2)"
    supervisor.add(program("jobs", code, reloads=True))
    await eventually_async(lambda: recorder.exits, what="the exit")
    assert recorder.exits == [("jobs", 2, None)]
    assert supervisor.states() == {"jobs": ProcessState.AWAITING_CHANGE}
    supervisor.reload()
    await recorder.wait_for("jobs", "why", times=2)


async def test_a_change_restarts_what_runs_the_application_and_nothing_else(
    supervisor: Supervisor, recorder: Recorder, program: NewProgram
) -> None:
    supervisor.add(program("web", POLITE))
    supervisor.add(program("jobs", POLITE, reloads=True))
    await recorder.wait_for("web", "up")
    await recorder.wait_for("jobs", "up")
    supervisor.reload()
    await recorder.wait_for("jobs", "up", times=2)
    assert recorder.of("jobs") == ["up", "ends", "up"]
    assert recorder.of("web") == ["up"]
    assert recorder.exits == []


async def test_a_change_ends_the_delay_after_a_failure(
    supervisor: Supervisor, recorder: Recorder, program: NewProgram
) -> None:
    code = "import sys; print('up', flush=True); sys.exit(1)"
    supervisor.add(program("jobs", code, reloads=True))
    await eventually_async(
        lambda: supervisor.states() == {"jobs": ProcessState.PAUSED}, what="the first failure"
    )
    supervisor.reload()
    await eventually_async(lambda: len(recorder.exits) == 2, what="the second failure")
    assert [delay for _, _, delay in recorder.exits] == [FIRST_DELAY, FIRST_DELAY]


async def test_changes_while_a_program_restarts_are_one_restart(
    supervisor: Supervisor, recorder: Recorder, program: NewProgram
) -> None:
    supervisor.add(program("jobs", POLITE, reloads=True))
    await recorder.wait_for("jobs", "up")
    for _ in range(5):
        supervisor.reload()
    await recorder.wait_for("jobs", "up", times=2)
    await supervisor.stop(grace=30)
    assert recorder.of("jobs") == ["up", "ends", "up", "ends"]


async def test_stop_ends_stage_after_stage_and_those_of_one_together(
    supervisor: Supervisor, recorder: Recorder, program: NewProgram
) -> None:
    supervisor.add(program("redis", POLITE, stops=StopStage.LAST))
    for name in ("sockets", "jobs"):
        supervisor.add(program(name, POLITE))
    supervisor.add(program("web", POLITE, stops=StopStage.FIRST))
    for name in ("redis", "sockets", "jobs", "web"):
        await recorder.wait_for(name, "up")
    await supervisor.stop(grace=30)
    ends = [name for name, line in recorder.lines if line == "ends"]
    assert ends[0] == "web"
    assert sorted(ends[1:3]) == ["jobs", "sockets"]
    assert ends[3:] == ["redis"]
    assert set(supervisor.states().values()) == {ProcessState.STOPPED}
    await supervisor.watch()


async def test_stop_kills_what_does_not_end_within_the_grace(
    supervisor: Supervisor, recorder: Recorder, program: NewProgram
) -> None:
    supervisor.add(program("a", STUBBORN))
    await recorder.wait_for("a", "up")
    await supervisor.stop(grace=0.1)
    assert recorder.kills == ["a"]


async def test_kill_cuts_a_stop_short(
    supervisor: Supervisor, recorder: Recorder, program: NewProgram
) -> None:
    supervisor.add(program("a", STUBBORN))
    supervisor.add(program("redis", SLEEP, stops=StopStage.LAST))
    await recorder.wait_for("a", "up")
    stopping = asyncio.create_task(supervisor.stop(grace=600))
    await asyncio.sleep(0)
    began = time.monotonic()
    supervisor.kill()
    await stopping
    assert time.monotonic() - began < 60
    assert recorder.exits == []


async def test_stop_ends_a_program_that_waits_to_start_again(
    supervisor: Supervisor, recorder: Recorder, program: NewProgram
) -> None:
    supervisor.add(program("a", "raise SystemExit(2)", reloads=True))
    await eventually_async(lambda: recorder.exits, what="the exit")
    await supervisor.stop(grace=30)
    assert supervisor.states() == {"a": ProcessState.STOPPED}


async def test_giving_up_watching_leaves_the_programs_alone(
    supervisor: Supervisor, recorder: Recorder, program: NewProgram
) -> None:
    supervisor.add(program("a", SLEEP, reloads=True))
    await recorder.wait_for("a", "up")
    watching = asyncio.create_task(supervisor.watch())
    await asyncio.sleep(0)
    watching.cancel()
    await asyncio.wait({watching})
    supervisor.reload()
    await recorder.wait_for("a", "up", times=2)


async def test_one_program_restarts_by_itself_and_its_old_process_has_ended_then(
    supervisor: Supervisor, recorder: Recorder, program: NewProgram
) -> None:
    first, second = program("a", POLITE), program("b", POLITE)
    for each in (first, second):
        supervisor.add(each)
        await recorder.wait_for(each.name, "up")
    await supervisor.restart(first, program("a", POLITE), grace=None)
    assert recorder.of("a")[:2] == ["up", "ends"]
    await recorder.wait_for("a", "up", times=2)
    assert recorder.of("b") == ["up"]
    assert recorder.exits == []


async def test_watching_goes_on_while_programs_are_replaced(
    supervisor: Supervisor, recorder: Recorder, program: NewProgram
) -> None:
    old, new = program("a", POLITE), program("a", POLITE)
    supervisor.add(old)
    await recorder.wait_for("a", "up")
    watching = asyncio.create_task(supervisor.watch())
    supervisor.add(new)
    await recorder.wait_for("a", "up", times=2)
    # They are equal: it is the very one that counts.
    await supervisor.remove(old, grace=None)
    assert not watching.done()
    assert supervisor.states() == {"a": ProcessState.RUNNING}
    await supervisor.stop(grace=None)
    await watching
    assert recorder.of("a").count("ends") == 2


async def test_a_program_that_cannot_be_started_is_tried_again_while_the_others_run(
    supervisor: Supervisor, recorder: Recorder, program: NewProgram, tmp_path: Path
) -> None:
    missing = tmp_path / "missing"
    supervisor.add(program("a", SLEEP))
    await recorder.wait_for("a", "up")
    watching = asyncio.create_task(supervisor.watch())
    supervisor.add(replace(program("b", SLEEP), cwd=missing))
    await eventually_async(lambda: len(recorder.not_starts) >= 2, what="two attempts")
    assert recorder.not_starts[:2] == [
        ("b", "FileNotFoundError", FIRST_DELAY),
        ("b", "FileNotFoundError", 2 * FIRST_DELAY),
    ]
    assert supervisor.states() == {"a": ProcessState.RUNNING, "b": ProcessState.PAUSED}
    missing.mkdir()
    await recorder.wait_for("b", "up")
    assert recorder.of("a") == ["up"]
    assert recorder.exits == []
    assert not watching.done()
    watching.cancel()


async def test_a_program_whose_folder_is_gone_starts_again_when_it_is_back(
    supervisor: Supervisor, recorder: Recorder, program: NewProgram, tmp_path: Path
) -> None:
    """By its name: a link that is turned is followed."""
    for name in ("1", "2"):
        (tmp_path / name).mkdir()
    current = tmp_path / "current"
    current.symlink_to("1")
    where = "import os; print(os.path.basename(os.getcwd()), flush=True); "
    supervisor.add(replace(program("a", where + SLEEP, reloads=True), cwd=current))
    await recorder.wait_for("a", "1")
    (tmp_path / "1").rmdir()
    supervisor.reload()
    await eventually_async(lambda: recorder.not_starts, what="a failure to start")
    current.unlink()
    current.symlink_to("2")
    await recorder.wait_for("a", "2")


async def test_a_program_that_cannot_be_started_can_be_stopped(
    supervisor: Supervisor, recorder: Recorder, program: NewProgram, tmp_path: Path
) -> None:
    supervisor.add(replace(program("a", SLEEP), cwd=tmp_path / "missing"))
    await eventually_async(lambda: recorder.not_starts, what="a failure to start")
    await supervisor.stop(grace=None)
    assert supervisor.states() == {"a": ProcessState.STOPPED}


async def test_programs_start_and_end_after_the_reaper_was_killed(
    supervisor: Supervisor, recorder: Recorder, program: NewProgram, groups: ProcessGroups
) -> None:
    supervisor.add(program("a", POLITE))
    await recorder.wait_for("a", "up")
    [reaper] = [each for each in descendants(os.getpid()) if "read_groups" in each.command]
    os.kill(reaper.pid, signal.SIGKILL)
    await eventually_async(lambda: not runs(reaper.pid), what="the end of the reaper")
    supervisor.add(program("b", POLITE))
    await recorder.wait_for("b", "up")
    assert [each for each in descendants(os.getpid()) if "read_groups" in each.command]
    await supervisor.stop(grace=None)
    assert recorder.of("a") == ["up", "ends"]
    assert recorder.not_starts == []
