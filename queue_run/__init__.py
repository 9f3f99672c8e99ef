"""queue-run: realtime WebSockets and job queues on Celery, Redis and Tornado.

An application imports everything it needs from here.
"""

from queue_run import queues, socket
from queue_run.config import Config
from queue_run.errors import (
    ApplicationError,
    ChannelUnavailable,
    ClientError,
    DispatchUnavailable,
    HandlerTimeout,
    MessageTooLarge,
    NotEncodable,
    OutsideCall,
    QueueRunError,
    Refuse,
    SettingsError,
    UnknownQueue,
)
from queue_run.requests import ConnectionRequest, Request, Signal
from queue_run.runtime import configure
from queue_run.settings import Settings

__all__ = [
    # Sending and pushing
    "queues",
    "socket",
    # What handlers are given, and what their files may say
    "Config",
    "ConnectionRequest",
    "Request",
    "Signal",
    # Settings
    "Settings",
    "configure",
    # Errors
    "ApplicationError",
    "ChannelUnavailable",
    "ClientError",
    "DispatchUnavailable",
    "HandlerTimeout",
    "MessageTooLarge",
    "NotEncodable",
    "OutsideCall",
    "QueueRunError",
    "Refuse",
    "SettingsError",
    "UnknownQueue",
]
