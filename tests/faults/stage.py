"""The processes of a run: a Redis of its own, push servers on fixed ports, workers."""

import asyncio
import contextlib
import os
import secrets
import signal
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

from queue_run.contracts.keys import Keys
from tests.faults.proxy import Proxy
from tests.processes import ROOT, Process, PushServerProcess, RedisServer, Stack, free_port
from tests.replicas import Replicas
from tests.waiting import eventually_async
from tests.wrong_clock import clock_off_by

APP = ROOT / "tests" / "apps" / "faults"
#: Seconds for whatever must happen: machines stall.
DEADLINE = 120.0


class Clocks(NamedTuple):
    """By how many seconds the clocks of processes are ahead; those that are not named are right."""

    push_servers: Sequence[float] = ()
    workers: Sequence[float] = ()


class Stage:
    """Two push servers and some workers of one application, which may be killed and started."""

    def __init__(
        self,
        server: RedisServer,
        redis_links: Proxy | None,
        stack: Stack,
        ports: list[int],
        clocks: "Clocks",
        pools: Sequence[Sequence[str]],
        nodes: Replicas | None,
        notes: RedisServer,
    ) -> None:
        self._clocks = clocks
        self._pools = pools
        self._nodes = nodes
        self.redis_server = server
        self._redis_links = redis_links
        self.stack = stack
        self.ports = ports
        self.keys = Keys(stack.namespace)
        self.redis = server.client()
        #: Where the application notes what it does.
        self.notes = notes.client()
        self.push_servers: list[PushServerProcess] = []
        self.workers: list[Process] = []

    @property
    def urls(self) -> list[str]:
        return [f"ws://127.0.0.1:{port}/" for port in self.ports]

    def all_processes(self) -> list[Process]:
        return [*self.push_servers, *self.workers, self.redis_server.process]

    async def start(self, workers: int) -> None:
        for number in range(len(self.ports)):
            self.push_servers.append(await asyncio.to_thread(self._new_push_server, number))
        for number in range(workers):
            self.workers.append(self._new_worker(number))
        await asyncio.to_thread(self._wait_until_ready)

    def _wait_until_ready(self) -> None:
        for server in self.push_servers:
            server.wait_until_ready()
        for worker in self.workers:
            worker.wait_for_output("ready.")

    def _new_push_server(self, number: int) -> PushServerProcess:
        wrong = _clock(self._clocks.push_servers, number)
        return self.stack.push_server(PORT=str(self.ports[number]), **wrong)

    def _new_worker(self, number: int) -> Process:
        pool = self._pools[number % len(self._pools)]
        return self.stack.worker("-P", *pool, **_clock(self._clocks.workers, number))

    async def kill_push_server(self, number: int, *, ready: bool = True) -> None:
        """SIGKILL, and a new one on the same port.

        Args:
            ready: whether it can become ready now, and is waited for.
        """
        self.push_servers[number].send(signal.SIGKILL)
        await self._replace_push_server(number, ready=ready)

    async def restart_push_server(self, number: int) -> None:
        """SIGTERM, and a new one when it has gone."""
        self.push_servers[number].send(signal.SIGTERM)
        await self._replace_push_server(number)

    async def _replace_push_server(self, number: int, *, ready: bool = True) -> None:
        old = self.push_servers[number]
        await asyncio.to_thread(old.wait, DEADLINE)
        new = await asyncio.to_thread(self._new_push_server, number)
        self.push_servers[number] = new
        if ready:
            await asyncio.to_thread(new.wait_until_ready)

    async def kill_worker(self, number: int) -> None:
        """SIGKILL, and a new one."""
        self.workers[number].kill()
        self.workers[number] = new = self._new_worker(number)
        await asyncio.to_thread(new.wait_for_output, "ready.")

    async def restart_worker(self, number: int) -> None:
        """A new one, then SIGTERM to the old one."""
        old, new = self.workers[number], self._new_worker(number)
        await asyncio.to_thread(new.wait_for_output, "ready.")
        self.workers[number] = new
        old.send(signal.SIGTERM)
        await asyncio.to_thread(old.wait, DEADLINE)

    async def restart_redis(self) -> None:
        """SIGKILL, and the same data again."""
        await asyncio.to_thread(self.redis_server.kill)
        await asyncio.to_thread(self.redis_server.start)

    @property
    def redis_links(self) -> Proxy:
        """What stands between Redis and everybody; only on a stage that was asked for it."""
        assert self._redis_links is not None, "stage(proxied_redis=True)"
        return self._redis_links

    @property
    def nodes(self) -> Replicas:
        """The Redis of all processes, and its replica; only on a stage that was asked for it."""
        assert self._nodes is not None, "stage(replicated=True)"
        return self._nodes

    def cut_redis_links(self) -> None:
        """End every client's link to Redis but our own."""
        self.redis.client_kill_filter(_type="normal", skipme=True)

    async def presence_of(self, users: list[str]) -> dict[str, list[str]]:
        """What `on_online` and `on_offline` were called with, for each user, in order."""
        pipeline = self.notes.pipeline(transaction=False)
        for user in users:
            pipeline.lrange(f"{self.stack.namespace}:lab:presence:{user}", 0, -1)
        found = cast("list[list[str]]", await asyncio.to_thread(pipeline.execute))
        return dict(zip(users, found, strict=True))

    def runs(self) -> dict[str, int]:
        """How often each counted request's handler ran."""
        found = cast("dict[str, str]", self.notes.hgetall(f"{self.stack.namespace}:lab:runs"))
        return {name: int(count) for name, count in found.items()}

    def jobs_ended(self) -> list[str]:
        """Kind, number and group of each job whose work was done, in order."""
        found = self.notes.lrange(f"{self.stack.namespace}:lab:jobs", 0, -1)
        return cast("list[str]", found)

    def alive(self) -> bool:
        return all(process.running for process in self.all_processes())

    def end(self) -> None:
        self.redis.close()
        self.notes.close()
        self.stack.end()


