"""queue-run: realtime WebSockets and job queues on Celery, Redis and Tornado.

An application imports everything it needs from here.
"""

from queue_run.application import hidden_modules as _hidden_modules  # isort: split

# First of all: a file in the working directory may have the name of what is imported next.
_hidden_modules.leave_out_working_directory()

from queue_run import dead_letters, middleware, queues, socket
from queue_run.application.config import Config
from queue_run.application.requests import ConnectionRequest, Job, Request, SentMessage, Signal
from queue_run.channel.receipts import Receipt
from queue_run.contracts.answers import Answer
from queue_run.errors import (
    ApplicationError,
    AskToken,
    ChannelUnavailable,
    ClientError,
    DispatchUnavailable,
    HandlerTimeout,
    InvalidName,
    InvalidPush,
    JobStoreUnavailable,
    MessageTooLarge,
    NotAwaited,
    NotEncodable,
    OutsideCall,
    QueueRunError,
    Refuse,
    SettingsError,
    UnfitPackage,
    UnknownDeadLetter,
    UnknownQueue,
    WorkerLost,
)
from queue_run.jobs.stored import DeadLetter
from queue_run.process.acting import as_user
from queue_run.process.context import expire_connection
from queue_run.process.runtime import configure
from queue_run.queues import Queue
from queue_run.settings import Settings

_hidden_modules.note_imports()

__all__ = [
    # Sending and pushing
    "Answer",
    "as_user",
    "dead_letters",
    "Queue",
    "queues",
    "Receipt",
    "socket",
    # Middleware, and what its files may wrap
    "middleware",
    # What handlers are given, and what their files may say
    "Config",
    "ConnectionRequest",
    "DeadLetter",
    "expire_connection",
    "Job",
    "Request",
    "SentMessage",
    "Signal",
    # Settings
    "Settings",
    "configure",
    # Errors
    "ApplicationError",
    "AskToken",
    "ChannelUnavailable",
    "ClientError",
    "DispatchUnavailable",
    "HandlerTimeout",
    "InvalidName",
    "InvalidPush",
    "JobStoreUnavailable",
    "MessageTooLarge",
    "NotAwaited",
    "NotEncodable",
    "OutsideCall",
    "QueueRunError",
    "Refuse",
    "SettingsError",
    "UnfitPackage",
    "UnknownDeadLetter",
    "UnknownQueue",
    "WorkerLost",
]
