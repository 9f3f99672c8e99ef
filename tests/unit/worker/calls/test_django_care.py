"""Each test runs in a process of its own: a process has one Django."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import WriteApp
from tests.processes import environment
from tests.waiting import DEADLINE

BEGIN = """\
import asyncio, os, sys, threading
from asgiref.sync import sync_to_async
from django.conf import settings
settings.configure(DATABASES={{"default": {{
    "ENGINE": "django.db.backends.sqlite3", "NAME": {name!r}, "CONN_MAX_AGE": {age}
}}}})
import django
django.setup()
from django.db import close_old_connections, connection, connections, transaction
from worker.calls import django_care
around = django_care.care()

def ask():
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        assert cursor.fetchone() == (1,)
    return threading.current_thread().name

"""


def run(folder: Path, code: str, *, age: float | None = 0, **variables: str) -> str:
    text = BEGIN.format(name=str(folder / "database"), age=age) + code
    return run_alone(text, **variables)


def run_alone(code: str, **variables: str) -> str:
    ran = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(**variables),
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_without_django_nothing_is_done_and_nothing_is_imported() -> None:
    run_alone(
        "import sys\nfrom worker.calls import django_care; from worker.application import loader\n"
        "django_care.set_up()\nassert django_care.care().idle\n"
        "assert 'django.apps' not in sys.modules\n"
    )


@pytest.mark.parametrize(("age", "kept"), [(0, False), (None, True), (600, True)])
def test_a_connection_of_plain_code_lives_as_long_as_its_settings_say(
    tmp_path: Path, age: float | None, kept: bool
) -> None:
    code = "with around.call():\n    ask()\nprint(connection.connection is not None)\n"
    assert run(tmp_path, code, age=age) == f"{kept}\n"


def test_a_connection_that_was_left_in_a_transaction_is_closed(tmp_path: Path) -> None:
    run(
        tmp_path,
        "with around.call():\n    ask()\n    transaction.set_autocommit(False)\n"
        "assert connection.connection is None\n",
        age=None,
    )


def test_tasks_side_by_side_have_threads_of_their_own_and_later_ones_have_them_again(
    tmp_path: Path,
) -> None:
    run(
        tmp_path,
        """\
async def work(barrier):
    with around.task():
        first = await sync_to_async(ask)()
        await barrier.wait()
        assert await sync_to_async(ask)() == first
        return await sync_to_async(threading.get_ident)()

async def main():
    both = asyncio.Barrier(2)
    found = set(await asyncio.gather(work(both), work(both)))
    assert len(found) == 2
    for _ in range(5):
        assert await work(asyncio.Barrier(1)) in found

asyncio.run(main())
""",
        age=None,
    )


def test_tasks_beyond_the_limit_share_a_thread_whose_connection_stays_open_for_them(
    tmp_path: Path,
) -> None:
    run(
        tmp_path,
        """\
def is_open():
    return connection.connection is not None

async def short():
    with around.task():
        await sync_to_async(ask)()
        return await sync_to_async(threading.get_ident)()

async def main():
    around.limit_threads(1)
    with around.task():
        await sync_to_async(ask)()
        here = await sync_to_async(threading.get_ident)()
        assert await asyncio.create_task(short()) == here
        assert await sync_to_async(is_open)()
    with around.task():
        assert not await sync_to_async(is_open)()

asyncio.run(main())
""",
    )


def test_what_a_task_left_behind_still_reaches_the_database(tmp_path: Path) -> None:
    run(
        tmp_path,
        """\
async def late(ended):
    await ended.wait()
    await sync_to_async(ask)()

async def main():
    ended = asyncio.Event()
    with around.task():
        task = asyncio.create_task(late(ended))
    ended.set()
    await task

asyncio.run(main())
""",
    )


def test_a_task_that_uses_no_database_starts_no_thread(tmp_path: Path) -> None:
    run(
        tmp_path,
        """\
async def main():
    with around.task():
        await asyncio.sleep(0)
    assert threading.active_count() == 1

asyncio.run(main())
""",
    )


def test_a_forked_process_leaves_the_connections_of_its_parent_alone(tmp_path: Path) -> None:
    run(
        tmp_path,
        """\
ask()
mine = connection.connection
if os.fork() == 0:
    new = connections["default"]
    fine = new.connection is None
    ask()
    os._exit(0 if fine and new.connection is not mine else 1)
assert os.wait()[1] == 0
assert connection.connection is mine
ask()
""",
        age=None,
    )


def test_connections_of_the_import_are_closed_before_anything_forks(tmp_path: Path) -> None:
    run(
        tmp_path,
        "ask()\ndjango_care.care()\nassert connection.connection is None\n",
        age=None,
    )


def test_its_own_failure_fails_no_call(tmp_path: Path) -> None:
    output = run(
        tmp_path,
        """\
def close_old_connections():
    raise RuntimeError("cannot be closed")

import django.db
django.db.close_old_connections = close_old_connections
with around.call():
    print("called")
""",
    )
    assert output == "called\n"


def routes(folder: Path, module: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "queue_run", "routes", "--app", str(folder)],
        env=environment(DJANGO_SETTINGS_MODULE=module),
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE,
    )


def test_files_are_loaded_when_django_is_ready(write_app: WriteApp) -> None:
    folder = write_app(
        {
            "site_settings.py": "INSTALLED_APPS = ['django.contrib.contenttypes']\n",
            "sockets/index.py": "from django.contrib.contenttypes.models import ContentType\n\n"
            "def handler(data):\n    return data\n",
        }
    )
    ran = routes(folder, "site_settings")
    assert ran.returncode == 0, ran.stderr
    assert "sockets/index.py" in ran.stdout


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        ("no_such.settings", "ModuleNotFoundError: No module named 'no_such'"),
        ("site_settings", "line 1: ValueError: not today"),
    ],
)
def test_settings_of_django_that_cannot_be_used_are_named(
    write_app: WriteApp, module: str, reason: str
) -> None:
    folder = write_app(
        {
            "site_settings.py": "raise ValueError('not today')\n",
            "sockets/index.py": "def handler(data):\n    return data\n",
        }
    )
    ran = routes(folder, module)
    assert ran.returncode == 2, ran
    assert f"DJANGO_SETTINGS_MODULE={module}: {reason}" in ran.stderr
    assert "Traceback" not in ran.stderr
