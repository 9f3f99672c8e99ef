"""Redis as the broker goes away, or its links break, while workers of every pool are at work.

The workers are plain ones of Celery, with nothing of the framework but its Celery application.
"""

import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from celery import Celery

from queue_run.broker.celery_app import create_celery
from queue_run.settings import Settings
from tests.processes import Process, RedisServer, environment
from tests.waiting import eventually

#: A job notes that it runs, waits until the test lets it end, and notes that it has ended.
APP = """
import os, time
from pathlib import Path
from queue_run.broker.celery_app import create_celery
from queue_run.settings import Settings

folder = Path(__file__).parent
app = create_celery(
    Settings(
        redis_url=os.environ["REDIS"],
        namespace=os.environ["NAMESPACE"],
        visibility_timeout=float(os.environ["VISIBILITY_TIMEOUT"]),
    )
)

@app.task(name="job", acks_late=True)
def job(number):
    note(f"starts {number}")
    while not (folder / f"may-end-{number}").exists() and not (folder / "may-end").exists():
        time.sleep(0.01)
    note(f"ends {number}")

def note(line):
    with open(folder / "notes", "a") as notes:
        notes.write(line + "\\n")
"""

#: Pool, and how many jobs it runs at once.
POOLS = [
    pytest.param(("threads", 4), id="threads"),
    pytest.param(("prefork", 2), id="prefork"),
    pytest.param(("solo", 1), id="solo"),
]


class Workshop:
    """Jobs on a Redis, and the workers that run them."""

    def __init__(self, server: RedisServer, folder: Path, namespace: str) -> None:
        self.server = server
        self.namespace = namespace
        self.visibility_timeout = 600.0
        self.workers: list[Process] = []
        self._folder = folder
        self._app: Celery = create_celery(Settings(redis_url=server.url, namespace=namespace))
        (folder / "workshop.py").write_text(APP)

    def push(self, *numbers: int, countdown: float | None = None) -> None:
        for number in numbers:
            self._app.send_task("job", (number,), countdown=countdown)

    def start_worker(self, pool: str, concurrency: int) -> Process:
        variables = environment(
            REDIS=self.server.url,
            NAMESPACE=self.namespace,
            VISIBILITY_TIMEOUT=str(self.visibility_timeout),
        )
        variables["PYTHONPATH"] += f":{self._folder}"
        worker = Process(
            [
                *(sys.executable, "-m", "celery", "-A", "workshop", "worker", "-l", "INFO"),
                *("-P", pool, "-c", str(concurrency), "-n", f"worker{len(self.workers)}@test"),
                *("--without-gossip", "--without-mingle", "--without-heartbeat"),
            ],
            environ=variables,
        )
        self.workers.append(worker)
        worker.wait_for_output("ready.")
        return worker

    def noted(self, what: str) -> Counter[int]:
        """How often each job has noted this."""
        notes = self._folder / "notes"
        lines = notes.read_text().splitlines() if notes.exists() else []
        return Counter(int(line.split()[1]) for line in lines if line.startswith(what))

    @property
    def running(self) -> Counter[int]:
        return self.noted("starts") - self.noted("ends")

    def wait_until_running(self, count: int) -> set[int]:
        """The numbers of the jobs, when so many run."""
        self._wait(lambda: self.running.total() == count, f"{count} running jobs")
        return set(self.running)

    def wait_until_ended(self, count: int) -> None:
        self._wait(lambda: len(self.noted("ends")) >= count, f"{count} jobs that have ended")

    def wait_until_settled(self, unacked: int = 0, waiting: int = 0) -> None:
        """Wait until Redis has so many messages that are not acknowledged, and in the queue."""

        def settled() -> bool:
            with self.server.client() as client:
                found = (
                    client.hlen(f"{self.namespace}.unacked"),
                    client.zcard(f"{self.namespace}.unacked_index"),
                    client.llen(f"{self.namespace}.jobs"),
                )
            return found == (unacked, unacked, waiting)

        self._wait(settled, f"{unacked} unacknowledged messages and {waiting} in the queue")

    def wait_until_taken(self, number: int) -> None:
        """Wait until a worker has the job, whether or not it has begun."""

        def taken() -> bool:
            with self.server.client() as client:
                return bool(client.hlen(f"{self.namespace}.unacked"))

        self._wait(lambda: taken() or bool(self.noted("starts")[number]), f"job {number} to be had")

    def let_end(self, numbers: set[int]) -> None:
        for number in numbers:
            (self._folder / f"may-end-{number}").touch()

    def let_all_end(self) -> None:
        (self._folder / "may-end").touch()

    def cut_links(self) -> None:
        with self.server.client() as admin:
            for kind in ("normal", "pubsub"):
                admin.client_kill_filter(_type=kind, skipme=True)

    def end(self) -> None:
        self._app.close()
        for worker in self.workers:
            print(worker.output)  # noqa: T201
            worker.kill()

    def _wait(self, check: Callable[[], bool], what: str) -> None:
        def there() -> bool:
            assert all(worker.running for worker in self.workers), "a worker has ended"
            return check()

        eventually(there, what=what)


@pytest.fixture
def workshop(own_redis: RedisServer, tmp_path: Path, namespace: str) -> Iterator[Workshop]:
    workshop = Workshop(own_redis, tmp_path, namespace)
    yield workshop
    workshop.end()


