"""Jobs whose process died, in real prefork pools. Leases last far longer than any of these tests:
a job that runs again in time does so because its lease was ended."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from billiard.einfo import ExceptionInfo
from billiard.exceptions import TimeLimitExceeded, WorkerLostError
from kombu import Message

from queue_run import Settings, dead_letters, queues
from queue_run.broker.celery_app import create_celery
from queue_run.errors import JobStoreUnavailable
from queue_run.jobs.attempt_records import Attempts
from queue_run.process import runtime
from queue_run.process.runtime import Runtime
from queue_run.storage.scripts import Store
from tests.conftest import NewStack, write_files
from tests.processes import RedisServer, Stack
from tests.waiting import eventually
from worker.celery_side.lost_workers import JobRequest
from worker.jobs.attempts import token_prefix

#: Notes each attempt as `<number> <process>`, then does what the test says.
NOTED = """
import os, signal, time
import redis
from queue_run import Config
import worker.jobs.leases, worker.celery_side.tasks

worker.celery_side.tasks.OVERTIME = worker.jobs.leases.OVERTIME = 0.5
notes = redis.Redis.from_url(os.environ["REDIS_URL"])
config = Config(timeout={timeout}, retries={retries}, backoff=0.01)

def handler(job, job_id, attempt):
    notes.rpush("notes:" + job_id, f"{{attempt}} {{os.getpid()}}")
    {body}
"""
HANGS_AT_FIRST = "if attempt == 1: time.sleep(300)"
CANNOT_BE_STOPPED = """while True:
        try:
            time.sleep(300)
        except BaseException:
            pass
