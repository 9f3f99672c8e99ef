"""`queue-run queue` as its users run it: the real command, a real Redis, real workers."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import NewStack, new_namespace, write_files
from tests.processes import ROOT, Process, RedisServer, Stack, free_port
from tests.waiting import DEADLINE, eventually

Ran = subprocess.CompletedProcess[str]

#: Leaves what it was given in a file named by its id.
RECORD = """\
import json, os
from pathlib import Path

def record(job_id, **what):
    path = Path(os.environ["QUEUE_RUN_TEST_FOLDER"]) / job_id
    path.with_suffix(".new").write_text(json.dumps(what))
    path.with_suffix(".new").rename(path)
"""
ECHO = (
    RECORD
    + """
def handler(job, *, job_id, user, group_id, params):
    record(job_id, payload=job, user=user, group=group_id, params=params)
"""
)
FILES = {
    "queues/echo.py": ECHO,
    "queues/orders.py": f"from queue_run import Config\nconfig = Config(fifo=True)\n{ECHO}",
    "queues/heavy.py": (
        f"from queue_run import Config\nconfig = Config(celery_queue='heavy')\n{ECHO}"
    ),
    "queues/slow.py": RECORD
    + """
def handler(job, *, job_id, signal):
    Path(job).touch()
    record(job_id, told=signal.wait(60))
""",
    # Until the file is there that the payload names.
    "queues/fails.py": RECORD
    + """
from queue_run import Config
config = Config(retries=0)

def handler(job, *, job_id):
    if not Path(job["until"]).exists():
        raise ValueError("no \\x1b[31mred\\x07\\nmail")
    record(job_id, payload=job)
""",
    "queues/fails_in_order.py": RECORD
    + """
from queue_run import Config
config = Config(retries=0, fifo=True)

def handler(job, *, job_id):
    if not Path(job["until"]).exists():
        raise ValueError("not yet")
    with open(job["until"], "a") as file:
        print(job["number"], file=file)
    record(job_id, payload=job)
