"""Real small programs under a real supervisor."""

import sys
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from queue_run.cli.supervision.process_groups import ProcessGroups
from queue_run.cli.supervision.reporter import Program
from queue_run.cli.supervision.supervisor import Supervisor
from tests.waiting import eventually_async


@dataclass
class Recorder:
    """A reporter that remembers."""

    lines: list[tuple[str, str]] = field(default_factory=list)
    exits: list[tuple[str, int, float | None]] = field(default_factory=list)
    kills: list[str] = field(default_factory=list)
    not_starts: list[tuple[str, str, float]] = field(default_factory=list)

    def output(self, program: Program, line: str) -> None:
        self.lines.append((program.name, line))

    def exited(
        self, program: Program, status: int, *, delay: float | None, output: Collection[str]
    ) -> None:
        self.exits.append((program.name, status, delay))

    def not_started(self, program: Program, error: OSError, *, delay: float) -> None:
        self.not_starts.append((program.name, type(error).__name__, delay))

    def killed(self, program: Program, *, after: float) -> None:
        self.kills.append(program.name)

    def of(self, name: str) -> list[str]:
        return [line for each, line in self.lines if each == name]

    async def wait_for(self, name: str, line: str, *, times: int = 1) -> None:
        await eventually_async(
            lambda: self.of(name).count(line) >= times, what=f"{line!r} of {name} {times} times"
        )


#: Makes a program from Python code.
NewProgram = Callable[..., Program]


@pytest.fixture
def program(tmp_path: Path) -> NewProgram:
    def make(name: str, code: str, **options: Any) -> Program:
        return Program(
            name=name,
            command=(sys.executable, "-S", "-c", code),
            environ={},
            cwd=tmp_path,
            **options,
        )

    return make


@pytest.fixture
def groups(tmp_path: Path) -> Iterator[ProcessGroups]:
    folder = tmp_path / "session"
    folder.mkdir()
    with ProcessGroups(folder, grace=0.2) as groups:
        yield groups


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
async def supervisor(groups: ProcessGroups, recorder: Recorder) -> AsyncIterator[Supervisor]:
    supervisor = Supervisor(groups, recorder)
    yield supervisor
    supervisor.kill()
    await supervisor.stop(grace=0)