@pytest.mark.parametrize("pool", POOLS)
def test_jobs_that_end_while_redis_is_away_have_ended(
    workshop: Workshop, pool: tuple[str, int]
) -> None:
    """Each job of a long queue runs once, though Redis is killed three times, in one worker."""
    _, concurrency = pool
    workshop.push(*range(20))
    workshop.start_worker(*pool)
    for ended in range(3):
        running = workshop.wait_until_running(concurrency)
        workshop.server.kill()
        workshop.let_end(running)
        workshop.wait_until_ended((ended + 1) * concurrency)
        workshop.server.start()
    workshop.let_all_end()
    workshop.wait_until_ended(20)
    workshop.wait_until_settled()
    assert workshop.noted("starts") == workshop.noted("ends") == Counter(range(20))


@pytest.mark.parametrize("pool", POOLS)
def test_jobs_run_on_while_redis_restarts(workshop: Workshop, pool: tuple[str, int]) -> None:
    name, concurrency = pool
    workshop.push(*range(20))
    workshop.start_worker(*pool)
    workshop.wait_until_running(concurrency)
    for restart in range(1, 3):
        workshop.server.kill()
        workshop.server.start()
        # A solo worker is not there for its link while it runs a job. The others take as many
        # jobs as through their first link: threads have them wait, prefork drops the last ones.
        held = {"solo": 1, "threads": 1 + restart, "prefork": 2}[name] * concurrency
        workshop.wait_until_settled(unacked=held, waiting=20 - held)
    workshop.let_all_end()
    workshop.wait_until_ended(20)
    workshop.wait_until_settled()
    assert workshop.noted("starts") == workshop.noted("ends") == Counter(range(20))


@pytest.mark.parametrize("pool", POOLS)
def test_jobs_run_on_while_links_are_cut(workshop: Workshop, pool: tuple[str, int]) -> None:
    """Their acknowledgements arrive, and none of them is run twice."""
    _, concurrency = pool
    workshop.push(*range(20))
    worker = workshop.start_worker(*pool)
    for cut in range(1, 5):
        running = workshop.wait_until_running(concurrency)
        workshop.cut_links()
        if pool[0] != "solo":
            eventually(
                lambda cut=cut: worker.output.count("Connected to") > cut,  # type: ignore[misc]
                what="a new link",
            )
        workshop.let_end(running)
        workshop.wait_until_ended(cut * concurrency)
    workshop.let_all_end()
    workshop.wait_until_ended(20)
    workshop.wait_until_settled()
    assert workshop.noted("starts") == workshop.noted("ends") == Counter(range(20))


@pytest.mark.parametrize("pool", POOLS)
def test_a_job_for_later_runs_though_the_link_was_lost_before(
    workshop: Workshop, pool: tuple[str, int]
) -> None:
    """It does not wait for the visibility timeout."""
    workshop.let_all_end()
    worker = workshop.start_worker(*pool)
    # On a busy machine its time may come before the cut: then another try has more of it.
    for number, countdown in enumerate((2, 8, 32)):
        workshop.push(number, countdown=countdown)
        workshop.wait_until_taken(number)
        workshop.cut_links()
        if not workshop.noted("starts")[number]:
            break
    eventually(lambda: worker.output.count("Connected to") > number + 1, what="a new link")
    workshop.wait_until_ended(number + 1)
    workshop.wait_until_settled()
    assert workshop.noted("starts") == Counter(range(number + 1))


@pytest.mark.parametrize("pool", POOLS[:2])
def test_a_worker_that_stops_after_a_cut_leaves_nothing_behind(
    workshop: Workshop, pool: tuple[str, int]
) -> None:
    """What runs is ended and acknowledged, what was scheduled is in the queue again."""
    _, concurrency = pool
    workshop.push(100, countdown=3600)
    workshop.push(*range(concurrency))
    worker = workshop.start_worker(*pool)
    running = workshop.wait_until_running(concurrency)
    workshop.wait_until_settled(unacked=concurrency + 1)
    workshop.cut_links()
    eventually(lambda: worker.output.count("Connected to") > 1, what="a new link")
    worker.send(signal.SIGTERM)
    worker.wait_for_output("Warm shutdown")
    workshop.let_end(running)
    assert worker.wait() == 0
    workshop.workers.clear()
    workshop.wait_until_settled(unacked=0, waiting=1)
    assert workshop.noted("ends") == Counter(running)


@pytest.mark.parametrize("pool", POOLS)
def test_the_jobs_of_a_killed_worker_are_run_by_another_after_the_visibility_timeout(
    workshop: Workshop, pool: tuple[str, int]
) -> None:
    workshop.visibility_timeout = 5.0
    workshop.push(1)
    killed = workshop.start_worker(*pool)
    workshop.wait_until_running(1)
    killed.kill()
    workshop.workers.clear()
    # Before the other one has it: it is to end well within the visibility timeout.
    workshop.let_all_end()
    workshop.start_worker(*pool)
    workshop.wait_until_ended(1)
    workshop.wait_until_settled()
    assert workshop.noted("starts") == Counter({1: 2})
    assert workshop.noted("ends") == Counter([1])
