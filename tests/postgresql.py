"""A PostgreSQL of a test's own, on loopback, which leaves nothing behind."""

import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.parts import require
from tests.processes import Process, environment, free_port
from tests.waiting import DEADLINE, eventually

#: Where Debian keeps the programs, by version.
PROGRAMS = Path("/usr/lib/postgresql")
#: It refuses to run as root.
USER = "postgres"


class PostgreSQL:
    """A server of a fresh cluster; everybody on this machine may come in."""

    def __init__(self) -> None:
        folders = sorted(PROGRAMS.glob("*/bin/postgres"))
        require(folders, "PostgreSQL (postgresql)")
        self._programs = folders[-1].parent
        self.port = free_port()
        self._folder = Path(tempfile.mkdtemp(prefix="queue-run-test-postgresql-"))
        self._data = self._folder / "data"
        if os.getuid() == 0:
            shutil.chown(self._folder, USER)
        command = [self._programs / "initdb", "--no-sync", "-A", "trust", "-U", USER, self._data]
        made = subprocess.run(
            [*_as_user(), *map(str, command)],
            capture_output=True,
            text=True,
            check=False,
            timeout=DEADLINE,
        )
        assert made.returncode == 0, made
        self.start()

    def start(self) -> None:
        """Start it, or start it again with the data that it had."""
        options = ["-h", "127.0.0.1", "-p", str(self.port), "-k", str(self._folder), "-F"]
        command = [str(self._programs / "postgres"), "-D", str(self._data), *options]
        self._command = [*_as_user(), *command]
        self._launch()
        eventually(self._answers, what="PostgreSQL")

    def _launch(self) -> None:
        self.process = Process(self._command, environ=environment(), cwd=self._folder)

    def kill(self) -> None:
        self.process.kill()

    def restart(self) -> None:
        """Every connection that was open is broken."""
        self.kill()
        self.start()

    def query(self, statement: str) -> str:
        """What one statement gives, as text."""
        ran = self._psql(statement)
        assert ran.returncode == 0, ran
        return ran.stdout.strip()

    def end(self) -> None:
        self.process.kill()
        self.process.end()
        shutil.rmtree(self._folder)

    def _answers(self) -> bool:
        if not self.process.running:
            # What the killed one had started ends when it notices, and holds the memory until then.
            assert "pre-existing shared memory block" in self.process.output, self.process.output
            self._launch()
        return self._psql("SELECT 1").returncode == 0

    def _psql(self, statement: str) -> "subprocess.CompletedProcess[str]":
        where = ["-h", "127.0.0.1", "-p", str(self.port), "-U", USER]
        return subprocess.run(
            [str(self._programs / "psql"), *where, "-X", "-A", "-t", "-c", statement, USER],
            capture_output=True,
            text=True,
            check=False,
            timeout=DEADLINE,
        )


def _as_user() -> list[str]:
    if os.getuid() != 0:
        return []
    pwd.getpwnam(USER)
    return ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--init-groups"]
