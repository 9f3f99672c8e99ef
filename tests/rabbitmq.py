"""A RabbitMQ of a test's own, on loopback, which leaves nothing behind."""

import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

from tests.parts import require
from tests.processes import Process, environment, free_port
from tests.waiting import eventually

#: Where Debian keeps the program itself; the one on PATH changes to a user of its own.
PROGRAM = "/usr/lib/rabbitmq/bin/rabbitmq-server"
#: Beside it: what operators use.
CONTROL = "/usr/lib/rabbitmq/bin/rabbitmqctl"


class RabbitMQ:
    """A broker with Erlang's name server beside it, which would outlive it otherwise."""

    def __init__(self) -> None:
        names = shutil.which("epmd")
        require(names and os.access(PROGRAM, os.X_OK), "RabbitMQ (rabbitmq-server)")
        assert names is not None
        self._folder = tempfile.TemporaryDirectory(prefix="queue-run-test-rabbitmq-")
        folder = Path(self._folder.name)
        self.port, names_port = free_port(), free_port()
        self.url = f"amqp://guest:guest@127.0.0.1:{self.port}//"
        self._environ = environment(
            ERL_EPMD_PORT=str(names_port),
            ERL_EPMD_ADDRESS="127.0.0.1",
            HOME=str(folder),
            RABBITMQ_NODENAME=f"test{self.port}@localhost",
            RABBITMQ_NODE_IP_ADDRESS="127.0.0.1",
            RABBITMQ_NODE_PORT=str(self.port),
            RABBITMQ_DIST_PORT=str(free_port()),
            RABBITMQ_MNESIA_BASE=str(folder / "data"),
            RABBITMQ_LOG_BASE=str(folder / "log"),
            RABBITMQ_ENABLED_PLUGINS_FILE=str(folder / "plugins"),
            RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="-kernel inet_dist_use_interface {127,0,0,1}",
        )
        self._names = Process([names], environ=self._environ)
        eventually(lambda: _listens(names_port), what="Erlang's name server")
        self.start()

    def start(self) -> None:
        """Start it, or start it again with the data that it had."""
        self.process = Process([PROGRAM], environ=self._environ)
        eventually(self._answers, what="RabbitMQ")

    def kill(self) -> None:
        self.process.kill()

    def stop(self) -> None:
        """End it as an operator would, with SIGTERM."""
        self.process.end()

    def control(self, *words: str) -> str:
        """Run `rabbitmqctl`; what it wrote."""
        ran = subprocess.run(
            [CONTROL, "--quiet", "--node", self._environ["RABBITMQ_NODENAME"], *words],
            env=self._environ,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout

    def fill_memory(self) -> None:
        """Let it block whoever publishes, as when its memory is full."""
        self.control("set_vm_memory_high_watermark", "absolute", "1")

    def free_memory(self) -> None:
        self.control("set_vm_memory_high_watermark", "0.6")

    def end(self) -> None:
        for process in (self.process, self._names):
            process.kill()
            process.end()
        self._folder.cleanup()

    def _answers(self) -> bool:
        assert self.process.running, self.process.output
        return _listens(self.port)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(5)
        return probe.connect_ex(("127.0.0.1", port)) == 0
