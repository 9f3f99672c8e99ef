"""What fails is told, and costs nothing else: processes and links die under load."""

import asyncio
import signal
import socket
from collections import Counter
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from queue_run.channel.publisher import Publisher
from queue_run.contracts.envelopes import ToUsers, encode
from queue_run.contracts.ids import UserId
from queue_run.contracts.keys import Keys
from queue_run.contracts.messages import encode as encode_message
from tests.acceptance.conftest import MESSAGES_APP
from tests.clients import Client, connected
from tests.conftest import NewStack
from tests.processes import RedisServer, Stack
from tests.waiting import DEADLINE, eventually, eventually_async

#: Beyond a handler's own timeout, how long push servers wait for an outcome that does not come.
SHORT_GRACE = {"QUEUE_RUN_DEADLINE_GRACE": "2"}
#: Longer than any of these tests: what ends sooner has not waited for the end of it.
LONG_SHUTDOWN = {"QUEUE_RUN_SHUTDOWN_GRACE": f"{3 * DEADLINE:g}"}


@pytest.fixture
def stack(redis_server: RedisServer, new_stack: NewStack, request: pytest.FixtureRequest) -> Stack:
    """A push server and a worker of the test's own, with the settings that it asks for."""
    settings: dict[str, str] = getattr(request, "param", {})
    stack = new_stack(redis_server, MESSAGES_APP, **settings)
    stack.push_server()
    stack.worker("-P", "solo")
    stack.wait_until_ready()
    return stack


# Workers


@pytest.mark.parametrize("stack", [SHORT_GRACE], ids=["short grace"], indirect=True)
async def test_a_killed_worker_costs_its_request_an_error_and_a_new_one_answers_the_next(
    stack: Stack,
) -> None:
    async with connected(stack.ws("/errors")) as client:
        await client.send("kill the worker")
        assert await client.receive() == {"error": "no answer in time"}
        assert stack.workers[0].wait() == -signal.SIGKILL
        await asyncio.to_thread(
            eventually, lambda: stack.push_servers[0].get("/readyz")[0] == 503, what="its absence"
        )
        assert await client.ask("fine?") == {"error": "not available"}
        stack.worker("-P", "solo")
        await asyncio.to_thread(stack.push_servers[0].wait_until_ready)
        await until_fine(client)


async def until_fine(client: Client) -> None:
    """Ask until the answer comes in time: a busy machine may take longer than the grace."""
    async with asyncio.timeout(DEADLINE):
        while (answer := await client.ask("fine?")) != "fine":
            assert answer["error"] in ("no answer in time", "not available")


class Asker:
    """A client that asks, waits for the answer and asks again, until it is closed."""

    def __init__(self, name: int, client: Client) -> None:
        self.name = name
        self.client = client
        self.asked = 0
        self.answers: list[Any] = []
        self.closed = False

    async def run(self, stop: asyncio.Event) -> None:
        try:
            while not stop.is_set():
                self.asked += 1
                self.answers.append(
                    await self.client.ask({"client": self.name, "n": self.asked, "seconds": 0.05})
                )
        except ConnectionClosed:
            self.closed = True


@pytest.mark.parametrize("stack", [LONG_SHUTDOWN], ids=["long shutdown"], indirect=True)
async def test_sigterm_to_a_worker_under_load_leaves_no_request_without_its_outcome(
    stack: Stack,
) -> None:
    stack.worker("-P", "solo")
    stack.wait_until_ready()
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        askers = [
            await group.create_task(start_asker(stack, group, number, stop)) for number in range(20)
        ]
        await eventually_async(lambda: all(len(asker.answers) > 3 for asker in askers), what="load")
        stack.workers[0].send(signal.SIGTERM)
        assert await asyncio.to_thread(stack.workers[0].wait) == 0
        seen = [len(asker.answers) for asker in askers]
        await eventually_async(
            lambda: all(
                len(asker.answers) > count + 3 for asker, count in zip(askers, seen, strict=True)
            ),
            what="answers of the other worker",
        )
        stop.set()
    for asker in askers:
        assert asker.answers == [{"n": n} for n in range(1, asker.asked + 1)]


async def test_a_worker_finishes_what_it_accepted_before_it_ends(stack: Stack) -> None:
    async with connected(stack.ws("/slow")) as client:
        await client.send({"client": 1, "n": 1, "seconds": 3})
        await eventually_async(lambda: ran(stack), what="the handler to run")
        stack.workers[0].send(signal.SIGTERM)
        assert await client.receive() == {"n": 1}
        assert await asyncio.to_thread(stack.workers[0].wait) == 0


