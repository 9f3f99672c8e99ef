"""Every exception that the client raises.

QueueRunError
├── RequestFailed              the request ended with an error
├── OutcomeUnknown             the request's session ended before its outcome came
├── ClientClosed               the client was closed, or not opened yet
├── ConnectionRefused          the server refuses this client for good
└── ConnectionFailed           the first connection did not come about in time
"""

from queue_run.errors import QueueRunError


class RequestFailed(QueueRunError):
    """Raised by `request` when it ended with an error; its text is the server's."""


class OutcomeUnknown(QueueRunError):
    """Raised by `request` when its session ended before the outcome came.

    It may have run, or not.
    """


class ClientClosed(QueueRunError):
    """Raised by `request` when the client is closed, or was not opened yet."""


class ConnectionRefused(QueueRunError, ConnectionError):
    """Raised when the server refuses this client for good: another attempt would change nothing.

    Args:
        code: the HTTP status 401, 403 or 404, or the close code 4401.
        reason: what the server said; may be empty.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason

    def __str__(self) -> str:
        said = f": {self.reason}" if self.reason else ""
        return f"the server refused the connection with {self.code}{said}"


class ConnectionFailed(QueueRunError, ConnectionError):
    """Raised when the first connection did not come about within `connect_timeout` seconds.

    Its `__cause__` is what the last attempt failed with.
    """