"""


class Worker:
    """A prefork worker of one process, and what its jobs have noted."""

    def __init__(self, stack: Stack, client: "redis.Redis") -> None:
        self.process = stack.worker("-P", "prefork", "-c", "1", queues="jobs")
        self.process.wait_for_output("ready.")
        self._client = client

    def attempts(self, job: str, count: int) -> list[tuple[int, int]]:
        """Wait for so many attempts: their numbers and processes."""
        eventually(lambda: self._client.llen(f"notes:{job}") >= count, what=f"{count} attempts")
        notes: Any = self._client.lrange(f"notes:{job}", 0, -1)
        return [(int(number), int(pid)) for number, pid in (note.split() for note in notes)]


@pytest.fixture
def job_stack(
    redis_server: RedisServer,
    namespace: str,
    tmp_path: Path,
    new_stack: NewStack,
    job_settings: Settings,
) -> Iterator[Any]:
    client = redis_server.client()

    def start(body: str, *, timeout: float = 300, retries: int = 3) -> Worker:
        text = NOTED.format(timeout=timeout, retries=retries, body=body)
        stack = new_stack(
            redis_server,
            write_files(tmp_path, {"queues/work.py": text}),
            namespace,
            QUEUE_RUN_HEARTBEAT_INTERVAL="100",
            QUEUE_RUN_SHUTDOWN_GRACE="1",
        )
        return Worker(stack, client)

    yield start
    client.close()


@pytest.fixture
def job_settings(redis_server: RedisServer, namespace: str, no_runtime: None) -> Iterator[Settings]:
    settings = Settings(redis_url=redis_server.url, namespace=namespace)
    here = runtime.configure(settings)
    yield settings
    here.close()


@pytest.mark.timeout(150)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_job_whose_process_was_killed_runs_again_at_once(
    job_stack: Any, number: signal.Signals
) -> None:
    worker = job_stack(HANGS_AT_FIRST)
    job = queues.get("work").push("x").value
    [(_, process)] = worker.attempts(job, 1)
    os.kill(process, number)
    [(_, first), (attempt, second)] = worker.attempts(job, 2)
    assert attempt == 2
    assert first != second


@pytest.mark.timeout(150)
def test_a_job_that_kills_its_process_every_time_is_parked(job_stack: Any) -> None:
    worker = job_stack("os.kill(os.getpid(), signal.SIGKILL)", retries=1)
    job = queues.get("work").push("x").value
    letter = eventually(
        lambda: dead_letters.newest("work").value, what="the dead letter", deadline=2 * 60.0
    )[0]
    assert (letter.job.id, letter.attempts) == (job, 2)
    assert letter.error == "WorkerLost: the worker was lost during attempt 2"
    assert [number for number, _ in worker.attempts(job, 2)] == [1, 2]


@pytest.mark.timeout(150)
def test_a_job_that_nothing_stops_is_killed_and_parked_in_the_end(job_stack: Any) -> None:
    worker = job_stack(CANNOT_BE_STOPPED, timeout=0.2, retries=1)
    job = queues.get("work").push("x").value
    letter = eventually(
        lambda: dead_letters.newest("work").value, what="the dead letter", deadline=2 * 60.0
    )[0]
    assert (letter.job.id, letter.attempts) == (job, 2)
    assert letter.error == "WorkerLost: the worker was lost during attempt 2"
    assert [number for number, _ in worker.attempts(job, 2)] == [1, 2]


# What the parent does about a lost attempt


class Lost:
    """A request whose process has died."""

    def __init__(self, settings: Settings, token: str) -> None:
        self.rejected: list[tuple[bool, str]] = []
        self._attempts = Attempts(Store(settings, patience=0.1), lease=300, visibility=600)
        self._app = create_celery(settings)

        def work(payload: object) -> None: ...

        self._app.task(
            name="queues.work", acks_late=True, reject_on_worker_lost=True, shared=False
        )(work)
        headers: Any = {"id": "job-1", "task": "queues.work", "lang": "py", "ignore_result": True}
        message = Message(
            body='[["x"], {}, {}]',
            headers=headers,
            content_type="application/json",
            content_encoding="utf-8",
            delivery_info={},
        )
        self.request = JobRequest(
            message, app=self._app, hostname="here", on_reject=self._reject, on_ack=self._ack
        )
        self.token = token

    def begin(self) -> str:
        return self._attempts.begin("job-1", self.token, most=9).verdict

    def fail(self, error: BaseException) -> None:
        self.request.on_accepted(4711, time.monotonic())  # type: ignore[arg-type]
        try:
            raise error
        except BaseException:
            self.request.on_failure(ExceptionInfo())

    def _reject(self, logger: object, errors: object, requeue: bool) -> None:
        verdict: str
        try:
            verdict = self._attempts.begin("job-1", "another", most=9).verdict
        except JobStoreUnavailable:
            verdict = "unknown"
        self.rejected.append((requeue, verdict))

    def _ack(self, *_: object) -> None:
        raise AssertionError("acknowledged")


@pytest.mark.parametrize(
    "error", [WorkerLostError("killed"), TimeLimitExceeded(3), SystemExit(-241)], ids=repr
)
def test_the_lease_is_ended_before_the_job_is_handed_out_again(
    job_settings: Settings, error: BaseException
) -> None:
    lost = Lost(job_settings, token_prefix(4711) + "x")
    assert lost.begin() == "run"
    lost.fail(error)
    assert lost.rejected == [(True, "run")]


def test_the_lease_of_another_process_is_left_alone(job_settings: Settings) -> None:
    lost = Lost(job_settings, token_prefix(471) + "1x")
    assert lost.begin() == "run"
    lost.fail(WorkerLostError("killed"))
    assert lost.rejected == [(True, "busy")]


def test_without_redis_the_job_is_handed_out_again_all_the_same(
    process: Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    lost = Lost(process.settings, token_prefix(4711) + "x")
    process.__dict__["store"] = Store(process.settings, patience=0.1)
    lost.fail(WorkerLostError("killed"))
    assert lost.rejected == [(True, "unknown")]
    assert "the lease of job-1 is left to expire" in caplog.text