async def start_asker(
    stack: Stack, group: asyncio.TaskGroup, number: int, stop: asyncio.Event
) -> Asker:
    """A client in the group that asks until the event, or its connection's end."""
    ready = asyncio.get_running_loop().create_future()

    async def live() -> None:
        async with connected(stack.ws("/slow")) as client:
            asker = Asker(number, client)
            ready.set_result(asker)
            await asker.run(stop)

    group.create_task(live())
    asker: Asker = await ready
    return asker


def ran(stack: Stack) -> list[str]:
    """`client:n` of every request that a handler has run."""
    import redis

    with redis.Redis.from_url(stack.redis_url, decode_responses=True) as client:
        found = client.lrange(f"{stack.namespace}:ran", 0, -1)
    assert isinstance(found, list)
    return found


# Push servers


@pytest.mark.parametrize("stack", [LONG_SHUTDOWN], ids=["long shutdown"], indirect=True)
async def test_sigterm_to_a_push_server_under_load_lets_every_outcome_out(stack: Stack) -> None:
    """Each client has the answer to every request that was run, then a close frame with 1001."""
    async with asyncio.TaskGroup() as group:
        askers = [
            await group.create_task(start_asker(stack, group, number, asyncio.Event()))
            for number in range(20)
        ]
        await eventually_async(lambda: all(len(asker.answers) > 3 for asker in askers), what="load")
        stack.push_servers[0].send(signal.SIGTERM)
        assert await asyncio.to_thread(stack.push_servers[0].wait) == 0
    times = Counter(ran(stack))
    assert set(times.values()) == {1}
    for asker in askers:
        assert asker.closed
        answered = len(asker.answers)
        assert asker.answers == [{"n": n} for n in range(1, answered + 1)]
        assert f"{asker.name}:{answered}" in times
        assert f"{asker.name}:{answered + 1}" not in times


async def test_a_stopping_push_server_closes_with_1001_and_lets_nobody_in(stack: Stack) -> None:
    async with (
        connected(stack.ws("/slow")) as busy,
        connected(stack.ws("/")) as idle,
    ):
        await busy.send({"client": 1, "n": 1, "seconds": 2})
        await eventually_async(lambda: ran(stack), what="the handler to run")
        stack.push_servers[0].send(signal.SIGTERM)
        assert await idle.closed() == (1001, "the server is shutting down")
        with pytest.raises(OSError, match="Connect call failed"):
            async with connected(stack.ws("/")):
                pass
        assert await busy.receive() == {"n": 1}
        assert await busy.closed() == (1001, "the server is shutting down")
        assert await asyncio.to_thread(stack.push_servers[0].wait) == 0


async def test_requests_without_an_outcome_at_the_end_of_the_grace_get_an_error(
    redis_server: RedisServer, new_stack: NewStack
) -> None:
    stack = new_stack(redis_server, MESSAGES_APP, QUEUE_RUN_SHUTDOWN_GRACE="4")
    stack.push_server()
    stack.worker("-P", "solo")
    stack.wait_until_ready()
    async with connected(stack.ws("/slow")) as client:
        await client.send({"client": 1, "n": 1, "seconds": 8})
        await client.send({"client": 1, "n": 2, "seconds": 8})
        await eventually_async(lambda: ran(stack), what="the handler to run")
        stack.push_servers[0].send(signal.SIGTERM)
        assert await client.until_closed() == [{"error": "the server is shutting down"}] * 2
        assert await asyncio.to_thread(stack.push_servers[0].wait) == 0


async def test_a_client_that_does_not_read_is_dropped_and_others_lose_nothing(
    redis_server: RedisServer, new_stack: NewStack
) -> None:
    stack = new_stack(redis_server, MESSAGES_APP, QUEUE_RUN_MAX_OUTBOX_BYTES="65536")
    stack.push_server()
    stack.worker("-P", "solo")
    stack.wait_until_ready()
    async with (
        connected(stack.ws("/?user=crowd")) as reader,
        # It reads until its own buffers are full, and then no more.
        connected(stack.ws("/?user=crowd"), sock=small_socket(stack), max_queue=1) as stuck,
    ):
        publisher = Publisher(redis_server.url, timeout=DEADLINE)
        for n in range(200):
            message = encode_message({"n": n, "filler": "x" * 10_000}, limit=100_000)
            data = encode(ToUsers(users=[UserId("crowd")], message=message))
            publisher.submit(Keys(stack.namespace).broadcast, data, max_entries=1000)
            # At the pace of the one that reads: only the other one is slow.
            assert (await reader.receive())["n"] == n
        publisher.close()
        assert stack.push_servers[0].output.count("dropped: slow consumer") == 1
        assert (await stuck.closed())[0] == 1006
        assert await reader.ask("still here?") == {"echo": "still here?"}


def small_socket(stack: Stack) -> socket.socket:
    """A connected socket for which the kernel buffers little."""
    small = socket.socket()
    small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 * 1024)
    small.connect(("127.0.0.1", int(stack.url.rpartition(":")[2])))
    small.setblocking(False)
    return small


