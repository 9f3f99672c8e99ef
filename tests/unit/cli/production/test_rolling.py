"""Which process is replaced when, and what happens when one does not come up."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from queue_run.cli.production.formation import Place
from queue_run.cli.production.procfile import Role
from queue_run.cli.production.readiness import Readiness
from queue_run.cli.production.rolling import RollingRestart
from queue_run.cli.supervision.keeper import ProcessState
from queue_run.cli.supervision.process_groups import ProcessGroups
from queue_run.cli.supervision.reporter import Program
from queue_run.cli.supervision.supervisor import Supervisor
from queue_run.settings import PROCESS_VARIABLE
from tests.unit.cli.supervision.conftest import NewProgram, Recorder
from tests.waiting import eventually_async

#: Says with its number when it is ready and when it ends.
WORKS = """
import os, signal, sys, time
number = os.environ["QUEUE_RUN_PROCESS"].encode()
def end(*_):
    os.write(1, number + b" ends\\n")
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
os.write(1, {line!r} % number)
time.sleep(600)
"""
WORKER = WORKS.format(line=b"%s@h ready.\n")
#: A worker whose successor does what is given.
CHANGES = "import os\nif os.environ['QUEUE_RUN_PROCESS'].endswith('b'):\n    {}\n" + WORKER
FAILS = CHANGES.format("raise SystemExit(2)")
HANGS = CHANGES.format("import time; print('hangs', flush=True); time.sleep(600)")
CODES = {
    Role.WORKER: WORKER,
    Role.PUSH_SERVER: WORKS.format(line=b"%s listens on http://h:1\n"),
    Role.BEAT: WORKS.format(line=b"%s beat: Starting...\n"),
    Role.OTHER: WORKS.format(line=b"%s goes\n"),
}


@dataclass
class Host:
    """Programs that run, and what a rolling restart says about them."""

    groups: ProcessGroups
    recorder: Recorder
    program: NewProgram
    said: list[str] = field(default_factory=list)
    places: list[Place] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.readiness = Readiness(self.recorder)
        self.supervisor = Supervisor(self.groups, self.readiness)

    async def add(self, name: str, role: Role, code: str = "", *, overlaps: bool = False) -> None:
        """Start a program and wait for its first line."""
        made = self.program(name, code or CODES[role])
        place = self.place(made, role, overlaps=overlaps)
        self.places.append(place)
        self.supervisor.add(place.program)
        await eventually_async(lambda: self.recorder.of(name), what=f"the first line of {name}")

    def place(self, program: Program, role: Role, *, overlaps: bool = False) -> Place:
        environ = {PROCESS_VARIABLE: "1"}
        return Place(program=replace(program, environ=environ), role=role, overlaps=overlaps)

    async def restart(self, *, deadline: float = 60) -> bool:
        return await self.rolling(deadline).run()

    def rolling(self, deadline: float = 60, wanted: list[Place] | None = None) -> RollingRestart:
        """One to these places, or to new processes of what there is."""
        same = [self.place(each.program, each.role, overlaps=each.overlaps) for each in self.places]
        return RollingRestart(
            self.places,
            same if wanted is None else wanted,
            supervisor=self.supervisor,
            groups=self.groups,
            readiness=self.readiness,
            grace=30,
            deadline=deadline,
            say=self.said.append,
        )


@pytest.fixture
async def host(
    groups: ProcessGroups, recorder: Recorder, program: NewProgram
) -> AsyncIterator[Host]:
    host = Host(groups, recorder, program)
    yield host
    host.supervisor.kill()
    await host.supervisor.stop(grace=0)


async def test_a_new_worker_is_ready_before_the_old_one_stops(host: Host) -> None:
    await host.add("a", Role.WORKER, overlaps=True)
    assert await host.restart()
    assert host.recorder.of("a") == ["1@h ready.", "1b@h ready.", "1 ends"]
    assert await host.restart()
    assert host.recorder.of("a")[3:] == ["1@h ready.", "1b ends"]
    assert host.recorder.exits == []
    assert host.supervisor.states() == {"a": ProcessState.RUNNING}


async def test_what_must_not_overlap_stops_before_it_starts(host: Host) -> None:
    await host.add("beat", Role.BEAT)
    assert await host.restart()
    assert host.recorder.of("beat") == ["1 beat: Starting...", "1 ends", "1 beat: Starting..."]


async def test_workers_come_first_and_push_servers_last(host: Host) -> None:
    await host.add("web", Role.PUSH_SERVER, overlaps=True)
    await host.add("other", Role.OTHER)
    await host.add("beat", Role.BEAT)
    await host.add("worker", Role.WORKER, overlaps=True)
    assert await host.restart()
    ends = [name for name, line in host.recorder.lines if line.endswith("ends")]
    assert ends == ["worker", "beat", "other", "web"]


@pytest.mark.parametrize(
    ("code", "deadline", "problem"),
    [
        (FAILS, 60, "the new b has ended (exit code 2, see above): the old one stays"),
        (HANGS, 0.5, "the new b has not written within 0.5 s that it is ready (-l INFO?)"),
    ],
)
async def test_one_that_does_not_come_up_ends_it_and_the_old_one_stays(
    host: Host, code: str, deadline: float, problem: str
) -> None:
    await host.add("b", Role.WORKER, code, overlaps=True)
    await host.add("web", Role.PUSH_SERVER, overlaps=True)
    assert not await host.restart(deadline=deadline)
    assert problem in "\n".join(host.said)
    assert "the rolling restart has ended there" in host.said[-1]
    assert "1 ends" not in host.recorder.of("b")
    assert host.recorder.of("web") == ["1 listens on http://h:1"]
    assert host.places[0].program.environ == {PROCESS_VARIABLE: "1"}
    assert set(host.supervisor.states().values()) == {ProcessState.RUNNING}


async def test_a_single_one_that_does_not_come_up_again_is_told(host: Host, tmp_path: Path) -> None:
    first = tmp_path / "first"
    code = (
        f"import os, sys\nif os.path.exists({str(first)!r}):\n    sys.exit(2)\n"
        f"open({str(first)!r}, 'w').close()\n" + CODES[Role.PUSH_SERVER]
    )
    await host.add("web", Role.PUSH_SERVER, code)
    assert not await host.restart(deadline=0.5)
    assert any("web has not written within 0.5 s" in text for text in host.said)
    await eventually_async(lambda: host.recorder.exits, what="its being started again")


@pytest.mark.parametrize("phase", ["starting", "stopping"])
async def test_giving_up_in_the_middle_leaves_all_to_the_supervisor(host: Host, phase: str) -> None:
    await host.add("b", Role.WORKER, HANGS if phase == "starting" else SLOW_END, overlaps=True)
    rolling = asyncio.create_task(host.rolling().run())
    reached: Callable[[], bool] = {
        "starting": lambda: "hangs" in host.recorder.of("b"),
        "stopping": lambda: "slowly" in host.recorder.of("b"),
    }[phase]
    await eventually_async(reached, what=phase)
    rolling.cancel()
    await asyncio.wait({rolling})
    watching = asyncio.create_task(host.supervisor.watch())
    host.supervisor.kill()
    await host.supervisor.stop(grace=30)
    await watching
    assert set(host.supervisor.states().values()) == {ProcessState.STOPPED}
    assert host.supervisor.states().keys() == {"b"}


#: Hears the signal, and goes on.
SLOW_END = """
import os, signal, time
signal.signal(signal.SIGTERM, lambda *_: os.write(1, b"slowly\\n"))
os.write(1, b"x@h ready.\\n")
while True:
    time.sleep(600)
