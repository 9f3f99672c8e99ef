"""Jobs that are pushed, and run when the test says so."""

from importlib import import_module

import pytest

from queue_run import queues
from queue_run.errors import UnknownQueue
from queue_run.testing import Application, Pushed
from queue_run.testing.application import MOST_JOBS
from tests.conftest import WriteApp


def test_jobs_are_kept_and_not_run(jobs: Application) -> None:
    with jobs.connected(user="ann") as client:
        client.send("eve")
        assert jobs.pushed == [Pushed(queue="mail", payload={"to": "eve"}, user={"id": "ann"})]
        assert jobs.pushed != [Pushed(queue="mail", payload={"to": "eve"})]
        assert client.received == []


def test_run_jobs_runs_them_and_those_that_they_push(jobs: Application) -> None:
    with jobs.connected(user="ann") as client:
        client.send("eve")
        done = jobs.run_jobs()
        assert client.received == [{"mailed": "eve", "attempt": 1}]
    mail, log = jobs.pushed
    assert done == [mail, log]
    assert mail.payload == {"to": "eve"}
    assert log.payload == [mail.id, "ann"]
    assert jobs.run_jobs() == []
    assert import_module("queues.log.all").seen == [([mail.id, "ann"], {"id": "ann"}, "log.all")]


def test_a_job_can_be_run_directly(jobs: Application) -> None:
    assert jobs.run_job("log.all", (1, b"x".hex()), user="ann") == [
        ([1, "78"], {"id": "ann"}, "log.all")
    ]
    assert jobs.pushed == []


def test_jobs_without_an_end_are_ended(write_app: WriteApp) -> None:
    again = "from queue_run import queues\ndef handler(job): queues.get('again').push(job)"
    with Application(write_app({"queues/again.py": again})) as app:
        queues.get("again").push(1)
        with pytest.raises(RuntimeError, match="still more"):
            app.run_jobs()
        assert len(app.pushed) == MOST_JOBS + 1


def test_an_unknown_queue_is_an_error_where_it_is_pushed_to(jobs: Application) -> None:
    with pytest.raises(UnknownQueue, match=r"the workers offer log\.all, mail"):
        queues.get("male").push(1)
    with pytest.raises(UnknownQueue):
        jobs.run_job("male", 1)
    assert jobs.pushed == []


def test_jobs_are_equal_by_queue_payload_and_user() -> None:
    job = Pushed(queue="mail", payload=1, user={"id": "ann"}, id="a", queued_at=1.0)
    assert job == Pushed(queue="mail", payload=1, user={"id": "ann"})
    assert job != Pushed(queue="mail", payload=2, user={"id": "ann"})
    assert job != Pushed(queue="mail", payload=1)
    assert job != Pushed(queue="post", payload=1, user={"id": "ann"})