# Redis


async def test_pushes_survive_ten_cuts_of_all_links(
    redis_server: RedisServer, new_stack: NewStack
) -> None:
    """2,000 pushes to 20 clients on two push servers: every client has each once, in order."""
    stack = new_stack(redis_server, MESSAGES_APP)
    stack.push_server()
    stack.push_server()
    stack.worker("-P", "solo")
    stack.wait_until_ready()
    code = """
from queue_run import socket
for n in range(2000):
    socket.to("crowd").send({"n": n})
"""

    async def listen(number: int, ready: asyncio.Semaphore) -> list[int]:
        async with connected(stack.ws("/?user=crowd", server=number % 2)) as client:
            ready.release()
            heard = [(await client.receive())["n"] for _ in range(2000)]
            assert await client.ask("anything else?") == {"echo": "anything else?"}
            return heard

    ready = asyncio.Semaphore(0)
    async with asyncio.TaskGroup() as group:
        listeners = [group.create_task(listen(number, ready)) for number in range(20)]
        for _ in listeners:
            await ready.acquire()
        script = stack.script(code)
        await asyncio.to_thread(cut_links, redis_server, stack)
        assert await asyncio.to_thread(script.wait) == 0, script.output
    for listener in listeners:
        assert listener.result() == list(range(2000))


def cut_links(redis_server: RedisServer, stack: Stack) -> None:
    """Ten times, spread over the 2,000 pushes: cut every link but our own."""
    with redis_server.client() as admin:
        for cut in range(10):
            enough = 100 + cut * 180
            eventually(
                lambda enough=enough: admin.xlen(f"{stack.namespace}:broadcast") >= enough,  # type: ignore[misc]
                what=f"{enough} pushes",
            )
            for kind in ("normal", "pubsub"):
                admin.client_kill_filter(_type=kind, skipme=True)


async def test_redis_may_go_away_and_come_back(own_redis: RedisServer, new_stack: NewStack) -> None:
    """The processes stay up, readiness says 503, connections stay open, and work resumes."""
    stack = new_stack(own_redis, MESSAGES_APP, **SHORT_GRACE)
    server = stack.push_server()
    stack.worker("-P", "solo", queues="sockets")
    stack.worker("-P", "threads", "-c", "4", queues="jobs")
    stack.wait_until_ready()
    async with (
        connected(stack.ws("/errors?user=ann")) as client,
        connected(stack.ws("/?user=ann")) as listener,
    ):
        await until_fine(client)
        own_redis.kill()
        await eventually_async(lambda: server.get("/readyz")[0] == 503, what="readiness to fall")
        assert server.get("/healthz")[0] == 200
        assert await client.ask("fine?") == {"error": "no answer in time"}
        own_redis.start()
        await eventually_async(lambda: server.get("/readyz")[0] == 200, what="readiness to return")

        # Celery waits up to some seconds before it tries its broker again.
        await until_fine(client)
        script = stack.script("from queue_run import socket; socket.to('ann').send('back')")
        assert await asyncio.to_thread(script.wait) == 0, script.output
        assert await listener.receive() == "back"
        assert all(process.running for process in (server, *stack.workers))


async def test_without_workers_messages_are_told_and_connections_that_need_them_refused(
    redis_server: RedisServer, new_stack: NewStack
) -> None:
    stack = new_stack(redis_server, MESSAGES_APP)
    server = stack.push_server()
    assert server.get("/readyz") == (503, '{"status": "not ready", "missing": ["workers"]}')
    from tests.acceptance.test_messages import refusal

    assert (await refusal(stack.ws("/")))[0] == 503


async def test_two_namespaces_on_one_redis_never_see_each_other(
    redis_server: RedisServer, new_stack: NewStack
) -> None:
    left = new_stack(redis_server, MESSAGES_APP)
    right = new_stack(redis_server, MESSAGES_APP)
    for stack in (left, right):
        stack.push_server()
        stack.worker("-P", "solo")
    for stack in (left, right):
        stack.wait_until_ready()
    async with (
        connected(left.ws("/sends?user=ann")) as sender,
        connected(left.ws("/?user=ann")) as here,
        connected(right.ws("/?user=ann")) as there,
    ):
        await sender.send({"way": "others", "users": ["ann"], "text": "left"})
        await sender.send({"way": "job", "queue": "plain_job", "payload": 1})
        assert await here.receive() == {"sent": "left"}
        assert (await here.receive())["job"] == 1
        assert await there.ask("anything?") == {"echo": "anything?"}
        left.workers[0].send(signal.SIGTERM)
        await asyncio.to_thread(left.workers[0].wait)
        assert await there.ask("still here?") == {"echo": "still here?"}
        assert right.workers[0].running
