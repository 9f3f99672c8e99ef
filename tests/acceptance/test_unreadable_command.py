"""`queue-run queue unreadable` as its users run it: the real command, real Redis and workers."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import new_namespace, write_files
from tests.processes import RedisServer, Stack, free_port
from tests.waiting import DEADLINE, eventually

Ran = subprocess.CompletedProcess[str]

FILES = {"queues/work.py": "def handler(job): pass"}
JUNK = "no JSON \x1b[31m\nat all"
#: Celery takes it, and we do not: our jobs have one argument.
TWO_ARGUMENTS = """
from queue_run.process import runtime
here = runtime.current()
here.celery.send_task("queues.work", args=[1, 2], queue=here.keys.jobs_queue)
"""


class Command:
    """Runs the command for one stack, whose broker is another database than its Redis."""

    def __init__(self, stack: Stack, server: RedisServer, folder: Path) -> None:
        self.stack = stack
        self._server = server
        self._folder = folder

    def run(self, *arguments: str, stdin: str = "", **variables: str) -> Ran:
        return subprocess.run(
            [sys.executable, "-m", "queue_run", "queue", "unreadable", *arguments],
            env=self.stack.environ(**variables),
            cwd=self._folder,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
        )

    def listed(self) -> list[dict[str, Any]]:
        ran = self.run("list", "--json")
        assert (ran.returncode, ran.stderr) == (0, ""), ran
        return [json.loads(line) for line in ran.stdout.splitlines()]

    def leave(self, junk: str, times: int = 1) -> list[dict[str, Any]]:
        """Put something into the queue of jobs that is no message; what is listed then."""
        before = len(self.listed())
        with self._server.client() as client:
            client.select(1)
            for number in range(times):
                # Were they equal, and set aside in one millisecond, they would be one entry.
                client.lpush(f"{self.stack.namespace}.jobs", junk + " " * number)
                client.lpush(f"{self.stack.namespace}.jobs.bell", 1)

        def there() -> list[dict[str, Any]]:
            found = self.listed()
            return found if len(found) == before + times else []

        return eventually(there, what="what was set aside")

    def drop_all(self) -> None:
        assert self.run("drop", "--all", "--yes").returncode == 0


@pytest.fixture(scope="module")
def running(
    redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Command]:
    folder = tmp_path_factory.mktemp("unreadable-command")
    app = write_files(folder / "app", FILES)
    broker = redis_server.url.removesuffix("/0") + "/1"
    stack = Stack(redis_server.url, app, new_namespace(), BROKER_URL=broker)
    stack.worker("-P", "solo", queues="jobs")
    stack.wait_until_ready()
    yield Command(stack, redis_server, folder)
    print(stack.logs())  # noqa: T201
    stack.end()


@pytest.fixture
def command(running: Command) -> Command:
    running.drop_all()
    return running


def test_what_was_set_aside_is_listed_for_people(command: Command) -> None:
    assert command.run("list").stdout == "nothing was set aside\n"
    second, first = command.leave(JUNK, times=2)
    ran = command.run("list", "--limit", "1")
    assert (ran.returncode, ran.stderr) == (0, "")
    heading, line, *rest = ran.stdout.splitlines()
    assert heading.split() == ["id", "from", "set", "aside", "reason"]
    assert line.startswith(f"{second['id']}  {command.stack.namespace}.jobs  ")
    assert " ago (" in line or "just now (" in line
    assert rest[:2] == ["", "There are 1 more: show them with --limit N."]
    assert first["id"] not in ran.stdout
    for verb in ("show", "drop"):
        assert f"queue-run queue unreadable {verb} " in ran.stdout


def test_an_entry_is_shown_with_all_that_was_kept(command: Command) -> None:
    [entry] = command.leave(JUNK)
    assert entry["from"] == f"{command.stack.namespace}.jobs"
    assert (entry["data"], entry["length"]) == (JUNK, len(JUNK))
    ran = command.run("show", entry["id"])
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "\x1b" not in ran.stdout
    assert f"id         {entry['id']}\nfrom       {entry['from']}\n" in ran.stdout
    assert "data\n  no JSON \\u001b[31m\n  at all\n" in ran.stdout
    assert json.loads(command.run("show", entry["id"], "--json").stdout) == entry
    ran = command.run("show", "missing")
    assert (ran.returncode, ran.stdout) == (1, "")
    assert "no entry missing: list them with" in ran.stderr


def test_what_lies_in_the_brokers_redis_and_in_our_own_is_one_list(command: Command) -> None:
    command.leave(JUNK)
    command.stack.script(TWO_ARGUMENTS).wait()
    entries = eventually(
        lambda: found if len(found := command.listed()) == 2 else [], what="both entries"
    )
    assert [entry["from"] for entry in entries] == [
        "a job of work",
        f"{command.stack.namespace}.jobs",
    ]
    assert "one argument" in entries[0]["reason"]
    command.drop_all()
    assert command.listed() == []


def test_entries_are_dropped_and_those_that_are_missing_are_named(command: Command) -> None:
    ids = [entry["id"] for entry in command.leave(JUNK, times=3)]
    ran = command.run("drop", "--yes", ids[0], "gone\x1b", ids[1])
    assert ran.returncode == 1
    assert ran.stdout.splitlines() == [f"dropped {ids[0]}", f"dropped {ids[1]}"]
    assert ran.stderr.startswith("Error: no entry gone\\u001b: ")
    assert [entry["id"] for entry in command.listed()] == ids[2:]
    assert command.run("drop").returncode == 2
    assert command.run("drop", ids[2], "--all").returncode == 2
    assert len(command.listed()) == 1


@pytest.mark.parametrize("answer", ["n\n", ""])
def test_many_are_dropped_only_after_a_yes(command: Command, answer: str) -> None:
    command.leave(JUNK, times=2)
    ran = command.run("drop", "--all", stdin=answer)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr.startswith("Drop 2 entries? They cannot be brought back [y/N]: ")
    assert "nothing was dropped" in ran.stderr
    assert len(command.listed()) == 2
    assert command.run("drop", "--all", stdin="y\n").returncode == 0
    assert command.listed() == []


@pytest.mark.parametrize("variable", ["REDIS_URL", "BROKER_URL"])
def test_without_redis_the_command_says_which_one(command: Command, variable: str) -> None:
    away = f"redis://:secret@127.0.0.1:{free_port()}/0"
    ran = command.run("list", QUEUE_RUN_PUBLISH_TIMEOUT="0.5", **{variable: away})
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr.startswith("Error: Redis at redis://")
    assert "does not answer" in ran.stderr
    assert "secret" not in ran.stderr
    assert "Traceback" not in ran.stderr
