"""All links to Redis end, again and again, while workers take jobs."""

from pathlib import Path

import pytest

from queue_run import queues
from queue_run.errors import InfrastructureError
from tests.acceptance.job_record import pushing_to
from tests.conftest import NewStack, write_files
from tests.processes import RedisServer
from tests.waiting import eventually

#: Jobs, and how often the links end meanwhile.
JOBS, TIMES = 600, 30
#: Seconds in which what was lost on the way to a worker is back, much less than the visibility
#: timeout of 600 seconds.
BACK_WITHIN = 60.0

QUEUE = """
import os, time
from queue_run import Config

config = Config(retries=20, backoff=0.2)

def handler(number):
    time.sleep(0.005)
    # In one write, so that lines of two processes stay apart.
    file = os.open(os.environ["RAN"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, f"{number}\\n".encode())
    os.close(file)
"""

pytestmark = pytest.mark.timeout(240)


@pytest.mark.parametrize(
    "pool", [("solo",), ("prefork", "-c", "2"), ("threads", "-c", "4")], ids=lambda pool: pool[0]
)
def test_no_job_waits_for_the_visibility_timeout(
    own_redis: RedisServer, new_stack: NewStack, tmp_path: Path, pool: tuple[str, ...]
) -> None:
    """A link may break after a worker was given a job and before it has read that."""
    ran = tmp_path / "ran"
    app = write_files(tmp_path / "app", {"queues/work.py": QUEUE})
    stack = new_stack(own_redis, app, RAN=str(ran))
    worker = stack.worker("-P", *pool)
    worker.wait_for_output("ready.")
    pushed = set()
    with pushing_to(stack), own_redis.client() as admin:
        for number in range(JOBS):
            try:
                queues.get("work").push(number)
            except InfrastructureError:
                continue  # Its link ended; the push may have been made all the same.
            pushed.add(number)
            if number % (JOBS // TIMES) == 0:
                admin.client_kill_filter(_type="normal", skipme=True)

    def left() -> set[int]:
        done = ran.read_text().split() if ran.exists() else []
        return pushed - set(map(int, done))

    eventually(lambda: not left(), what="all jobs", deadline=BACK_WITHIN)
    assert worker.running
