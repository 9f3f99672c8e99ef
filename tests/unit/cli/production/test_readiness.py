"""From which lines a process is known to be ready."""

from dataclasses import replace
from pathlib import Path

import pytest

from queue_run.cli.production.procfile import Role
from queue_run.cli.production.readiness import Readiness
from queue_run.cli.supervision.reporter import Program
from tests.unit.cli.supervision.conftest import Recorder

PROGRAM = Program(name="a.1", command=(), environ={}, cwd=Path())


@pytest.mark.parametrize(
    ("role", "line"),
    [
        (Role.WORKER, "[2026-01-05 10:00:00,000: INFO/MainProcess] sockets-1@host ready."),
        (
            Role.PUSH_SERVER,
            "2026-01-05 INFO push_server.app: push server 1f listens on http://[::]:1",
        ),
        (Role.BEAT, "[2026-01-05 10:00:00,000: INFO/MainProcess] beat: Starting..."),
    ],
)
async def test_a_role_has_its_line(role: Role, line: str) -> None:
    recorder = Recorder()
    readiness = Readiness(recorder)
    ready = readiness.expect(PROGRAM, role)
    readiness.output(PROGRAM, "not ready.")
    assert not ready.is_set()
    readiness.output(PROGRAM, line)
    assert ready.is_set()
    assert recorder.of("a.1") == ["not ready.", line]


async def test_a_successor_s_line_is_not_its_predecessor_s() -> None:
    readiness = Readiness(Recorder())
    old, new = PROGRAM, replace(PROGRAM)
    assert old == new
    ready = readiness.expect(new, Role.WORKER)
    readiness.output(old, "a@b ready.")
    assert not ready.is_set()


async def test_what_has_no_line_is_ready_at_once() -> None:
    assert Readiness(Recorder()).expect(PROGRAM, Role.OTHER).is_set()


async def test_what_is_forgotten_is_not_told() -> None:
    readiness = Readiness(Recorder())
    ready = readiness.expect(PROGRAM, Role.WORKER)
    readiness.forget(ready)
    readiness.output(PROGRAM, "a@b ready.")
    assert not ready.is_set()


async def test_ends_are_handed_on() -> None:
    recorder = Recorder()
    readiness = Readiness(recorder)
    readiness.exited(PROGRAM, 3, delay=0.5, output=[])
    readiness.killed(PROGRAM, after=5.0)
    assert recorder.exits == [("a.1", 3, 0.5)]
    assert recorder.kills == ["a.1"]
