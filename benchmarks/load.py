"""The load: clients and publishers, each in processes of their own, so that their CPU is known."""

import json
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.processes import ROOT, environment

#: Orders that say what is missing when their time is over: a little before nobody waits.
WAITS = ("round_trips", "heard", "resume")


class LoadFailed(Exception):
    """Something was lost, wrong or late: the figures would mean nothing."""


class LineProcess:
    """A module run as a process that follows orders, one JSON line each; ends with its stdin."""

    def __init__(
        self, module: str, *arguments: str, environ: Mapping[str, str] | None = None
    ) -> None:
        self._name = " ".join([module, *arguments])
        self._log = tempfile.NamedTemporaryFile(prefix="queue-run-load-")  # noqa: SIM115
        self._popen = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            env=dict(environ or environment()),
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
        )
        self.pid = self._popen.pid

    def ask(self, do: str, *, deadline: float = 60.0, **order: Any) -> dict[str, Any]:
        """Give an order and wait for its end.

        Raises:
            LoadFailed: with what the process says went wrong, or when nothing comes in time.
        """
        waits = {"deadline": deadline - 5} if do in WAITS else {}
        self.tell(do, **order, **waits)
        return self.answer(deadline)

    def tell(self, do: str, **order: Any) -> None:
        """Give an order; `answer` waits for its end."""
        assert self._popen.stdin is not None
        try:
            self._popen.stdin.write(json.dumps({"do": do, **order}).encode() + b"\n")
            self._popen.stdin.flush()
        except BrokenPipeError:
            raise LoadFailed(f"{self._name} has ended:\n{self._errors()}") from None

    def answer(self, deadline: float = 60.0) -> dict[str, Any]:
        assert self._popen.stdout is not None
        until = time.monotonic() + deadline
        while not select.select([self._popen.stdout], [], [], 0.1)[0]:
            if time.monotonic() > until:
                raise LoadFailed(f"{self._name}: no answer in {deadline:g} seconds")
        line = self._popen.stdout.readline()
        if not line:
            raise LoadFailed(f"{self._name} has ended:\n{self._errors()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise LoadFailed(f"{self._name}: {answer['error']}\n{self._errors()}")
        return answer

    def end(self) -> None:
        if self._popen.poll() is None:
            self._popen.kill()
        self._popen.wait()
        for pipe in (self._popen.stdin, self._popen.stdout):
            if pipe is not None:
                pipe.close()
        self._log.close()

    def _errors(self) -> str:
        return Path(self._log.name).read_text(errors="replace")[-2000:]


class Crowd(LineProcess):
    """Clients of one protocol in one process, which connect to one address."""

    def __init__(self, protocol: str, url: str) -> None:
        super().__init__("benchmarks.client_process", protocol)
        self._url = url
        #: Users as given to `connect`, and how many clients there are.
        self._here: tuple[str, int] = ("", 0)

    def connect(self, count: int, *, users: str, batch: int = 100, resume: bool = False) -> None:
        """Have so many clients, of these users (`%d` is the client's number): those that are here
        stay when they fit."""
        last_users, last_count = self._here
        first = last_count if users == last_users and last_count <= count else 0
        if first == 0:
            self.disconnect()
        if first < count:
            self.ask(
                "open",
                url=self._url,
                count=count - first,
                users=users,
                batch=batch,
                first=first,
                resume=resume,
                deadline=120,
            )
        self._here = (users, count)

    def disconnect(self) -> None:
        self.ask("close")
        self._here = ("", 0)
