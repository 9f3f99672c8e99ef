"""What users are told of the ends of their jobs, and what is kept of those that have failed."""

from typing import Any

import msgspec
import pytest

from queue_run import ClientError, socket
from tests.unit.worker.building import queue
from tests.unit.worker.jobs.test_attempts import ANN, JOB, Here, failing, here, nothing

__all__ = ["here"]


def test_a_user_is_told_of_the_end_after_all_that_the_job_has_sent(here: Here) -> None:
    here.jobs.run(queue(lambda job: socket.send("100%"), notify=True), JOB)
    sent, told = here._told
    assert sent.message.data == b"100%"
    assert (told.users, msgspec.json.decode(told.message.data)) == (
        ["ann"],
        {"event": "finished", "job": "job-1", "queue": "mail"},
    )


@pytest.mark.parametrize(
    ("failure", "text"),
    [
        (LookupError("secret"), "internal error (job-1)"),
        (ClientError("the mail has no receiver"), "the mail has no receiver"),
        (ClientError(), "ClientError"),
    ],
    ids=repr,
)
def test_a_user_is_told_of_a_failure_once_and_without_secrets(
    here: Here, failure: Exception, text: str
) -> None:
    for _ in range(2):
        here.jobs.run(queue(failing(failure), retries=1, notify=True), JOB)
    assert here.told == [{"event": "failed", "job": "job-1", "queue": "mail", "error": text}]


@pytest.mark.parametrize("user", [None, {"no": "id"}])
def test_without_notify_nobody_is_told_and_without_a_user_nobody_can_be(
    here: Here, user: Any
) -> None:
    facts = msgspec.structs.replace(ANN, user=user)
    here.jobs.run(queue(nothing, notify=user is None), msgspec.structs.replace(JOB, facts=facts))
    assert here.told == []


def test_an_end_that_is_told_again_has_the_same_id(here: Here) -> None:
    here.publisher.published.clear()
    for facts in (ANN, ANN, msgspec.structs.replace(ANN, revived=1)):
        here.client.delete(here.runtime.keys.job(JOB.id))
        here.jobs.run(queue(nothing, notify=True), msgspec.structs.replace(JOB, facts=facts))
    first, again, revived = here.told_ids
    assert first == again
    assert revived != first
