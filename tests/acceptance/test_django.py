"""A project of Django: its database restarts, and handlers, hooks and jobs go on."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.clients import Client, connected
from tests.conftest import NewStack, WriteApp
from tests.postgresql import PostgreSQL
from tests.processes import Process, RedisServer, Stack, environment
from tests.waiting import eventually_async

SETTINGS = """\
DATABASES = {{"default": {{
    "ENGINE": "django.db.backends.postgresql", "HOST": "127.0.0.1", "PORT": {port},
    "USER": "postgres", "NAME": "postgres", {options}
}}}}
INSTALLED_APPS = ["shop"]
USE_TZ = True
"""
MODELS = """\
from django.db import models

class Visit(models.Model):
    by = models.TextField()

    class Meta:
        app_label = "shop"
        db_table = "visit"
        managed = False
"""
MIDDLEWARE = """\
from shop.models import Visit

{define} on_authenticate(request):
    name = request.query["user"]
    {wait}Visit.objects.filter(by=name).{a}count()
    return {{"id": name}}

def on_message_received(request):
    Visit.objects.create(by="hook")

async def on_error(error, request):
    print(f"failed: {{error!r}}", flush=True)
"""
HANDLERS = {
    "plain": """\
from shop.models import Visit

def handler(data):
    Visit.objects.create(by="plain")
    return Visit.objects.filter(by="plain").count()
""",
    "asynchronous": """\
from shop.models import Visit

async def handler(data):
    await Visit.objects.acreate(by="asynchronous")
    return len([each async for each in Visit.objects.filter(by="asynchronous").aiterator()])
""",
    "threads": """\
import asyncio
from shop.models import Visit

async def handler(data):
    await asyncio.to_thread(Visit.objects.create, by="threads")
    return await asyncio.to_thread(Visit.objects.filter(by="threads").count)
""",
}
PUSHES = """\
from queue_run import queues

async def handler(data):
    for name in ("plain", "asynchronous"):
        await queues.get(name).push({})
    await queues.get("ordered").group("all").push({"dedupe": data})
"""
PLAIN_JOB = """\
from queue_run import Config, socket
from shop.models import Visit

config = Config(retries=0, notify=True, fifo={fifo})

def handler(job):
    Visit.objects.create(by="job")
"""
ASYNC_JOB = """\
from queue_run import Config, socket
from shop.models import Visit

config = Config(retries=0, notify=True)

async def handler(job):
    await Visit.objects.acreate(by="job")
