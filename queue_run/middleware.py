"""The default middleware of an application. Middleware of its own may call these functions.

Messages received, jobs and errors are logged. Messages sent are not.
"""

import logging
from typing import Any

from queue_run.application.requests import ConnectionRequest, Job, Request, SentMessage
from queue_run.errors import ClientError, HandlerTimeout, InvalidPush, WorkerLost
from queue_run.logs import excerpt
from queue_run.logs.complaints import Seldom

__all__ = [
    "log_error",
    "log_job_finished",
    "log_job_started",
    "log_message_received",
    "log_message_sent",
]

log = logging.getLogger("queue_run.messages")
job_log = logging.getLogger("queue_run.jobs")

#: Characters of a message that are logged.
SHOWN = 200
#: Characters of an error's text that are logged.
MAX_SAID = 500

_tracebacks = Seldom()


def log_message_received(request: Request) -> None:
    """Log a message that a client has sent; the default `on_message_received`."""
    if not log.isEnabledFor(logging.INFO):
        return
    log.info(
        "%s: <= %s",
        request.connection,
        shown(request.data),
        extra={"action": "message_received", "request": request.request_id},
    )


def log_message_sent(message: SentMessage) -> None:
    """Log a message that was sent. The default `on_message_sent` is None, not this function."""
    log.info("%s: => %s", message.target, shown(message.data), extra={"action": "message_sent"})


def log_job_started(job: Job) -> None:
    """Log the start of a job's attempt; the default `on_job_started`."""
    if job_log.isEnabledFor(logging.INFO):
        again = f", attempt {job.attempt}" if job.attempt > 1 else ""
        job_log.info("%s started%s", _name(job), again, extra={"action": "job_started"})


def log_job_finished(job: Job) -> None:
    """Log that a job has finished; the default `on_job_finished`."""
    if job_log.isEnabledFor(logging.INFO):
        job_log.info("%s finished", _name(job), extra={"action": "job_finished"})


def log_error(error: BaseException, request: Request | ConnectionRequest | Job | None) -> None:
    """Log an error; the default `on_error`.

    The log line has a traceback, unless the error is expected: an error for the client, a timeout,
    an invalid push, a lost worker. Tracebacks that repeat themselves are left out.

    Args:
        error: the error that was raised.
        request: the request or job in which it was raised; None outside of them.
    """
    expected = isinstance(error, ClientError | HandlerTimeout | InvalidPush | WorkerLost)
    # A client may make the same handler fail a hundred times a second.
    told = expected or not _tracebacks.may_tell(_place(error))
    (job_log if isinstance(request, Job) else log).log(
        logging.WARNING if expected else logging.ERROR,
        "%s failed: %s%s",
        _where(request),
        _said(error),
        " (its traceback is like the last ones)" if told and not expected else "",
        exc_info=None if told else error,
        extra={"action": "error"},
    )


def _place(error: BaseException) -> tuple[str, str, int]:
    """The type of an error, and the file and line that raised it."""
    file, line = "", 0
    traceback = error.__traceback__
    while traceback is not None:
        file, line = traceback.tb_frame.f_code.co_filename, traceback.tb_lineno
        traceback = traceback.tb_next
    return type(error).__qualname__, file, line


def _said(error: BaseException) -> str:
    """The text of an error, shortened: it may quote a long message of a client."""
    try:
        return excerpt(str(error), MAX_SAID)
    except Exception:
        return f"{type(error).__name__}, which cannot say what it is"


def shown(data: Any) -> str:
    """The beginning of a message on one line; control characters cannot forge log lines."""
    text = f"{len(data)} bytes" if isinstance(data, bytes) else repr(data)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def _name(job: Job) -> str:
    return f"{job.queue_name}[{job.job_id}]"


def _where(request: Request | ConnectionRequest | Job | None) -> str:
    if isinstance(request, Job):
        return f"{_name(request)}, attempt {request.attempt},"
    if isinstance(request, Request):
        user = request.user.get("id") if isinstance(request.user, dict) else None
        who = f"user {user}, {request.file}" if request.file else f"user {user}"
        return f"{request.request_id} at {request.path} ({who})"
    if isinstance(request, ConnectionRequest):
        return f"on_authenticate for {request.path} from {request.remote_ip}"
    return "sending"
