"""Every exception that the client raises.

QueueRunError
├── RequestFailed              the request ended with an error
├── OutcomeUnknown             the request's session ended before its outcome came
├── ClientClosed               the client was closed, or not opened yet
├── Rejected                   the server refuses this client for good
└── ConnectionFailed           the first connection did not come about in time
"""

from queue_run.errors import QueueRunError


class RequestFailed(QueueRunError):
    """Raised by `request` when the request ended with an error; the text is the server's."""


class OutcomeUnknown(QueueRunError):
    """Raised by `request` when its session ended before the outcome came.

    The request may have run, or not.
    """


class ClientClosed(QueueRunError):
    """Raised by `request` when the client is closed, or was not opened yet."""


class Rejected(QueueRunError, ConnectionError):
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

    The `__cause__` is the error of the last attempt.
    """
