"""The programs side by side: each with a Redis of its own, one server and two workers."""

import resource
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from celery import Celery

from benchmarks import cpu
from benchmarks.load import Crowd, LineProcess
from queue_run.broker.celery_app import create_celery
from queue_run.settings import Settings
from tests.processes import ROOT, Process, RedisServer, Stack, environment, free_port
from tests.waiting import eventually

APP = ROOT / "benchmarks" / "app"
OPEN_APP = ROOT / "benchmarks" / "open_app"
NAMESPACE = "bench"
WITHOUT_CHATTER = ("--without-gossip", "--without-mingle", "--without-heartbeat")
#: The roles whose CPU a program's operator pays for every message.
PAID = ("server", "worker", "redis")


@dataclass(kw_only=True)
class Program:
    """A running program, with its load."""

    name: str
    #: With the slash at the end.
    url: str
    pids: dict[str, list[int]]
    crowd: Crowd
    publisher: LineProcess
    redis_url: str
    #: Of queue-run: what its push server and workers were started with.
    stack: Stack | None = None
    #: Numbers of runs, so that what is late of one is not taken for the next one's.
    runs: int = field(default=0)

    def next_run(self) -> int:
        self.runs += 1
        return self.runs

    def cpu(self) -> dict[str, float]:
        """CPU seconds so far: of the program's roles, its publisher and its load."""
        others = {"publisher": [self.publisher.pid], "load": [self.crowd.pid]}
        return cpu.by_role({**self.pids, **others})

    @property
    def server(self) -> int:
        return self.pids["server"][0]


def allow_many_files() -> None:
    """A file for each connection; the processes that are started from here inherit it."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


@contextmanager
def ours(
    *,
    app: Path = APP,
    protocol: str = "plain",
    servers: int = 1,
    workers: int = 2,
    **variables: str,
) -> Iterator[Program]:
    with ExitStack() as ending:
        redis = RedisServer()
        ending.callback(redis.end)
        # What is measured is the way of a message: no log line each, no limit of one client.
        stack = Stack(
            redis.url,
            app,
            NAMESPACE,
            **{
                "QUEUE_RUN_MAX_MESSAGE_RATE": "1000000",
                "QUEUE_RUN_HEARTBEAT_INTERVAL": "5",
                **variables,
            },
        )
        for _ in range(servers):
            ending.callback(_end, stack.push_server())
        for _ in range(workers):
            worker = stack.worker("-P", "solo", "-l", "WARNING", queues="sockets")
            ending.callback(_end, worker)
        with create_celery(Settings(redis_url=redis.url, namespace=NAMESPACE)) as celery:
            wait_for_workers(celery, workers)
        for server in stack.push_servers:
            server.wait_until_ready()
        yield _with_load(
            ending,
            name="ours",
            url=stack.ws(),
            protocol=protocol,
            publisher=stack.environ(),
            redis_url=redis.url,
            pids={
                "server": [each.pid for each in stack.push_servers],
                "worker": [each.pid for each in stack.workers],
                "redis": [redis.process.pid],
            },
            stack=stack,
        )


@contextmanager
def other(name: str, module: str, *, protocol: str) -> Iterator[Program]:
    """One of the programs that are written here: a server and two workers of one module."""
    with ExitStack() as ending:
        redis = RedisServer()
        ending.callback(redis.end)
        port = free_port()
        environ = environment(REDIS_URL=redis.url, PORT=str(port))
        server = Process([sys.executable, "-m", module], environ=environ)
        ending.callback(_end, server)
        workers = []
        for number in range(2):
            workers.append(celery_worker(module, "-P", "solo", environ=environ, number=number))
            ending.callback(_end, workers[-1])
        eventually(lambda: _listens(port, server), what=f"the server of {name}")
        with Celery(broker=redis.url) as app:
            wait_for_workers(app, len(workers))
        yield _with_load(
            ending,
            name=name,
            url=f"ws://127.0.0.1:{port}/",
            protocol=protocol,
            publisher=environ,
            redis_url=redis.url,
            pids={
                "server": [server.pid],
                "worker": [each.pid for each in workers],
                "redis": [redis.process.pid],
            },
        )


def straightforward() -> AbstractContextManager[Program]:
    return other("straightforward", "benchmarks.straightforward", protocol="plain")


def socketio() -> AbstractContextManager[Program]:
    return other("socketio", "benchmarks.socketio_program", protocol="socketio")


def ours_open() -> AbstractContextManager[Program]:
    """Of an application without `on_authenticate`."""
    return ours(app=OPEN_APP)


PROGRAMS: dict[str, Callable[[], AbstractContextManager[Program]]] = {
    "ours": ours,
    "ours-open": ours_open,
    "straightforward": straightforward,
    "socketio": socketio,
}


def celery_worker(
    module: str, *options: str, environ: Mapping[str, str], number: int = 0
) -> Process:
    """A worker of a program's Celery application."""
    return Process(
        [
            *(sys.executable, "-m", "celery", "-A", module, "worker", *options),
            *("-l", "WARNING", "-n", f"worker{number}@{module}", *WITHOUT_CHATTER),
        ],
        environ=environ,
    )


def _with_load(
    ending: ExitStack,
    *,
    name: str,
    url: str,
    protocol: str,
    publisher: Mapping[str, str],
    redis_url: str,
    pids: dict[str, list[int]],
    stack: Stack | None = None,
) -> Program:
    crowd = Crowd(protocol, url)
    ending.callback(crowd.end)
    sender = LineProcess("benchmarks.publisher_process", name, environ=publisher)
    ending.callback(sender.end)
    return Program(
        name=name,
        url=url,
        pids=pids,
        crowd=crowd,
        publisher=sender,
        redis_url=redis_url,
        stack=stack,
    )


def _listens(port: int, server: Process) -> bool:
    assert server.running, server.output
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5):
            return True
    except OSError:
        return False


def wait_for_workers(app: Celery, count: int) -> None:
    """Until all answer, as `celery status` does it: at WARNING they say nothing of it."""
    eventually(
        lambda: len(app.control.ping(timeout=0.5) or ()) == count, what=f"{count} Celery workers"
    )


def _end(process: Process) -> None:
    process.kill()
    process.end()
