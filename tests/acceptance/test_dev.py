"""`queue-run dev` as a whole: a real application, a real WebSocket, and nothing left behind."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tornado.httpclient import AsyncHTTPClient
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus, WebSocketException

from queue_run.cli.development.redis_server.embedded import choose_source
from tests.conftest import WriteApp, write_files
from tests.parts import require
from tests.processes import PATIENT, Process, RedisServer, environment
from tests.unit.cli.running import descendants, processes
from tests.waiting import DEADLINE, POLL, eventually, eventually_async

ECHO = "async def handler(data):\n    return {'echo': data}\n"
SHOUT = "async def handler(data):\n    return {'shout': data.upper()}\n"
TICK = """\
from queue_run import Config
config = Config(schedule="every second")

def handler(job):
    print("{} runs", flush=True)
"""
#: Seconds for which a handshake waits for its worker here.
PATIENCE = float(PATIENT["QUEUE_RUN_AUTHENTICATE_TIMEOUT"])
#: Seconds that a file takes to load: longer than a busy machine takes for anything else.
LOADS = 15
#: The first attempt neither ends by itself nor when asked to.
STUBBORN = """\
import time

def handler(job, *, attempt):
    print(f"attempt {attempt} runs", flush=True)
    if attempt == 1:
        time.sleep(600)
