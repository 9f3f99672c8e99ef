"""What one process has of queue_run."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import cast

import pytest
from celery import Celery

from queue_run import SettingsError, UnknownQueue, configure
from queue_run.contracts.manifest import QueueFacts
from queue_run.jobs.known_queues import KnownQueues
from queue_run.process import runtime
from queue_run.process.runtime import LocalQueue, Runtime
from queue_run.settings import Settings
from tests.processes import environment
from tests.unit.recorders import RecordingPublisher
from tests.waiting import DEADLINE

pytestmark = pytest.mark.usefixtures("no_runtime")

NOWHERE = Settings(redis_url="redis://127.0.0.1:1/0", namespace="mine")


def test_it_is_made_from_the_environment_at_the_first_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/7")
    monkeypatch.setenv("QUEUE_RUN_NAMESPACE", "from-environment")
    here = runtime.current()
    assert here.settings.redis_url == "redis://127.0.0.1:1/7"
    assert here.keys.broadcast == "from-environment:broadcast"


def test_it_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    here = runtime.current()
    monkeypatch.setenv("QUEUE_RUN_NAMESPACE", "later")
    assert runtime.current() is here


def test_threads_that_come_first_together_get_the_same() -> None:
    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(lambda _: runtime.current(), range(64)))
    assert len(found) == 1


def test_an_environment_that_cannot_be_used_says_so_each_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PORT", "http")
    for _ in range(2):
        with pytest.raises(SettingsError, match="PORT='http'"):
            runtime.current()
    monkeypatch.delenv("PORT")
    assert isinstance(runtime.current(), Runtime)


def test_configure_takes_the_place_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "http")
    here = configure(NOWHERE)
    assert runtime.current() is here
    assert here.keys.namespace == "mine"


def test_configure_closes_what_was_open_before() -> None:
    publisher = RecordingPublisher()
    configure(NOWHERE).__dict__["publisher"] = publisher
    configure(NOWHERE)
    assert publisher.closed == 1


def test_nothing_is_opened_before_it_is_used() -> None:
    bare = {"settings", "keys", "_celery", "on_sent", "local_queues"}
    here = configure(NOWHERE)
    assert vars(here).keys() == bare
    # Each of them is opened by its first use, and closed with the others.
    opened = [here.store, here.attempts, here.groups, here.dead_letters, here.job_pusher]
    assert opened == [here.store, here.attempts, here.groups, here.dead_letters, here.job_pusher]
    here.close()
    assert vars(here).keys() == bare


def test_the_publisher_is_opened_once() -> None:
    here = configure(NOWHERE)
    assert here.publisher is here.publisher
    here.close()


def test_the_queues_that_workers_offer_are_remembered_for_the_process() -> None:
    here = configure(NOWHERE)
    assert isinstance(here.known_queues, KnownQueues)
    assert here.known_queues is here.known_queues


def test_what_was_closed_is_opened_again_when_it_is_used() -> None:
    here = configure(NOWHERE)
    first, pusher = here.publisher, here.pusher
    here.close()
    assert here.publisher is not first
    assert here.pusher is not pusher
    here.close()


def test_closing_twice_is_harmless() -> None:
    here = configure(NOWHERE)
    here.publisher.flush()
    here.close()
    here.close()


def test_a_queue_that_is_loaded_here_is_known_without_asking() -> None:
    here = configure(NOWHERE)
    mail = LocalQueue(QueueFacts(fifo=True))
    here.local_queues = {"mail": mail}
    assert here.queue("mail") is mail


def test_of_a_queue_that_nobody_has_told_of_nothing_is_known() -> None:
    assert configure(NOWHERE).queue("mail") is None


def test_a_queue_of_the_workers_is_known_by_its_facts() -> None:
    here = configure(NOWHERE)
    here.known_queues._facts = {"mail": QueueFacts(celery_queue="slow")}
    assert here.queue("mail") == LocalQueue(QueueFacts(celery_queue="slow"))
    with pytest.raises(UnknownQueue):
        here.queue("mial")


def test_celery_is_made_from_the_settings_when_none_is_given() -> None:
    here = configure(Settings(broker_url="memory://", namespace="mine"))
    assert here.celery.conf.task_default_queue == "mine.jobs"
    assert here.celery is here.celery


def test_the_celery_application_that_is_given_is_used() -> None:
    given = cast("Celery", object())
    assert configure(NOWHERE, celery=given).celery is given


def test_a_forked_child_makes_its_own_and_leaves_its_parents_alone() -> None:
    code = (
        "import os\n"
        "from queue_run import configure; from queue_run.process import runtime\n"
        "from queue_run.settings import Settings\n"
        "here = configure(Settings(redis_url='redis://127.0.0.1:1/0', namespace='mine'))\n"
        "parents, store = here.publisher, here.store\n"
        "here.local_queues['mail'] = 'its facts'\n"
        "reader, writer = os.pipe()\n"
        "if os.fork() == 0:\n"
        "    mine = runtime.current()\n"
        "    facts = (mine is here, mine.publisher is parents, mine.settings == here.settings,\n"
        "             mine.store is store, mine.local_queues == here.local_queues)\n"
        "    os.write(writer, repr(facts).encode())\n"
        "    os._exit(0)\n"
        "print(os.read(reader, 1000).decode())\n"
        "print(runtime.current() is here, here.publisher is parents)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(),
        capture_output=True,
        check=True,
        text=True,
        timeout=DEADLINE,
    )
    assert ran.stdout.splitlines() == ["(False, False, True, False, True)", "True True"]
