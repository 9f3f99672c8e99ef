"""What the parts cost alone: no program of this kind can be cheaper.

`python -m benchmarks.floors echo` is a bare Tornado echo, `… send` a WebSocket server that writes
frames with nothing between it and the kernel.
"""

import asyncio
import base64
import hashlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import redis
from celery import Celery
from kombu import Queue
from tornado.web import Application
from tornado.websocket import WebSocketHandler

from benchmarks import cpu
from benchmarks.exercises import TEXT
from benchmarks.load import Crowd
from benchmarks.programs import celery_worker, wait_for_workers
from benchmarks.works import PATIENCE, USERS, Size
from tests.processes import ROOT, Process, RedisServer, environment, free_port
from tests.waiting import eventually

REDIS_URL = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0")
#: RFC 6455, 1.3.
MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

app = Celery("floors", broker=REDIS_URL)
app.conf.update(task_ignore_result=True, broker_connection_retry_on_startup=True)
if os.environ.get("ACKS") == "off":
    app.conf.task_queues = [Queue("celery", no_ack=True)]


@app.task(name="nothing")
def nothing() -> None:
    pass


class Echo(WebSocketHandler):
    def on_message(self, message: str | bytes) -> None:
        text = message if isinstance(message, str) else message.decode()
        self.write_message(f'{{"echo":{text}}}')


async def echo(port: int) -> None:
    Application([(r"/.*", Echo)]).listen(port, "127.0.0.1")
    await asyncio.Event().wait()


async def send(port: int, messages: int = 100) -> None:
    """Greet each connection; when a line comes on stdin, write to all of them."""
    loop = asyncio.get_running_loop()
    connections: list[int] = []
    listening = socket.create_server(("127.0.0.1", port), backlog=1024)
    listening.setblocking(False)

    async def accept() -> None:
        while True:
            connection, _ = await loop.sock_accept(listening)
            if await _greet(connection):
                connections.append(connection.detach())

    accepting = asyncio.create_task(accept())
    await loop.run_in_executor(None, sys.stdin.readline)
    accepting.cancel()
    for number in range(messages):
        body = b'{"run": 1, "n": %d, "at": %d, "to": "one", "text": "%s"}' % (
            number,
            time.perf_counter_ns(),
            TEXT.encode(),
        )
        frame = bytes([0x81, len(body)]) + body
        for connection in connections:
            os.write(connection, frame)
    await asyncio.sleep(PATIENCE)


async def _greet(connection: socket.socket) -> bool:
    loop = asyncio.get_running_loop()
    head = b""
    while b"\r\n\r\n" not in head:
        some = await loop.sock_recv(connection, 4096)
        if not some:
            connection.close()
            return False
        head += some
    key = next(
        line.partition(b": ")[2]
        for line in head.split(b"\r\n")
        if line.lower().startswith(b"sec-websocket-key:")
    )
    accepted = base64.b64encode(hashlib.sha1(key + MAGIC).digest())
    await loop.sock_sendall(
        connection,
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
        b"Connection: Upgrade\r\nSec-WebSocket-Accept: " + accepted + b"\r\n\r\n",
    )
    return True


def floors(size: Size) -> dict[str, list[dict[str, float]]]:
    """CPU of each, as often as rounds are wanted."""
    with _echo_server() as (server, crowd):
        crowd.connect(100, users=USERS)
        echoes = [_echoed(server, crowd, size.seconds / 2) for _ in range(size.rounds)]
    return {
        "bare Tornado echo, ms per echo": echoes,
        "bare write to 1,000 sockets, s per 100,000": [_sent() for _ in range(size.rounds)],
        "bare Celery task, solo, ms per task": _tasks(size),
        "bare Celery task, solo, acks off, ms per task": _tasks(size, ACKS="off"),
    }


@contextmanager
def _echo_server() -> Iterator[tuple[int, Crowd]]:
    port = free_port()
    server = Process(
        [sys.executable, "-m", "benchmarks.floors", "echo", str(port)], environ=environment()
    )
    crowd = Crowd("plain", f"ws://127.0.0.1:{port}/")
    try:
        eventually(lambda: _listens(port), what="the echo server")
        yield server.pid, crowd
    finally:
        crowd.end()
        server.kill()
        server.end()


def _echoed(server: int, crowd: Crowd, seconds: float) -> dict[str, float]:
    before = cpu.cpu_seconds(server)
    answer = crowd.ask("round_trips", seconds=seconds)
    return {"cpu": (cpu.cpu_seconds(server) - before) / answer["count"] * 1e3}


def _sent(connections: int = 1000, messages: int = 100) -> dict[str, float]:
    port = free_port()
    server = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.floors", "send", str(port)],
        stdin=subprocess.PIPE,
        env=environment(),
        cwd=ROOT,
    )
    crowd = Crowd("plain", f"ws://127.0.0.1:{port}/")
    try:
        eventually(lambda: _listens(port), what="the server of bare writes")
        crowd.connect(connections, users="")
        crowd.ask("listen", run=1, messages=messages)
        before = cpu.cpu_seconds(server.pid)
        assert server.stdin is not None
        server.stdin.write(b"\n")
        server.stdin.flush()
        answer = crowd.ask("heard", deadline=PATIENCE)
        return {"cpu": (cpu.cpu_seconds(server.pid) - before) / answer["count"] * 1e5}
    finally:
        crowd.end()
        server.kill()
        server.communicate()


def _tasks(size: Size, **variables: str) -> list[dict[str, float]]:
    """Of the worker and Redis, from the push of tasks to their end."""
    server = RedisServer()
    environ = environment(REDIS_URL=server.url, **variables)
    worker = celery_worker("benchmarks.floors", "-P", "solo", environ=environ)
    try:
        with Celery(broker=server.url) as sender, server.client() as client:
            wait_for_workers(sender, 1)
            rounds = []
            for _ in range(size.rounds):
                before = cpu.cpu_seconds(worker.pid) + cpu.cpu_seconds(server.process.pid)
                _push(sender, size.jobs)
                _wait(client)
                after = cpu.cpu_seconds(worker.pid) + cpu.cpu_seconds(server.process.pid)
                rounds.append({"cpu": (after - before) / size.jobs * 1e3})
            return rounds
    finally:
        worker.kill()
        worker.end()
        server.end()


def _push(sender: Celery, count: int) -> None:
    with sender.producer_pool.acquire(block=True) as producer:
        for _ in range(count):
            sender.send_task("nothing", producer=producer, ignore_result=True)


def _wait(client: "redis.Redis") -> None:
    eventually(
        lambda: not client.exists("celery", "unacked"), what="the end of all tasks", deadline=120
    )
    time.sleep(0.1)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


if __name__ == "__main__":
    asyncio.run({"echo": echo, "send": send}[sys.argv[1]](int(sys.argv[2])))