"""
#: Neither ends by itself nor when asked to.
BLOCK = (
    "import time\n\n"
    "def handler(data):\n    print('handler runs', flush=True)\n    time.sleep(600)\n"
)


class Dev(Process):
    """A development session for one application."""

    def __init__(self, app: Path, **variables: str) -> None:
        self.app = app
        super().__init__(
            [sys.executable, "-m", "queue_run", "dev", "--port", "0", "--app", str(app)],
            environ=environment(**{**PATIENT, **variables}),
        )

    def wait_until_ready(self) -> "Dev":
        self.wait_for_output("Ctrl+C stops everything")
        return self

    @property
    def ws(self) -> str:
        return self.output.partition("WebSocket ")[2].split()[0]

    @property
    def redis_url(self) -> str:
        return self.output.partition("\n  REDIS_URL=")[2].split()[0]

    def push(self, queue: str) -> str:
        """Push a job with the command; its id."""
        command = [sys.executable, "-m", "queue_run", "queue", "push", queue]
        environ = environment(REDIS_URL=self.redis_url)
        ran = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=DEADLINE)
        assert ran.returncode == 0, ran
        return ran.stdout.strip()

    def find(self, text: str) -> list[int]:
        """The processes that have this in their command."""
        return [each.pid for each in descendants(self.pid) if text in each.command]

    def pids(self) -> set[int]:
        """All processes of the session but the first, when the last of them has started."""
        self.wait_for_output("jobs@")
        return {each.pid for each in descendants(self.pid)}


def assert_gone(pids: set[int]) -> None:
    assert len(pids) >= 6, "Redis, the push server, two workers, beat and the reaper"
    eventually(lambda: not pids & {each.pid for each in processes()}, what=f"the end of {pids}")


def opened(url: str) -> connect:
    """A client that waits for a machine that stalls."""
    return connect(url, open_timeout=DEADLINE, ping_interval=None)


async def ask(client: ClientConnection, data: object) -> object:
    await client.send(json.dumps(data))
    async with asyncio.timeout(DEADLINE):
        return json.loads(await client.recv())


async def eventually_answers(client: ClientConnection, data: object, answer: object) -> None:
    """Until a worker with the newest files answers, the one before it may."""
    until = time.monotonic() + DEADLINE
    while (given := await ask(client, data)) != answer:
        assert time.monotonic() < until, f"still {given}"


@pytest.fixture
def dev(write_app: WriteApp) -> Iterator[Callable[..., Dev]]:
    require(choose_source(), "a Redis server")
    sessions: list[Dev] = []

    def start(files: dict[str, str], **variables: str) -> Dev:
        sessions.append(Dev(write_app(files), **variables))
        return sessions[-1]

    yield start
    for session in sessions:
        print(session.output)  # noqa: T201
        session.end()


async def test_it_comes_up_and_answers(dev: Callable[..., Dev]) -> None:
    session = dev({"sockets/index.py": ECHO}).wait_until_ready()
    async with opened(session.ws) as client:
        assert await ask(client, "hi") == {"echo": "hi"}


async def test_a_page_that_calls_it_by_a_name_of_its_own_is_refused(
    dev: Callable[..., Dev],
) -> None:
    session = dev(
        {"sockets/index.py": ECHO, "public/index.html": "<p>the page"},
        QUEUE_RUN_ALLOWED_HOSTS="mine.example",
    )
    session.wait_until_ready()
    port = urlsplit(session.ws).port
    page = f"http://127.0.0.1:{port}"
    for host, status in (("evil.example", 403), (f"localhost:{port}", 200), ("mine.example", 200)):
        response = await AsyncHTTPClient().fetch(
            page,
            headers={"Host": host},
            raise_error=False,
            connect_timeout=DEADLINE,
            request_timeout=DEADLINE,
        )
        assert response.code == status
    with pytest.raises(InvalidStatus) as refused:
        await connect(
            f"ws://evil.example:{port}/", host="127.0.0.1", port=port, open_timeout=DEADLINE
        )
    assert refused.value.response.status_code == 403


async def test_a_changed_handler_answers_on_a_connection_that_stayed_open(
    dev: Callable[..., Dev],
) -> None:
    session = dev({"sockets/index.py": ECHO}).wait_until_ready()
    async with opened(session.ws) as client:
        assert await ask(client, "hi") == {"echo": "hi"}
        write_files(session.app, {"sockets/index.py": SHOUT})
        await eventually_async(
            lambda: "sockets/index.py changed" in session.output, what="the line about the change"
        )
        await eventually_answers(client, "hi", {"shout": "HI"})
    assert session.output.count("listens on") == 1


async def test_a_broken_file_is_reported_and_its_repair_is_enough(
    dev: Callable[..., Dev],
) -> None:
    session = dev({"sockets/index.py": ECHO}).wait_until_ready()
    async with opened(session.ws) as client:
        assert await ask(client, "hi") == {"echo": "hi"}
        # That of jobs loads the files, too, and nobody waits for it.
        await eventually_async(
            lambda: re.search(r"jobs@\S+ ready\.", session.output), what="the worker of jobs"
        )
        before = session.find("sockets@%h"), session.find("jobs@%h")
        write_files(session.app, {"sockets/index.py": "def handler(:\n"})
        while "workers cannot load the files as they are" not in session.output:
            # Somebody answers at every moment, and nobody who connects has to wait.
            assert await ask(client, "hi") == {"echo": "hi"}
            async with opened(session.ws) as other:
                assert await ask(other, "hi") == {"echo": "hi"}
        assert session.output.count("sockets/index.py: line 1: invalid syntax") == 1
        assert "those before run on" in session.output
        assert await ask(client, "hi") == {"echo": "hi"}
        assert (session.find("sockets@%h"), session.find("jobs@%h")) == before
        write_files(session.app, {"sockets/index.py": SHOUT})
        await eventually_answers(client, "hi", {"shout": "HI"})


async def test_a_change_lets_nobody_wait(dev: Callable[..., Dev]) -> None:
    authenticate = "async def on_authenticate(request):\n    return {'id': 'ann'}\n"
    session = dev({"sockets/index.py": ECHO, "sockets/_middleware.py": authenticate})
    session.wait_until_ready()
    write_files(session.app, {"sockets/index.py": f"import time\ntime.sleep({LOADS})\n{SHOUT}"})
    waits = []
    answer: object = {}
    while not isinstance(answer, dict) or "shout" not in answer:
        began = time.monotonic()
        async with opened(session.ws) as client:
            answer = await ask(client, "hi")
        waits.append(time.monotonic() - began)
    # A worker takes longer to start, and that once was the time for which they waited.
    assert max(waits) < LOADS, waits
    assert len(waits) > 10


async def test_a_change_while_files_load_is_the_one_that_counts(dev: Callable[..., Dev]) -> None:
    session = dev({"sockets/index.py": ECHO}).wait_until_ready()
    slow = "import time\nprint('loads slowly', flush=True)\ntime.sleep(600)\n"
    write_files(session.app, {"sockets/index.py": slow})
    await eventually_async(lambda: "loads slowly" in session.output, what="the slow file")
    async with opened(session.ws) as client:
        assert await ask(client, "hi") == {"echo": "hi"}
        await eventually_async(lambda: "still load" in session.output, what="a word about it")
        write_files(session.app, {"sockets/index.py": SHOUT})
        await eventually_answers(client, "hi", {"shout": "HI"})


async def test_an_application_that_is_broken_from_the_start_can_be_mended(
    dev: Callable[..., Dev],
) -> None:
    session = dev({"sockets/index.py": "import no_such_module\n"})
    session.wait_for_output("no_such_module")
    session.wait_for_output("sockets ended (exit code 2, see above)")
    session.wait_for_output("listens on ")
    url = session.output.partition("listens on http")[2].split()[0]
    began = time.monotonic()
    with pytest.raises(InvalidStatus) as refusal:
        async with opened(f"ws{url}"):
            pass
    # At once, and not when somebody gives up.
    assert time.monotonic() - began < PATIENCE
    assert refusal.value.response.status_code == 503
    assert b"sockets/index.py: line 1: ModuleNotFoundError" in refusal.value.response.body
    write_files(session.app, {"sockets/index.py": ECHO})
    session.wait_until_ready()
    async with opened(session.ws) as client:
        assert await ask(client, "hi") == {"echo": "hi"}


async def test_a_file_that_ends_the_process_while_it_loads_leaves_the_good_worker_alone(
    dev: Callable[..., Dev],
) -> None:
    session = dev({"sockets/index.py": ECHO}).wait_until_ready()
    async with connect(session.ws) as client:
        [worker] = session.find("sockets@%h")
        write_files(session.app, {"sockets/other.py": "import os\nos._exit(1)\n"})
        ended = "a new worker ended while it loaded the files (exit code 1)"
        await eventually_async(lambda: session.output.count(ended) == 2, what="two tries")
        assert await ask(client, "hi") == {"echo": "hi"}
        assert worker in session.find("sockets@%h")
        write_files(session.app, {"sockets/other.py": ECHO, "sockets/index.py": SHOUT})
        await eventually_answers(client, "hi", {"shout": "HI"})


AUTHENTICATE = "async def on_authenticate(request):\n    return {'id': 'ann'}\n"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "ended"])
async def test_the_end_of_the_good_worker_while_files_are_broken_is_told_at_once(
    dev: Callable[..., Dev], number: signal.Signals
) -> None:
    session = dev({"sockets/index.py": ECHO, "sockets/_middleware.py": AUTHENTICATE})
    session.wait_until_ready()
    write_files(session.app, {"sockets/_middleware.py": "def on_authenticate(:\n"})
    await eventually_async(lambda: "those before run on" in session.output, what="the failure")
    [worker] = session.find("sockets@%h")
    os.kill(worker, number)
    await eventually_async(lambda: "sockets ended (" in session.output, what="its end")
    # Who comes before anybody knows of it waits for that, and not until nobody can answer any more.
    waiting = asyncio.create_task(refused(session.ws))
    await eventually_async(
        lambda: "sockets ended (exit code 2, see above)" in session.output, what="the next one's"
    )
    began = time.monotonic()
    early, late = await waiting, await refused(session.ws)
    # A worker that does not answer is waited for until this time is over.
    assert time.monotonic() - began < PATIENCE / 2
    for body in (early, late):
        assert b"no worker is there: " in body
        assert b"sockets/_middleware.py: line 1: invalid syntax" in body
    write_files(session.app, {"sockets/_middleware.py": AUTHENTICATE})
    there = "workers are there"
    await eventually_async(lambda: session.output.count(there) == 2, what="new workers")
    async with opened(session.ws) as client:
        assert await ask(client, "hi") == {"echo": "hi"}


async def refused(url: str) -> bytes:
    """What is said to whoever connects in vain."""
    with pytest.raises(InvalidStatus) as refusal:
        async with opened(url):
            pass
    assert refusal.value.response.status_code == 503
    return bytes(refusal.value.response.body)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_everything(dev: Callable[..., Dev], number: signal.Signals) -> None:
    session = dev({"sockets/index.py": ECHO}).wait_until_ready()
    pids = session.pids()
    session.send(number)
    assert session.wait() == 0
    assert "killed" not in session.output.partition("stopping (Ctrl+C again kills at once)")[2]
    assert_gone(pids)


async def test_the_end_waits_for_what_clients_have_asked(dev: Callable[..., Dev]) -> None:
    slow = (
        "import asyncio\n\nasync def handler(data):\n"
        "    print('handler runs', flush=True)\n    await asyncio.sleep(2)\n    return data\n"
    )
    session = dev({"sockets/index.py": slow}).wait_until_ready()
    async with opened(session.ws) as client:
        # The second is still with the push server when the signal comes, and needs a worker then.
        await client.send("1")
        await client.send("2")
        await eventually_async(lambda: "handler runs" in session.output, what="the handler")
        session.send(signal.SIGINT)
        assert [await client.recv(), await client.recv()] == ["1", "2"]
    assert await asyncio.to_thread(session.wait) == 0


async def test_a_second_interrupt_does_not_wait_for_a_handler(dev: Callable[..., Dev]) -> None:
    session = dev({"sockets/index.py": BLOCK}, QUEUE_RUN_SHUTDOWN_GRACE="600").wait_until_ready()
    pids = session.pids()
    async with opened(session.ws) as client:
        await client.send("hi")
        await eventually_async(lambda: "handler runs" in session.output, what="the handler")
        session.send(signal.SIGINT)
        await eventually_async(lambda: "stopping" in session.output, what="the answer to Ctrl+C")
        session.send(signal.SIGINT)
        assert session.wait() == 0
    assert_gone(pids)


def test_killing_the_supervisor_leaves_no_process(dev: Callable[..., Dev]) -> None:
    session = dev({"sockets/index.py": ECHO}).wait_until_ready()
    pids = session.pids()
    session.send(signal.SIGKILL)
    assert session.wait() == -signal.SIGKILL
    assert_gone(pids)


@pytest.mark.parametrize("name", ["sockets@%h", "push_server", "redis"])
async def test_a_process_that_is_killed_is_replaced(dev: Callable[..., Dev], name: str) -> None:
    session = dev({"sockets/index.py": ECHO}).wait_until_ready()
    # What the servers that can be the Redis here have in common is their port.
    text = session.redis_url.rpartition(":")[2].removesuffix("/0") if name == "redis" else name
    [killed] = session.find(text)
    os.kill(killed, signal.SIGKILL)
    await eventually_async(lambda: "(killed by SIGKILL)" in session.output, what="the report")
    await eventually_echoes(session)
    assert session.find(text) not in ([], [killed])


async def eventually_echoes(session: Dev) -> None:
    """While processes start again, connecting may fail and a message may end in an error."""
    until = time.monotonic() + DEADLINE
    answer: object = None
    while answer != {"echo": "hi"}:
        assert time.monotonic() < until, answer
        await asyncio.sleep(POLL)
        try:
            async with opened(session.ws) as client:
                answer = await ask(client, "hi")
        except (OSError, WebSocketException) as error:
            answer = error


# Jobs


def test_beat_runs_the_schedules_that_the_files_have_now(
    dev: Callable[..., Dev], tmp_path: Path
) -> None:
    files = {"sockets/index.py": ECHO, "queues/tick.py": TICK.format("tick")}
    session = dev(files, TMPDIR=str(tmp_path)).wait_until_ready()
    session.wait_for_output("tick runs")
    (session.app / "queues" / "tick.py").unlink()
    write_files(session.app, {"queues/tock.py": TICK.format("tock")})
    session.wait_for_output("tock runs")

    def after() -> str:
        return session.output.partition("tock runs")[2]

    eventually(lambda: after().count("tock runs") > 3, what="more runs of the new schedule")
    assert "tick runs" not in after()

    [folder] = tmp_path.glob("queue-run-*")
    assert list(folder.glob("beat-schedule*"))
    pids = session.pids()
    session.send(signal.SIGINT)
    assert session.wait() == 0
    assert_gone(pids)
    assert not folder.exists()
    assert not list(session.app.rglob("*beat*"))


def test_a_job_that_a_change_has_cut_short_runs_again_soon(dev: Callable[..., Dev]) -> None:
    session = dev(
        {"sockets/index.py": ECHO, "queues/slow.py": STUBBORN},
        QUEUE_RUN_HEARTBEAT_INTERVAL="0.5",
    ).wait_until_ready()
    session.wait_for_output("jobs@")
    job_id = session.push("slow")
    session.wait_for_output("attempt 1 runs")
    write_files(session.app, {"sockets/index.py": SHOUT})
    session.wait_for_output("jobs did not end within 5 s: killed")
    # The visibility timeout, after which Redis would hand it out by itself, is ten minutes.
    session.wait_for_output("attempt 2 runs")
    session.wait_for_output(f"slow[{job_id}] finished")


def test_a_job_whose_worker_is_killed_runs_again_soon(dev: Callable[..., Dev]) -> None:
    session = dev(
        {"sockets/index.py": ECHO, "queues/slow.py": STUBBORN},
        QUEUE_RUN_HEARTBEAT_INTERVAL="0.5",
    ).wait_until_ready()
    session.push("slow")
    session.wait_for_output("attempt 1 runs")
    # Beat is its child, with the same command.
    before = session.find("jobs@%h")
    os.kill(min(before), signal.SIGKILL)
    session.wait_for_output("attempt 2 runs")
    assert not set(before) & set(session.find("jobs@%h"))


async def test_workers_come_back_with_a_redis_that_was_away(
    dev: Callable[..., Dev], own_redis: RedisServer
) -> None:
    session = dev({"sockets/index.py": ECHO}, REDIS_URL=own_redis.url).wait_until_ready()
    own_redis.kill()
    write_files(session.app, {"sockets/index.py": SHOUT})
    await eventually_async(
        lambda: "(exit code 1): those before run on" in session.output,
        what="a new worker to find no Redis",
    )
    own_redis.start()
    async with opened(session.ws) as client:
        await eventually_answers(client, "hi", {"shout": "HI"})
