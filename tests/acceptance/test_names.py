"""Names and ids from clients, tokens, applications and other programs, through real processes: one
that cannot be used is an error to whoever gave it, and nothing else is lost by it."""

import base64
import hmac
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery
from tornado.httpclient import AsyncHTTPClient
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from tests.clients import connected
from tests.conftest import new_namespace, write_files
from tests.processes import RedisServer, Stack
from tests.waiting import eventually

KEY = "a-key-of-a-program"
SECRET = "k" * 32
#: What the application is told to take.
NAMES: dict[str, Any] = {
    "half": "a\ud83d",
    "nul": "a\0b",
    "line": "a\n2026-01-01 00:00:00,000 ERROR forged",
    "colour": "\x1b[31mx",
    "empty": "",
    "long": "x" * 100_000,
}
APP = {
    "sockets/_middleware.py": f"""
from queue_run import jwt

NAMES = {NAMES!r}


async def on_authenticate(request):
    if "token" in request.query:
        claims = jwt.verify(request.query["token"], key="{SECRET}", algorithms=["HS256"])
        return {{"id": claims["sub"]}}
    return {{"id": NAMES.get(request.query.get("name"), "ann")}}
""",
    "sockets/index.py": """
import asyncio

from queue_run import QueueRunError, UnknownDeadLetter, as_user, dead_letters, queues, socket
from sockets._middleware import NAMES


async def as_other(name):
    with as_user({"id": name}):
        pass


TAKE = {
    "join": socket.join,
    "leave": socket.leave,
    "room": lambda name: socket.room(name).send(1),
    "to": lambda name: socket.to(name).send(1),
    "is_online": socket.is_online,
    "as_user": as_other,
    "queue": lambda name: queues.get(name).push(1),
    "group": lambda name: queues.get("ordered").group(name).push(1),
    "dedupe": lambda name: queues.get("ordered").group("g").dedupe(name).push(1),
    "param": lambda name: queues.get("ordered").group("p").push(1, params={name: "x"}),
    "cancel": queues.cancel,
    "letter": lambda name: asyncio.to_thread(dead_letters.get, name),
    "retry": lambda name: asyncio.to_thread(dead_letters.retry, name),
    "drop": lambda name: asyncio.to_thread(dead_letters.drop, name),
}


async def handler(data):
    what, name = data
    try:
        await TAKE[what](NAMES[name])
    except QueueRunError as error:
        return [type(error).__name__, str(error)[:500]]
    return ["taken", ""]
""",
    "queues/tell.py": """
from queue_run import socket


async def handler(job, job_id):
    await socket.to("ann").send([job, job_id[:10]])
""",
    "queues/ordered.py": """
from queue_run import Config

config = Config(fifo=True)


def handler(job): pass
""",
}


@pytest.fixture(scope="module")
def site(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    app = write_files(tmp_path_factory.mktemp("names") / "app", APP)
    stack = Stack(redis_server.url, app, new_namespace(), QUEUE_RUN_API_KEYS=KEY)
    stack.push_server()
    stack.worker("-P", "threads", "-c", "2")
    stack.wait_until_ready()
    yield stack
    print(stack.logs())  # noqa: T201
    stack.end()


def refused(what: str, name: str) -> str | None:
    """With which error a name is refused; None for one that can be used."""
    if what == "queue":
        return "InvalidName" if name != "long" else "UnknownQueue"
    if what == "param":
        return "NotEncodable" if name == "half" else None
    if name in ("half", "empty"):
        return "InvalidName"
    if what in ("letter", "retry", "drop"):
        return "UnknownDeadLetter"
    if name == "long" and what not in ("dedupe", "cancel"):
        return "InvalidName"
    return None


@pytest.mark.parametrize(
    "what",
    [
        *("join", "leave", "room", "to", "is_online", "as_user", "queue", "group", "dedupe"),
        *("param", "cancel", "letter", "retry", "drop"),
    ],
)
async def test_a_name_that_cannot_be_used_is_an_error_that_says_so(site: Stack, what: str) -> None:
    async with connected(site.ws("/")) as client:
        for name in NAMES:
            kind, text = await client.ask([what, name])
            assert kind == (refused(what, name) or "taken"), (name, text)
            if name == "half" and kind != "taken" and what != "queue":
                assert "half a character" in text
            assert text.isprintable()


def token(subject: object) -> str:
    def encoded(data: bytes) -> bytes:
        return base64.urlsafe_b64encode(data).rstrip(b"=")

    signed = encoded(b'{"alg":"HS256"}') + b"." + encoded(json.dumps({"sub": subject}).encode())
    seal = hmac.digest(SECRET.encode(), signed, "sha256")
    return f"{signed.decode()}.{encoded(seal).decode()}"


@pytest.mark.parametrize(
    ("subject", "status"),
    [
        *(("", 401), ("a\ud83d", 401), ("x" * 9_000, 401), (None, 401), (1.5, 401), ([1], 401)),
        *(("a\0b", 101), ("a\nb", 101), ("\x1b[31m", 101), (7, 101), ("ann", 101)),
    ],
    ids=repr,
)
async def test_a_token_about_nobody_is_refused(site: Stack, subject: object, status: int) -> None:
    try:
        async with connect(site.ws(f"/?token={token(subject)}")) as client:
            assert client.response is not None
            found = client.response.status_code
    except InvalidStatus as refusal:
        found = refusal.response.status_code
    assert found == status


@pytest.mark.parametrize("name", ["half", "empty", "long"])
async def test_an_id_that_cannot_be_used_is_no_defect(site: Stack, name: str) -> None:
    before = len(site.workers[0].output)
    with pytest.raises(InvalidStatus) as caught:
        await connect(site.ws(f"/?name={name}"))
    assert caught.value.response.status_code == 401
    assert b"user id" in caught.value.response.body
    assert "Traceback" not in site.workers[0].output[before:]


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("a%ff", 400, "the path is not in UTF-8"),
        ("a%ED%A0%BD", 400, "the path is not in UTF-8"),
        ("a%0ab", 404, "no worker offers"),
        ("%1b%00", 404, "no worker offers"),
        # Else they would be one, as would the jobs of two such dedupe ids.
        ("ordered?group=%ff", 400, "group and dedupe are in UTF-8"),
        ("ordered?group=g&dedupe=%fe", 400, "group and dedupe are in UTF-8"),
        ("ordered?group=%EF%BF%BD", 202, "job"),
        ("ordered?group=" + "x" * 9_000, 400, "a group id has 1,024 bytes at most, not 9,000"),
        ("ordered?group=a%0ab%00", 202, "job"),
    ],
)
async def test_names_in_a_push_by_http(site: Stack, path: str, status: int, words: str) -> None:
    answer = await AsyncHTTPClient().fetch(
        f"{site.url}/_/queues/{path}",
        method="POST",
        headers={"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"},
        body="1",
        raise_error=False,
    )
    assert (answer.code, words in answer.body.decode()) == (status, True), answer.body


