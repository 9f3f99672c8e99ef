"""`queues` in scripts, views, threads and forked children, on every Redis it runs on."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from queue_run.broker.celery_app import create_celery
from queue_run.contracts.keys import DRAIN_TASK
from queue_run.contracts.manifest import Manifest, QueueFacts
from queue_run.jobs.stored import HEADER, JobFacts
from queue_run.settings import Settings
from tests.conftest import WriteApp
from tests.contract.jobs import Jobs
from tests.processes import environment
from tests.waiting import DEADLINE


class Scripts:
    """Runs scripts in a folder with an application, and looks at what they have pushed."""

    def __init__(self, url: str, namespace: str, folder: Path) -> None:
        self.settings = Settings(redis_url=url, namespace=namespace)
        self.folder = folder

    def run(self, code: str, **variables: str) -> list[str]:
        """The lines that the script has printed."""
        environ = environment(
            REDIS_URL=self.settings.redis_url,
            QUEUE_RUN_NAMESPACE=self.settings.namespace,
            **{"QUEUE_RUN_PUBLISH_TIMEOUT": f"{DEADLINE:g}", **variables},
        )
        ran = subprocess.run(
            [sys.executable, "-W", "error", "-c", code],
            cwd=self.folder,
            env=environ,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr
        return ran.stdout.splitlines()

    def taken(self, queue: str = "jobs") -> list[tuple[str, Any, JobFacts]]:
        """Name, first argument and facts of the tasks that wait, taken from the broker."""
        found = []
        app = create_celery(self.settings)
        with app.connection_for_read() as connection:
            name = f"{self.settings.namespace}.{queue}"
            bound = app.amqp.queues[name](connection.default_channel)
            while (message := bound.get(no_ack=True)) is not None:
                facts = message.headers.get(HEADER) or "{}"
                found.append(
                    (
                        message.headers["task"],
                        message.payload[0][0],
                        msgspec.json.decode(facts, type=JobFacts),
                    )
                )
        return found

    def payloads(self) -> list[Any]:
        return [payload for _, payload, _ in self.taken()]


@pytest.fixture
def scripts(redis_url: str, namespace: str, write_app: WriteApp) -> Scripts:
    folder = write_app(
        {
            "queues/orders.py": (
                "from dataclasses import dataclass\n"
                "from queue_run import Config, Queue\n"
                "@dataclass\n"
                "class Order:\n"
                "    number: int\n"
                "queue = Queue[Order](__name__)\n"
                "config = Config(retries=1)\n"
                "def handler(order: Order) -> None: ...\n"
            ),
            "queues/steps.py": (
                "from typing import Any\n"
                "from queue_run import Config, Queue\n"
                "queue = Queue[Any](__name__)\n"
                "config = Config(fifo=True)\n"
                "def handler(step: int) -> None: ...\n"
            ),
        }
    )
    return Scripts(redis_url, namespace, folder)


def test_a_script_pushes_while_no_worker_has_ever_started(scripts: Scripts) -> None:
    [job_id] = scripts.run(
        "from queue_run import queues\n"
        "print(queues.get('mail').push({'n': 1}, params={'a': 'b'}))\n"
    )
    [(task, payload, facts)] = scripts.taken()
    assert (task, payload, facts.params) == ("queues.mail", {"n": 1}, {"a": "b"})
    assert len(job_id) == 36


def test_a_script_pushes_and_ends_without_any_await(scripts: Scripts) -> None:
    scripts.run(
        "import asyncio\n"
        "from queue_run import queues\n"
        "async def main():\n"
        "    for number in range(30):\n"
        "        queues.get('mail').push(number)\n"
        "asyncio.run(main())\n"
    )
    assert scripts.payloads() == list(range(30))


def test_synchronous_code_asynchronous_code_and_threads_push_alike(scripts: Scripts) -> None:
    scripts.run(
        "import asyncio, threading\n"
        "from queue_run import as_user, queues\n"
        "queue = queues.get('mail')\n"
        "def work(name):\n"
        "    with as_user(name):\n"
        "        for number in range(20):\n"
        "            queue.push([name, number])\n"
        "async def main():\n"
        "    with as_user('async'):\n"
        "        for number in range(20):\n"
        "            assert await queue.push(['async', number])\n"
        "threads = [threading.Thread(target=work, args=[f'thread {n}']) for n in range(3)]\n"
        "for thread in threads: thread.start()\n"
        "work('main')\n"
        "asyncio.run(main())\n"
        "for thread in threads: thread.join()\n"
    )
    seen: dict[str, list[int]] = {}
    for _, (name, number), facts in scripts.taken():
        assert facts.user == {"id": name}
        seen.setdefault(name, []).append(number)
    assert seen.keys() == {"main", "async", "thread 0", "thread 1", "thread 2"}
    assert all(numbers == list(range(20)) for numbers in seen.values())


def test_a_forked_child_pushes_beside_its_parent(scripts: Scripts, jobs: Jobs) -> None:
    scripts.run(
        "import os, threading\n"
        "from queue_run import queues\n"
        "def work(name):\n"
        "    for number in range(20):\n"
        "        queues.get('mail').push([name, number])\n"
        "        queues.get('steps').group(name).push(number)\n"
        # What both would share is in use before the fork.
        "work('before')\n"
        "child = os.fork()\n"
        "work('child' if child == 0 else 'parent')\n"
        "if child == 0: os._exit(0)\n"
        "assert os.waitpid(child, 0)[1] == 0\n"
        "work('after')\n"
    )
    names = ["before", "child", "parent", "after"]
    pushed = [payload for task, payload, _ in scripts.taken() if task != DRAIN_TASK]
    assert sorted(pushed) == sorted([name, n] for name in names for n in range(20))
    for name in names:
        assert jobs.client.llen(jobs.keys.group(f"steps:{name}")) == 20


def test_a_script_that_only_imports_a_queues_file_pushes_what_its_handler_takes(
    scripts: Scripts,
) -> None:
    lines = scripts.run(
        "from queue_run import InvalidPush\n"
        "from queues.orders import Order, queue\n"
        "queue.push(Order(7))\n"
        "try: queue.push({'number': 'seven'})\n"
        "except InvalidPush as error: print(error)\n"
        "try: queue.group('a').push(Order(1))\n"
        "except InvalidPush as error: print(error)\n"
    )
    assert scripts.payloads() == [{"number": 7}]
    assert lines[0] == (
        "orders does not take this payload: payload.number: expected `int`, got `str`"
    )
    assert lines[1].startswith("orders is no FIFO queue, and has no groups")


def test_a_script_that_only_imports_a_fifo_queues_file_must_name_a_group(
    scripts: Scripts, jobs: Jobs
) -> None:
    lines = scripts.run(
        "from queue_run import InvalidPush\n"
        "from queues.steps import queue\n"
        "try: queue.push(1)\n"
        "except InvalidPush as error: print(error)\n"
        "first = queue.group('a').push(1)\n"
        "print(first == queue.group('a').push(1), first == queue.group('b').push(1))\n"
    )
    assert lines[0].startswith("steps is a FIFO queue: say which group keeps its order")
    assert lines[1] == "True False"
    assert [task for task, _, _ in scripts.taken()] == [DRAIN_TASK, DRAIN_TASK]
    assert jobs.client.llen(jobs.keys.group("steps:a")) == 1


def test_in_asynchronous_code_the_await_gives_the_id_of_the_job_that_runs(
    scripts: Scripts,
) -> None:
    lines = scripts.run(
        "import asyncio\n"
        "from queue_run import queues\n"
        "async def main():\n"
        "    first = await queues.get('steps').group('a').push(1)\n"
        "    second = queues.get('steps').group('a').push(1)\n"
        "    print(first == second, first == await second)\n"
        "asyncio.run(main())\n"
    )
    assert lines == ["False True"]


def test_a_name_that_the_workers_do_not_offer_is_refused(scripts: Scripts, jobs: Jobs) -> None:
    offered = Manifest(queues={"mail": QueueFacts(), "steps": QueueFacts(fifo=True)})
    jobs.client.set(jobs.keys.manifest, offered.encode())
    lines = scripts.run(
        "from queue_run import InvalidPush, UnknownQueue, queues\n"
        "try: queues.get('mial').push(1)\n"
        "except UnknownQueue as error: print(error)\n"
        "try: queues.get('steps').push(1)\n"
        "except InvalidPush as error: print(error)\n"
        # Its file is here, so the worker that has it will come.
        "from queues.orders import Order, queue\n"
        "queue.push(Order(1))\n"
    )
    assert lines[0] == "no queue 'mial': the workers offer mail, steps"
    assert lines[1].startswith("steps is a FIFO queue")
    assert scripts.payloads() == [{"number": 1}]


def test_a_job_of_a_group_is_pushed_while_the_broker_is_away(scripts: Scripts, jobs: Jobs) -> None:
    lines = scripts.run(
        "from queue_run import DispatchUnavailable, queues\n"
        "queues.get('steps').group('a').push(1)\n"
        "try: queues.get('mail').push(1)\n"
        "except DispatchUnavailable as error: print('away')\n",
        BROKER_URL="redis://127.0.0.1:1/0",
        QUEUE_RUN_PUBLISH_TIMEOUT="1",
    )
    assert lines == ["away"]
    assert jobs.client.llen(jobs.keys.group("steps:a")) == 1
    assert jobs.client.zcard(jobs.keys.groups) == 1


def test_jobs_are_cancelled_in_both_worlds(scripts: Scripts, jobs: Jobs) -> None:
    jobs.attempts.end("ended", "token", "finished")
    lines = scripts.run(
        "import asyncio\n"
        "from queue_run import queues\n"
        "job = queues.get('mail').push(1)\n"
        "print(bool(queues.cancel(job)), bool(queues.cancel('ended')), job)\n"
        "async def main():\n"
        "    job = await queues.get('mail').push(1)\n"
        "    print(await queues.cancel(job), await queues.cancel('ended'), job)\n"
        "    unawaited = queues.get('mail').push(1)\n"
        "    queues.cancel(unawaited)\n"
        "    print(True, False, unawaited)\n"
        "asyncio.run(main())\n"
    )
    for line in lines:
        found = line.split()
        assert found[:2] == ["True", "False"]
        assert jobs.attempts.begin(found[2], "token", most=1).verdict == "cancelled"