ALL_RIGHT = Clocks()


@contextlib.asynccontextmanager
async def stage(
    *,
    workers: int = 1,
    servers: int = 2,
    proxied_redis: bool = False,
    replicated: bool = False,
    settings: Mapping[str, str] | None = None,
    clocks: Clocks = ALL_RIGHT,
    pools: Sequence[Sequence[str]] = (("solo",),),
    notes_apart: bool = False,
) -> AsyncIterator[Stage]:
    """Processes that are ready, and gone at the end, whatever happens.

    Args:
        replicated: the processes have another Redis, with a replica, behind a proxy; what the
            application notes for the laboratory stays where it is.
        settings: variables of the environment.
        pools: of the workers, in turn.
        notes_apart: whether the application notes what it does in another Redis.
    """
    async with contextlib.AsyncExitStack() as held:
        server = await asyncio.to_thread(RedisServer, append_only=True)
        held.push_async_callback(asyncio.to_thread, server.end)
        nodes, port = None, server.port
        if replicated:
            nodes = await asyncio.to_thread(Replicas)
            held.push_async_callback(asyncio.to_thread, nodes.end)
            port = nodes.primary.port
        notes = server
        if notes_apart:
            notes = await asyncio.to_thread(RedisServer)
            held.push_async_callback(asyncio.to_thread, notes.end)
        proxied = proxied_redis or replicated
        links = await held.enter_async_context(Proxy(port)) if proxied else None
        url = server.url if links is None else f"redis://127.0.0.1:{links.port}/0"
        ports = [free_port() for _ in range(servers)]
        # What the application notes for the laboratory is no part of what is broken.
        variables = {**(settings or {}), "LAB_REDIS_URL": notes.url}
        stack = _stack(url, variables)
        made = Stage(server, links, stack, ports, clocks, pools, nodes, notes)
        held.push_async_callback(asyncio.to_thread, made.end)
        await made.start(workers)
        yield made


def _clock(ahead: Sequence[float], number: int) -> dict[str, str]:
    """Variables for a process; none for one whose clock is right."""
    off = ahead[number] if number < len(ahead) else 0.0
    return clock_off_by(off) if off else {}


def _stack(redis_url: str, settings: Mapping[str, str] | None) -> Stack:
    return Stack(
        redis_url,
        APP,
        f"lab-{secrets.token_hex(3)}",
        **{
            # As in production, where tests are more patient.
            "QUEUE_RUN_AUTHENTICATE_TIMEOUT": "10",
            "QUEUE_RUN_DEADLINE_GRACE": "5",
            "QUEUE_RUN_PUBLISH_TIMEOUT": "5",
            # Kills are noticed sooner than by default, so that runs are shorter.
            "QUEUE_RUN_HEARTBEAT_INTERVAL": "1",
            "QUEUE_RUN_PING_INTERVAL": "2",
            "QUEUE_RUN_PING_TIMEOUT": "4",
            "QUEUE_RUN_OFFLINE_DELAY": "2",
            "QUEUE_RUN_LOG_LEVEL": "INFO",
            **(settings or {}),
        },
    )


def end_children() -> int:
    """Kill whatever this process has started and not ended, by pid; how many they were.

    That is nothing, unless a run was broken off while it started something.
    """
    left = [
        int(pid)
        for thread in Path("/proc/self/task").iterdir()
        for pid in (thread / "children").read_text().split()
    ]
    for pid in left:
        # Those that have ended by themselves wait here to be collected.
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return len(left)


class Memory:
    """What a process holds now."""

    @staticmethod
    def bytes(pid: int) -> int:
        """Memory of its own."""
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
        return 0

    @staticmethod
    def descriptors(pid: int) -> int:
        return len(list(Path(f"/proc/{pid}/fd").iterdir()))


async def within(check: Any, what: str, deadline: float = DEADLINE) -> None:
    """Wait until the check is true.

    Raises:
        AssertionError: at the deadline.
    """
    await eventually_async(check, what=what, deadline=deadline)


def percentile(values: list[float], share: float) -> float:
    """The value below which this share lies; 0 without values."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


def now() -> float:
    return time.monotonic()
