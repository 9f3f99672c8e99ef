"""The default middleware."""

import logging
from typing import Any

import pytest

from queue_run.application.requests import ConnectionRequest, Job, Request, SentMessage, Signal
from queue_run.contracts.ids import ConnectionId, RequestId, UserId
from queue_run.errors import ClientError, HandlerTimeout, InvalidPush, WorkerLost
from queue_run.logs.complaints import Seldom
from queue_run.middleware import (
    SHOWN,
    log_error,
    log_job_finished,
    log_job_started,
    log_message_received,
    log_message_sent,
    shown,
)


def request(data: Any = "hi", user: Any = None) -> Request:
    return Request(
        connection=ConnectionId("s1-1"),
        data=data,
        request_id=RequestId("s1-1-7"),
        user=user,
        path="/chat",
        params={},
        query={"token": "secret"},
        signal=Signal(),
    )


@pytest.fixture(autouse=True)
def _info(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "queue_run.messages")
    caplog.set_level(logging.INFO, "queue_run.jobs")


def test_a_message_received_is_logged_with_its_connection(
    caplog: pytest.LogCaptureFixture,
) -> None:
    log_message_received(request({"a": 1}))
    assert caplog.messages == ["s1-1: <= {'a': 1}"]


def test_a_message_received_is_not_looked_at_when_nothing_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Shy:
        def __repr__(self) -> str:
            raise AssertionError("looked at")

    caplog.set_level(logging.WARNING, "queue_run.messages")
    log_message_received(request(Shy()))
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("message", "line"),
    [
        (SentMessage(data="hi", connection=ConnectionId("s1-1")), "s1-1: => 'hi'"),
        (SentMessage(data=[1], users=(UserId("ann"), UserId("bob"))), "ann, bob: => [1]"),
        (
            SentMessage(data=b"12", users=tuple(UserId(str(n)) for n in range(10_000))),
            "0, 1, 2 and 9997 more: => 2 bytes",
        ),
        (SentMessage(data=None, room="hall"), "room hall: => None"),
    ],
)
def test_a_message_sent_is_logged_with_whom_it_goes_to(
    caplog: pytest.LogCaptureFixture, message: SentMessage, line: str
) -> None:
    log_message_sent(message)
    assert caplog.messages == [line]


def test_an_error_is_logged_with_its_traceback_request_and_user(
    caplog: pytest.LogCaptureFixture,
) -> None:
    error = ValueError("broken")
    log_error(error, request(user={"id": "ann", "password": "secret"}))
    [record] = caplog.records
    assert record.message == "s1-1-7 at /chat (user ann) failed: broken"
    assert record.levelno == logging.ERROR
    assert record.exc_info is not None
    assert record.exc_info[1] is error


def raised(text: str) -> ValueError:
    try:
        raise ValueError(text)
    except ValueError as error:
        return error


def test_an_error_that_comes_again_and_again_has_few_tracebacks(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("queue_run.middleware._tracebacks", Seldom(first=3))
    for number in range(5):
        log_error(raised(f"no {number}"), request())
    assert [bool(each.exc_info) for each in caplog.records] == [True] * 3 + [False] * 2
    assert caplog.messages[4].endswith("failed: no 4 (its traceback is like the last ones)")
    # An error of another place is another one.
    log_error(ValueError("other"), request())
    assert caplog.records[5].exc_info


def test_of_an_error_so_much_is_logged_as_helps(caplog: pytest.LogCaptureFixture) -> None:
    class Wordless(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    log_error(ClientError("x" * 60_000), request())
    assert len(caplog.messages[0]) < 700
    log_error(Wordless(), request())
    assert "failed: Wordless, which cannot say what it is" in caplog.messages[1]


@pytest.mark.parametrize("error", [ClientError("send less"), HandlerTimeout(1.0)])
def test_an_error_to_be_expected_is_a_warning_without_traceback(
    caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    log_error(error, request())
    [record] = caplog.records
    assert record.message == f"s1-1-7 at /chat (user None) failed: {error}"
    assert record.levelno == logging.WARNING
    assert not record.exc_info


def test_an_error_of_on_authenticate_is_logged_without_what_may_hold_a_token(
    caplog: pytest.LogCaptureFixture,
) -> None:
    asked = ConnectionRequest(
        path="/chat",
        query={"token": "secret"},
        headers={"cookie": "secret"},
        remote_ip="203.0.113.5",
    )
    log_error(ValueError("broken"), asked)
    assert caplog.messages == ["on_authenticate for /chat from 203.0.113.5 failed: broken"]


def test_an_error_outside_requests_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    log_error(ValueError("broken"), None)
    assert caplog.messages == ["sending failed: broken"]


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("hi", "'hi'"),
        (b"\x00" * 5, "5 bytes"),
        ("a\nb\x1b[31m", "'a\\nb\\x1b[31m'"),
        ({"a": "\r\n"}, "{'a': '\\r\\n'}"),
    ],
)
def test_a_message_is_shown_on_one_line(data: Any, text: str) -> None:
    assert shown(data) == text


def test_a_long_message_is_cut() -> None:
    assert shown("x" * 10_000) == "'" + "x" * (SHOWN - 1) + "…"


# Jobs


def job(attempt: int = 1) -> Job:
    payload = {"password": "secret"}
    return Job(job_id="an-id", queue_name="mail", payload=payload, attempt=attempt)


@pytest.mark.parametrize(
    ("attempt", "line"),
    [(1, "mail[an-id] started"), (2, "mail[an-id] started, attempt 2")],
)
def test_the_beginning_of_a_job_is_logged_without_its_payload(
    caplog: pytest.LogCaptureFixture, attempt: int, line: str
) -> None:
    log_job_started(job(attempt))
    assert caplog.messages == [line]


def test_the_end_of_a_job_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    log_job_finished(job())
    [record] = caplog.records
    assert (record.message, record.name) == ("mail[an-id] finished", "queue_run.jobs")


def test_jobs_are_logged_only_where_that_is_wanted(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "queue_run.jobs")
    log_job_started(job())
    log_job_finished(job())
    assert caplog.messages == []


def test_an_error_of_a_job_is_logged_with_its_traceback_and_attempt(
    caplog: pytest.LogCaptureFixture,
) -> None:
    log_error(ValueError("broken"), job(3))
    [record] = caplog.records
    assert record.message == "mail[an-id], attempt 3, failed: broken"
    assert (record.name, record.levelno) == ("queue_run.jobs", logging.ERROR)
    assert record.exc_info


@pytest.mark.parametrize("error", [InvalidPush("no such field"), WorkerLost(3), HandlerTimeout(1)])
def test_an_error_of_a_job_that_no_code_made_is_a_warning(
    caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    log_error(error, job(3))
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert not record.exc_info
