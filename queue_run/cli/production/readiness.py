"""Hears from a process's own lines that it is up."""

import asyncio
import re
from collections.abc import Collection

from queue_run.cli.production.procfile import Role
from queue_run.cli.supervision.reporter import Program, Reporter

#: What a process writes, at the log level INFO, when it has started.
READY_LINES = {
    Role.PUSH_SERVER: re.compile(r" listens on http"),
    Role.WORKER: re.compile(r"\S+@\S+ ready\.$"),
    Role.BEAT: re.compile(r"beat: Starting"),
}


class Readiness:
    """A reporter that tells another one everything, and listens for the lines it is asked for."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._expected: list[tuple[Program, re.Pattern[str], asyncio.Event]] = []

    def expect(self, program: Program, role: Role) -> asyncio.Event:
        """Set when this very program writes, from now on, that it is ready.

        At once for a role of which no such line is known.
        """
        ready = asyncio.Event()
        if role in READY_LINES:
            self._expected.append((program, READY_LINES[role], ready))
        else:
            ready.set()
        return ready

    def forget(self, ready: asyncio.Event) -> None:
        """Stop looking for the line of a program for which nobody waits any more."""
        self._expected = [each for each in self._expected if each[2] is not ready]

    def output(self, program: Program, line: str) -> None:
        self._reporter.output(program, line)
        for expected, pattern, ready in self._expected:
            # A successor has its predecessor's name.
            if expected is program and pattern.search(line):
                ready.set()

    def exited(
        self, program: Program, status: int, *, delay: float | None, output: Collection[str]
    ) -> None:
        self._reporter.exited(program, status, delay=delay, output=output)

    def not_started(self, program: Program, error: OSError, *, delay: float) -> None:
        self._reporter.not_started(program, error, delay=delay)

    def killed(self, program: Program, *, after: float) -> None:
        self._reporter.killed(program, after=after)
