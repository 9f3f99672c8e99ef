"""Programs that end, fail, change and are stopped: with real processes."""

import asyncio
import signal
import time

from queue_run.cli.supervision.keeper import State
from queue_run.cli.supervision.policy import FIRST_DELAY
from queue_run.cli.supervision.supervisor import Supervisor
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
    assert supervisor.states() == {"a": State.PAUSED}


async def test_an_application_that_cannot_be_loaded_waits_for_a_change(
    supervisor: Supervisor, recorder: Recorder, program: NewProgram
) -> None:
    code = "import sys; print('why', flush=True); sys.exit(2)"
    supervisor.add(program("jobs", code, reloads=True))
    await eventually_async(lambda: recorder.exits, what="the exit")
    assert recorder.exits == [("jobs", 2, None)]
    assert supervisor.states() == {"jobs": State.AWAITING_CHANGE}
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
        lambda: supervisor.states() == {"jobs": State.PAUSED}, what="the first failure"
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


async def test_stop_ends_all_together_and_the_last_ones_after_them(
    supervisor: Supervisor, recorder: Recorder, program: NewProgram
) -> None:
    supervisor.add(program("redis", POLITE, stops_last=True))
    for name in ("web", "jobs"):
        supervisor.add(program(name, POLITE))
    for name in ("redis", "web", "jobs"):
        await recorder.wait_for(name, "up")
    await supervisor.stop(grace=30)
    ends = [name for name, line in recorder.lines if line == "ends"]
    assert sorted(ends[:2]) == ["jobs", "web"]
    assert ends[2:] == ["redis"]
    assert set(supervisor.states().values()) == {State.STOPPED}
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
    supervisor.add(program("redis", SLEEP, stops_last=True))
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
    assert supervisor.states() == {"a": State.STOPPED}


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