async def test_tasks_of_others_with_such_names_hold_up_nothing(site: Stack) -> None:
    worker = site.workers[0]
    queue = f"{site.namespace}.jobs"
    expected = sorted(
        f"{what} {name}"
        for what in ("id", "header")
        for name in NAMES
        if what == "header" or name not in ("half", "empty")
    )
    with Celery(broker=site.environ()["REDIS_URL"]) as others:
        async with connected(site.ws("/")) as client:
            assert await client.ask(["is_online", "nul"]) == ["taken", ""]

            def send(task: str, *arguments: object, **options: Any) -> None:
                others.send_task(task, args=arguments, queue=queue, **options)

            for name, value in NAMES.items():
                if value:
                    # Others were cancelled above.
                    send("queues.tell", f"id {name}", task_id=f"{value} of a task")
                send("queues.tell", f"header {name}", headers={"queue_run": value})
                send("queue_run.drain", "ordered", value)
            told = [(await client.receive())[0] for _ in expected]
    unread = eventually(lambda: set_aside(site), what="what is set aside")
    assert sorted(told) == expected
    assert {each["reason"].partition(":")[0] for each in unread} == {"InvalidName"}
    assert worker.running
    assert "failed unexpectedly" not in worker.output
    assert "\n2026-01-01" not in worker.output


def set_aside(site: Stack) -> list[dict[str, Any]]:
    """Of a job the id, and of two drains the groups: those that are half, or empty."""
    done = command(site, "queue", "unreadable", "list", "--json")
    found = [json.loads(line) for line in done.stdout.splitlines()]
    return found if len(found) == 3 else []


def command(
    site: Stack, *words: str | bytes, **variables: bytes
) -> subprocess.CompletedProcess[bytes]:
    environ = {os.fsencode(name): os.fsencode(text) for name, text in site.environ().items()}
    environ |= {name.encode(): text for name, text in variables.items()}
    return subprocess.run(
        [sys.executable, "-m", "queue_run", *words], env=environ, capture_output=True, check=False
    )


@pytest.mark.parametrize(
    "words",
    [
        ("queue", "cancel", b"a\xff"),
        ("queue", "push", b"a\xff", "1"),
        ("queue", "push", "ordered", "1", "--group", b"a\xff"),
        ("queue", "dead", "show", b"a\xff"),
        ("queue", "dead", "retry", b"a\xff"),
        ("queue", "dead", "drop", b"a\xff"),
        ("queue", "unreadable", "show", b"a\xff"),
    ],
)
def test_the_command_says_so_too(site: Stack, words: tuple[str | bytes, ...]) -> None:
    done = command(site, *words)
    assert done.returncode in (1, 2)
    assert done.stderr.startswith(b"Error: ")
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["PORT", "QUEUE_RUN_SESSION_SECRET", "QUEUE_RUN_EXPOSE_ERRORS"])
def test_a_setting_that_is_no_text_is_named(site: Stack, name: str) -> None:
    environ = {os.fsencode(each): os.fsencode(text) for each, text in site.environ().items()}
    environ[name.encode()] = b"\xff" * 40
    done = subprocess.run(
        [sys.executable, "-m", "push_server"], env=environ, capture_output=True, check=False
    )
    assert done.returncode == 2
    assert f"{name}: it is not in UTF-8".encode() in done.stderr