"""


def project(write_app: WriteApp, database: PostgreSQL, *, options: str, wait: bool) -> Path:
    define, word, a = ("async def", "await ", "a") if wait else ("def", "", "")
    middleware = MIDDLEWARE.format(define=define, wait=word, a=a)
    return write_app(
        {
            "site_settings.py": SETTINGS.format(port=database.port, options=options),
            "shop/__init__.py": "",
            "shop/models.py": MODELS,
            "sockets/_middleware.py": middleware,
            **{f"sockets/{name}.py": text for name, text in HANDLERS.items()},
            "sockets/push.py": PUSHES,
            "queues/plain.py": PLAIN_JOB.format(fifo=False),
            "queues/ordered.py": PLAIN_JOB.format(fifo=True),
            "queues/asynchronous.py": ASYNC_JOB,
        }
    )


@pytest.fixture(scope="module")
def database() -> Iterator[PostgreSQL]:
    server = PostgreSQL()
    server.query("CREATE TABLE visit (id bigserial PRIMARY KEY, by text NOT NULL)")
    yield server
    server.end()


def connections(database: PostgreSQL) -> int:
    """Those that are open, beside the one that asks."""
    return int(
        database.query(
            "SELECT count(*) FROM pg_stat_activity "
            "WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )
    )


async def test_connections_that_are_kept_are_used_again(
    redis_server: RedisServer, new_stack: NewStack, write_app: WriteApp, database: PostgreSQL
) -> None:
    app = project(write_app, database, options='"CONN_MAX_AGE": None', wait=True)
    stack = new_stack(redis_server, app, DJANGO_SETTINGS_MODULE="site_settings")
    database.query("TRUNCATE visit")
    stack.push_server()
    stack.worker("-P", "solo", queues="sockets")
    # A prefork worker with one process; in it plain jobs run in the main thread.
    stack.worker("-c", "1", queues="jobs")
    stack.wait_until_ready()
    counts = []
    for number in range(4):
        await use_everything(stack, number)
        counts.append(connections(database))
    # One client at a time needs no more the fourth time than the second.
    assert 0 < counts[-1] <= counts[1] + 1, counts


async def receive_ends(client: Client) -> set[tuple[str, str]]:
    ends = [await client.receive() for _ in range(3)]
    return {(end["queue"], end["event"]) for end in ends}


async def use_everything(stack: Stack, number: int) -> list[Any]:
    """Connect, ask every handler, and run every job; the answers of the handlers."""
    answers = []
    for name in HANDLERS:
        async with connected(stack.ws(f"/{name}?user=ann")) as client:
            answers.append(await client.ask({}))
    async with connected(stack.ws("/push?user=ann")) as client:
        await client.send(str(number))
        assert await receive_ends(client) == {
            ("plain", "finished"),
            ("asynchronous", "finished"),
            ("ordered", "finished"),
        }
    return answers


@pytest.mark.parametrize(
    ("pool", "options", "wait"),
    [
        (("-P", "threads", "-c", "2"), "", True),
        (("-c", "2"), '"CONN_MAX_AGE": 600, "CONN_HEALTH_CHECKS": True,', False),
        (("-c", "2"), "", True),
        (
            ("-P", "threads", "-c", "2"),
            '"CONN_MAX_AGE": None, "CONN_HEALTH_CHECKS": True,',
            False,
        ),
    ],
    ids=["threads", "prefork, kept for ten minutes", "prefork", "threads, kept for ever"],
)
async def test_nothing_fails_after_the_database_was_restarted(
    redis_server: RedisServer,
    new_stack: NewStack,
    write_app: WriteApp,
    database: PostgreSQL,
    pool: tuple[str, ...],
    options: str,
    wait: bool,
) -> None:
    app = project(write_app, database, options=options, wait=wait)
    stack = new_stack(redis_server, app, DJANGO_SETTINGS_MODULE="site_settings")
    database.query("TRUNCATE visit")
    stack.push_server()
    stack.worker("-P", "solo", queues="sockets")
    stack.worker(*pool, queues="jobs")
    stack.wait_until_ready()
    for number in range(3):
        assert await use_everything(stack, number) == [number + 1] * len(HANDLERS)
        if options:
            assert connections(database) > 0
        else:
            await eventually_async(lambda: not connections(database), what="closed connections")
        database.restart()
    assert database.query("SELECT count(*) FROM visit WHERE by = 'job'") == "9"
    assert "failed: " not in stack.logs()


TEST_KIT = """\
import faulthandler
import time
import psycopg
from queue_run.testing import Application

with Application({app!r}, raise_errors=True) as app:
    for path in {paths}:
        with app.connected(path=path, query="user=ann") as client:
            client.send({{}})
            assert client.received == [1], client.received
    app.run_job("plain", {{}})
    app.run_job("asynchronous", {{}})
question = (
    "SELECT application_name, state, query, backend_start FROM pg_stat_activity "
    "WHERE backend_type = 'client backend' AND pid <> {mine}"
)
with psycopg.connect("host=127.0.0.1 port={port} user=postgres dbname=postgres") as here:
    until = time.monotonic() + 30
    while left := here.execute(question.format(mine="pg_backend_pid()")).fetchall():
        if time.monotonic() > until:
            # Whose they are.
            faulthandler.dump_traceback(all_threads=True)
            raise AssertionError(f"connections are left: {{left}}")
        time.sleep(0.05)
"""


@pytest.mark.parametrize(
    ("options", "paths"),
    [("", ["/plain", "/asynchronous", "/threads"]), ('"CONN_MAX_AGE": None', ["/plain"])],
)
def test_the_test_kit_leaves_no_connection_behind(
    write_app: WriteApp, database: PostgreSQL, options: str, paths: list[str]
) -> None:
    app = project(write_app, database, options=options, wait=True)
    database.query("TRUNCATE visit")
    code = TEST_KIT.format(app=str(app), port=database.port, paths=paths, mine="{mine}")
    script = Process(
        [sys.executable, "-c", code],
        environ=environment(DJANGO_SETTINGS_MODULE="site_settings"),
    )
    assert script.wait() == 0, script.output
    script.end()