"""


async def test_a_new_line_s_process_comes_and_that_of_a_line_that_is_gone_stops(host: Host) -> None:
    await host.add("old", Role.OTHER)
    await host.add("a", Role.WORKER, overlaps=True)
    changed = WORKS.format(line=b"%s@h ready.\n") + "# changed"
    wanted = [
        host.place(host.program("a", changed), Role.WORKER, overlaps=True),
        host.place(host.program("new", CODES[Role.PUSH_SERVER]), Role.PUSH_SERVER),
    ]
    assert await host.rolling(wanted=wanted).run()
    assert host.recorder.of("a") == ["1@h ready.", "1b@h ready.", "1 ends"]
    assert host.places[0].program.command[-1].endswith("# changed")
    assert host.recorder.of("new") == ["1 listens on http://h:1"]
    assert host.recorder.of("old") == ["1 goes", "1 ends"]
    assert host.supervisor.states() == {"a": ProcessState.RUNNING, "new": ProcessState.RUNNING}
    assert "rolling restart: old stops, the Procfile no longer has it" in host.said
    assert [place.program.name for place in host.places] == ["a", "new"]


async def test_what_may_no_longer_overlap_stops_before_its_successor_starts(host: Host) -> None:
    await host.add("web", Role.PUSH_SERVER, overlaps=True)
    wanted = host.place(host.program("web", CODES[Role.BEAT]), Role.BEAT)
    assert await host.rolling(wanted=[wanted]).run()
    assert host.recorder.of("web") == ["1 listens on http://h:1", "1 ends", "1 beat: Starting..."]
    assert host.places == [wanted]


async def test_a_successor_that_cannot_be_started_leaves_the_old_one(
    host: Host, tmp_path: Path
) -> None:
    await host.add("a", Role.WORKER, overlaps=True)
    program = replace(host.program("a", WORKER), cwd=tmp_path / "missing")
    wanted = host.place(program, Role.WORKER, overlaps=True)
    assert not await host.rolling(wanted=[wanted]).run()
    assert f"cannot be started (No such file or directory: {tmp_path}/missing): the old one" in (
        "\n".join(host.said)
    )
    assert host.supervisor.states() == {"a": ProcessState.RUNNING}
    assert await host.restart()


async def test_a_new_line_s_process_that_does_not_come_up_is_stopped_again(host: Host) -> None:
    await host.add("a", Role.WORKER, overlaps=True)
    new = host.place(host.program("new", "raise SystemExit(2)"), Role.PUSH_SERVER)
    assert not await host.rolling(wanted=[*host.places, new]).run()
    assert any("the new new has ended (exit code 2, see above)" in text for text in host.said)
    assert [place.program.name for place in host.places] == ["a"]
    assert host.supervisor.states() == {"a": ProcessState.RUNNING}