""",
}


class Command:
    """Runs the command for one stack, and reads what jobs have recorded."""

    def __init__(self, stack: Stack, folder: Path) -> None:
        self.stack = stack
        self.folder = folder

    def run(self, *arguments: str, stdin: str = "", **variables: str) -> Ran:
        return subprocess.run(
            [sys.executable, "-m", "queue_run", "queue", *arguments],
            env=self.stack.environ(**variables),
            cwd=self.folder,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
        )

    def push(self, *arguments: str, stdin: str = "") -> str:
        """Push a job; its id, which is all that is printed."""
        ran = self.run("push", *arguments, stdin=stdin)
        assert (ran.returncode, ran.stderr) == (0, ""), ran
        [job_id] = ran.stdout.splitlines()
        return job_id

    def recorded(self, job_id: str) -> Any:
        path = self.folder / job_id
        eventually(path.exists, what=f"the job {job_id}")
        return json.loads(path.read_text())

    def dead(self, *arguments: str) -> list[dict[str, Any]]:
        """The dead letters, the newest first."""
        ran = self.run("dead", "list", "--json", *arguments)
        assert (ran.returncode, ran.stderr) == (0, ""), ran
        return [json.loads(line) for line in ran.stdout.splitlines()]

    def wait_for_dead(self, queue: str, count: int) -> list[dict[str, Any]]:
        def there() -> list[dict[str, Any]]:
            letters = self.dead(queue)
            return letters if len(letters) == count else []

        return eventually(there, what=f"{count} dead letters of {queue}")

    def fail(self, count: int) -> tuple[list[str], Path]:
        """Let jobs fail, one after another: their ids, and the file without which they do."""
        self.drop_all()
        until = self.folder / "until"
        until.unlink(missing_ok=True)
        ids = []
        for number in range(count):
            ids.append(self.push("fails", json.dumps({"until": str(until), "number": number})))
            self.wait_for_dead("fails", number + 1)
        return ids, until

    def drop_all(self) -> None:
        assert self.run("dead", "drop", "--all", "--yes").returncode == 0


@pytest.fixture(scope="module")
def command(
    redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Command]:
    folder = tmp_path_factory.mktemp("queue-command")
    app = write_files(folder / "app", FILES)
    stack = Stack(redis_server.url, app, new_namespace(), QUEUE_RUN_TEST_FOLDER=str(folder))
    stack.worker("-P", "threads", "-c", "4")
    stack.wait_until_ready()
    yield Command(stack, folder)
    print(stack.logs())  # noqa: T201
    stack.end()


def assert_refused(ran: Ran, *texts: str, code: int = 2) -> None:
    """One clear message and nothing else."""
    assert (ran.returncode, ran.stdout) == (code, ""), ran
    assert ran.stderr.startswith("Error: ")
    assert "Traceback" not in ran.stderr
    for text in texts:
        assert text in ran.stderr


# Push


def test_a_job_is_pushed_with_all_that_belongs_to_it(command: Command) -> None:
    given = ("--user", "7", "--param", "a=b", "--param", "c=d=e")
    job_id = command.push("echo", '{"to": "ann"}', *given)
    assert command.recorded(job_id) == {
        "payload": {"to": "ann"},
        "user": {"id": "7"},
        "group": None,
        "params": {"a": "b", "c": "d=e"},
    }


def test_a_payload_comes_from_a_file_from_standard_input_or_is_null(command: Command) -> None:
    (command.folder / "letter.json").write_text('["é"]\n')
    ids = [
        command.push("echo", "@letter.json"),
        command.push("echo", "-", stdin="[1]\n"),
        command.push("echo", "--text", "-", stdin="two\nlines\n"),
        command.push("echo", "--text", "hello"),
        command.push("echo"),
    ]
    payloads = [command.recorded(job_id)["payload"] for job_id in ids]
    assert payloads == [["é"], [1], "two\nlines\n", "hello", None]
    assert command.recorded(ids[0])["user"] is None


def test_a_fifo_queue_is_given_its_group_and_drops_what_is_repeated(command: Command) -> None:
    first = command.push("orders", "1", "--group", "g")
    assert command.recorded(first)["group"] == "g"
    assert command.push("orders", "1", "--group", "g") == first
    other = command.push("orders", "1", "--group", "g", "--dedupe", "other")
    assert other != first
    assert command.push("orders", "2", "--group", "g", "--dedupe", "other") == other


def test_a_push_that_cannot_be_is_refused_with_what_to_do(command: Command) -> None:
    offered = "echo, fails, fails_in_order, heavy, orders, slow"
    assert_refused(
        command.run("push", "ecko", "1"), f"no queue 'ecko': the workers offer {offered}"
    )
    assert_refused(command.run("push", "orders", "1"), "orders is a FIFO queue", "--group ID")
    assert_refused(command.run("push", "echo", "1", "--group", "g"), "echo is no FIFO queue")
    assert_refused(command.run("push", "echo", "1", "--dedupe", "d"), "echo is no FIFO queue")
    assert_refused(command.run("push", "echo", "hello"), "not JSON", "--text")
    assert_refused(command.run("push", "echo", "@missing.json"), "@missing.json: No such file")


def test_without_redis_or_the_broker_every_command_ends_with_exit_code_1(command: Command) -> None:
    away = f"redis://127.0.0.1:{free_port()}/0"
    for arguments in (
        ("push", "echo", "1"),
        ("push", "orders", "1", "--group", "g"),
        ("cancel", "1"),
        ("dead", "list"),
        ("dead", "retry", "--all"),
    ):
        ran = command.run(*arguments, REDIS_URL=away, QUEUE_RUN_PUBLISH_TIMEOUT="0.5")
        assert_refused(ran, "Connection refused", code=1)
    ran = command.run("push", "echo", "1", BROKER_URL=away, QUEUE_RUN_PUBLISH_TIMEOUT="0.5")
    assert_refused(ran, "the broker took no job", code=1)


def test_wrong_settings_are_listed_before_anything_is_done(command: Command) -> None:
    ran = command.run("dead", "drop", "--all", "--yes", QUEUE_RUN_LOG_LEVL="DEBUG")
    assert_refused(ran, "did you mean QUEUE_RUN_LOG_LEVEL?")


def test_a_job_waits_for_the_first_worker_and_the_command_says_so(
    command: Command, new_stack: NewStack, redis_server: RedisServer
) -> None:
    stack = new_stack(redis_server, command.stack.app, QUEUE_RUN_TEST_FOLDER=str(command.folder))
    ran = Command(stack, command.folder).run("push", "echo", "1")
    assert ran.returncode == 0
    assert ran.stderr == "note: no worker has run here yet; the job waits for one\n"
    stack.worker("-P", "solo")
    assert command.recorded(ran.stdout.strip())["payload"] == 1


# Cancel


def test_a_job_that_runs_is_told_by_its_signal(command: Command) -> None:
    started = command.folder / "started"
    job_id = command.push("slow", "--text", str(started))
    eventually(started.exists, what="the job's start")
    ran = command.run("cancel", job_id)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, f"cancelled {job_id}\n", "")
    assert command.recorded(job_id) == {"told": True}

    def ended() -> bool:
        return command.run("cancel", job_id).returncode == 1

    eventually(ended, what="the job's end")
    assert_refused(command.run("cancel", job_id), f"{job_id} has ended already", code=1)


def test_a_dead_letter_is_dropped_not_cancelled(command: Command) -> None:
    [job_id], _ = command.fail(1)
    assert_refused(command.run("cancel", job_id), f"queue dead drop {job_id}", code=1)
    assert len(command.dead()) == 1


# Dead letters


def test_dead_letters_are_listed_for_people(command: Command) -> None:
    ids, _ = command.fail(3)
    ran = command.run("dead", "list", "--limit", "2")
    assert (ran.returncode, ran.stderr) == (0, "")
    heading, first, second, *rest = ran.stdout.splitlines()
    assert heading.split() == ["id", "queue", "failed", "attempts", "error"]
    for job_id, line in ((ids[2], first), (ids[1], second)):
        assert line.startswith(f"{job_id}  fails  ")
        assert line.endswith("  1         ValueError: no \\u001b[31mred\\u0007 mail")
        assert " ago (" in line or "just now (" in line
    assert rest[:2] == ["", "There are more than these 2: show them with --limit N."]
    for verb in ("show", "retry", "drop"):
        assert f"queue-run queue dead {verb} " in ran.stdout


def test_dead_letters_are_listed_by_queue(command: Command) -> None:
    [job_id], _ = command.fail(1)
    assert [letter["id"] for letter in command.dead("fails")] == [job_id]
    ran = command.run("dead", "list", "echo")
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "no dead letters of echo\n", "")
    ran = command.run("dead", "list", "ecko")
    assert (ran.returncode, ran.stdout) == (0, "no dead letters of ecko\n")
    assert "no queue 'ecko': the workers offer echo" in ran.stderr
    command.drop_all()
    assert command.run("dead", "list").stdout == "no dead letters\n"


def test_a_dead_letter_is_shown_with_all_that_is_known(command: Command) -> None:
    [job_id], until = command.fail(1)
    ran = command.run("dead", "show", job_id)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "\x1b" not in ran.stdout
    assert "\x07" not in ran.stdout
    assert f"id        {job_id}\nqueue     fails\n" in ran.stdout
    assert f'payload\n  {{\n    "until": "{until}",\n' in ran.stdout
    assert "Traceback (most recent call last):" in ran.stdout
    assert "queues/fails.py" in ran.stdout
    shown = json.loads(command.run("dead", "show", job_id, "--json").stdout)
    assert shown == command.dead()[0]
    assert shown["payload"] == {"until": str(until), "number": 0}
    assert shown["error"] == "ValueError: no \x1b[31mred\x07\nmail"
    assert shown["queued_at"] <= shown["failed_at"]
    assert_refused(command.run("dead", "show", "missing"), "no dead letter 'missing'", code=1)


def test_a_retry_runs_a_job_again_under_its_id(command: Command) -> None:
    [job_id], until = command.fail(1)
    until.touch()
    ran = command.run("dead", "retry", job_id)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, f"retried {job_id}\n", "")
    assert command.recorded(job_id)["payload"]["number"] == 0
    assert command.dead() == []


def test_all_of_a_queue_are_retried_in_their_order(command: Command) -> None:
    command.drop_all()
    until = command.folder / "in-order"
    ids = []
    for number in range(3):
        payload = json.dumps({"until": str(until), "number": number})
        ids.append(command.push("fails_in_order", payload, "--group", "g"))
        command.wait_for_dead("fails_in_order", number + 1)
    until.touch()
    ran = command.run("dead", "retry", "--queue", "fails_in_order")
    assert ran.returncode == 0
    assert ran.stdout.splitlines() == [f"retried {each} of fails_in_order" for each in ids]
    for job_id in ids:
        command.recorded(job_id)
    assert until.read_text().split() == ["0", "1", "2"]


def test_what_is_not_there_is_named_and_the_others_are_done(command: Command) -> None:
    ids, _ = command.fail(2)
    ran = command.run("dead", "drop", "--yes", "missing", *ids, "gone\x1b")
    assert ran.returncode == 1
    assert ran.stdout.splitlines() == [f"dropped {each}" for each in ids]
    assert ran.stderr.startswith("Error: no dead letters missing, gone\\u001b: ")
    assert command.dead() == []
    assert_refused(command.run("dead", "retry", ids[0]), f"no dead letter {ids[0]}: ", code=1)


@pytest.mark.parametrize("answer", ["n\n", "\n", ""])
def test_many_are_dropped_only_after_a_yes(command: Command, answer: str) -> None:
    command.fail(2)
    ran = command.run("dead", "drop", "--all", stdin=answer)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr.startswith("Drop 2 dead letters? They cannot be brought back [y/N]: ")
    assert "nothing was dropped" in ran.stderr
    assert len(command.dead()) == 2
    ran = command.run("dead", "drop", "--queue", "fails", stdin="y\n")
    assert ran.returncode == 0
    assert ran.stdout.count(" of fails\n") == 2
    assert command.dead() == []


def test_one_is_dropped_without_a_question(command: Command) -> None:
    [job_id], _ = command.fail(1)
    ran = command.run("dead", "drop", job_id)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, f"dropped {job_id}\n", "")
    ran = command.run("dead", "drop", "--all")
    assert (ran.returncode, ran.stdout) == (0, "no dead letters\n")


# Workers for Celery queues of their own


def test_a_worker_of_jobs_serves_the_queues_that_files_name_unless_told_otherwise(
    command: Command, new_stack: NewStack, redis_server: RedisServer
) -> None:
    stack = new_stack(redis_server, command.stack.app, QUEUE_RUN_TEST_FOLDER=str(command.folder))
    here = Command(stack, command.folder)
    all_but_heavy = f"{stack.namespace}.heavy,{stack.namespace}.sockets"
    serve(stack, "-X", all_but_heavy)
    heavy, usual = here.push("heavy", "1"), here.push("echo", "2")
    assert here.recorded(usual)["payload"] == 2
    waiting = redis_server.client().llen(f"{stack.namespace}.heavy")
    assert (waiting, (here.folder / heavy).exists()) == (1, False)

    serve(stack, "-Q", f"{stack.namespace}.heavy", "-n", "heavy@%h")
    assert here.recorded(heavy)["payload"] == 1
    assert "echo[" not in stack.workers[1].output


def test_a_worker_of_jobs_serves_all_but_messages(
    command: Command, new_stack: NewStack, redis_server: RedisServer
) -> None:
    stack = new_stack(redis_server, command.stack.app, QUEUE_RUN_TEST_FOLDER=str(command.folder))
    serve(stack)
    here = Command(stack, command.folder)
    for queue in ("heavy", "echo"):
        assert here.recorded(here.push(queue, "1"))["payload"] == 1
    output = stack.workers[0].output
    assert f"{stack.namespace}.heavy" in output
    assert f"{stack.namespace}.sockets " not in output


def serve(stack: Stack, *options: str) -> None:
    """Start a worker of jobs with the command, and wait until it works."""
    worker = Process(
        [
            *(sys.executable, "-m", "queue_run", "worker", "--serve", "jobs", "--"),
            *("-P", "threads", "-c", "2", *options),
        ],
        environ=stack.environ(),
    )
    stack.workers.append(worker)
    worker.wait_for_output("ready.")
    worker.wait_for_output("announced")


# Beat


def test_beat_without_schedules_sleeps(
    command: Command, new_stack: NewStack, redis_server: RedisServer, tmp_path: Path
) -> None:
    line = (ROOT / "Procfile").read_text().partition("\nbeat: celery ")[2].strip()
    stack = new_stack(redis_server, command.stack.app)
    told = stack.environ(QUEUE_RUN_LOG_LEVEL="DEBUG", BEAT_SCHEDULE=str(tmp_path / "beat"))
    beat = Process(["/bin/sh", "-c", f"exec {sys.executable} -m celery {line}"], environ=told)
    stack.workers.append(beat)
    beat.wait_for_output("beat: Waking up in 5.00 minutes.")
    assert redis_server.client().keys(f"{stack.namespace}*") == []
