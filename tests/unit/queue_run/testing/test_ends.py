"""What the user of a job is told of its end, and when a job has failed for good."""

import asyncio

import pytest

from queue_run import dead_letters, queues
from queue_run.application.requests import SentMessage
from queue_run.contracts.ids import UserId
from queue_run.errors import ClientError, HandlerTimeout, InvalidPush
from queue_run.settings import Settings
from queue_run.testing import Application
from tests.conftest import WriteApp
from tests.unit.queue_run.testing.applications import ENDS
from tests.waiting import eventually_async


def event(end: str, job_id: str, **more: str) -> dict[str, str]:
    return {"event": end, "job": job_id, "queue": "notified", **more}


def test_a_user_is_told_that_a_job_has_finished(ends: Application) -> None:
    with ends.connected("ann") as ann, ends.connected("ann") as tab, ends.connected("bob") as bob:
        ann.send({"push": "work"})
        [job] = ends.run_jobs()
        assert ann.received == [job.id, event("finished", job.id)]
        assert tab.received == [event("finished", job.id)]
        assert bob.received == []
    assert ends.sent == [SentMessage(data=event("finished", job.id), users=(UserId("ann"),))]


def test_nobody_is_told_of_silent_queues_and_of_jobs_of_nobody(ends: Application) -> None:
    with ends.connected("ann") as ann:
        ends.run_job("silent", "work", user="ann")
        ends.run_job("notified", "work")
        assert ann.received == []
    assert ends.sent == []


def test_a_failure_is_told_when_no_attempt_is_left(ends: Application) -> None:
    with ends.connected("ann") as ann:
        ann.send({"push": "fail"})
        with pytest.raises(LookupError, match="a secret"):
            ends.run_jobs()
        assert len(ann.received) == 1
        assert dead_letters.newest().value == []
        with pytest.raises(LookupError, match="a secret"):
            ends.run_job("notified", "fail", user="ann", attempt=2)
        [letter] = dead_letters.newest().value
        job_id = letter.job.id
        assert ann.received[1:] == [
            event("failed", job_id, error=f"internal error ({job_id})"),
        ]
    assert (letter.attempts, letter.error) == (2, "LookupError: a secret")
    assert "raise LookupError" in letter.traceback


def test_what_a_client_error_says_is_told(ends: Application) -> None:
    with ends.connected("ann") as ann, pytest.raises(ClientError):
        ends.run_job("notified", "say", user="ann", attempt=2)
    assert ann.received[0]["error"] == "no such report"


def test_a_payload_that_does_not_fit_fails_for_good_at_once(ends: Application) -> None:
    with ends.connected("ann") as ann, pytest.raises(InvalidPush):
        ends.run_job("notified", 1, user="ann")
    [letter] = dead_letters.newest().value
    text = "notified does not take this payload: payload: expected `str`, got `int`"
    assert ann.received == [event("failed", letter.job.id, error=text)]


def test_with_expose_errors_every_error_is_told(write_app: WriteApp) -> None:
    app = Application(write_app(ENDS), settings=Settings(expose_errors=True))
    with app.connected("ann") as ann, pytest.raises(LookupError):
        app.run_job("notified", "fail", user="ann", attempt=2)
    assert ann.received[0]["error"] == "a secret"


@pytest.mark.parametrize(
    "handler",
    [
        "def handler(job, *, signal): signal.wait(60)",
        "import asyncio\nasync def handler(job): await asyncio.Event().wait()",
    ],
)
def test_a_timeout_is_told(write_app: WriteApp, handler: str) -> None:
    config = "from queue_run import Config\nconfig = Config(timeout=0.01, retries=0, notify=True)\n"
    app = Application(write_app({"queues/slow.py": config + handler}))
    with app.connected("ann") as ann, pytest.raises(HandlerTimeout):
        app.run_job("slow", 1, user="ann")
    assert ann.received[0]["error"] == "no answer within 0.01 seconds"


def test_a_user_is_told_of_a_job_that_was_cancelled_when_its_turn_comes(
    ends: Application,
) -> None:
    with ends.connected("ann") as ann:
        ann.send({"push": "work"})
        job_id = ann.received[0]
        ann.send({"cancel": job_id})
        assert ann.received == [job_id, {"cancelled": True}]
        assert ends.run_jobs() == []
        assert ann.received[2:] == [event("cancelled", job_id)]
        ann.send({"cancel": job_id})
        assert ann.received[3:] == [{"cancelled": False}]


def test_a_job_that_is_cancelled_while_it_runs_has_not_finished(ends: Application) -> None:
    with ends.connected("ann") as ann:
        assert ends.run_job("notified", "cancel", user="ann") == "cancel"
        assert [each["event"] for each in ann.received] == ["cancelled"]
    assert dead_letters.newest().value == []


async def test_a_client_cancels_a_job_that_runs(ends: Application) -> None:
    async with ends.connected("ann") as ann:
        await ann.send({"push": "wait"})
        running = asyncio.create_task(ends.run_jobs_async())
        await eventually_async(lambda: "waits" in ann.received, what="the job's message")
        job_id = ann.received[0]
        await ann.send({"cancel": job_id})
        with pytest.raises(InterruptedError):
            await running
        assert event("cancelled", job_id) in ann.received
        assert not await queues.cancel(job_id)
    # It was cancelled, which is no failure for good.
    assert await dead_letters.newest() == []
