"""Every exception that queue_run raises, sorted by who must act.

QueueRunError
├── UsageError                 the application's author, or whoever deploys it
│   ├── SettingsError          settings that cannot be used, all of them together
│   ├── ApplicationError       files of the application that cannot be loaded, all of them together
│   ├── UnfitPackage           a version of a dependency that queue-run cannot work with
│   ├── OutsideCall            `socket.send` where there is nobody to send to
│   ├── NotAwaited             an answer's value in asynchronous code that has not awaited it
│   ├── UnknownQueue           a queue that no worker offers
│   ├── InvalidPush            a push that does not fit its queue
│   ├── InvalidName            an id or a name that cannot be used
│   ├── UnknownDeadLetter      a dead letter that is not there
│   ├── NotEncodable           a message or payload that has no JSON form
│   └── MessageTooLarge        a message beyond `max_message_bytes`
├── ClientError                the client: its text is sent to the client
├── Refuse                     control flow: `on_authenticate` refuses a connection
├── AskToken                   control flow: `on_authenticate` wants a token in the first message
├── HandlerTimeout             a handler or job ran past its timeout
├── WorkerLost                 a job's worker was killed, or its machine died
└── InfrastructureError        whoever runs Redis and the broker
    ├── ChannelUnavailable     Redis took no message within the time allowed
    ├── DispatchUnavailable    the broker took no task within the time allowed
    ├── JobStoreUnavailable    Redis did not say what is known of a job within the time allowed
    └── InvalidEnvelope        bytes on the channel or the broker that are not ours
"""

from collections.abc import Iterable, Sequence


class QueueRunError(Exception):
    """Base of every exception of queue_run."""


class UsageError(QueueRunError):
    """Base of the errors that the application's author, or whoever deploys it, must correct."""


class SettingsError(UsageError):
    """Raised by `Settings.from_env` with every problem it found.

    Args:
        problems: one sentence each, naming the variable and what to set.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__(problems)
        self.problems = tuple(problems)

    def __str__(self) -> str:
        return _listing("settings cannot be used", self.problems)


class ApplicationError(UsageError):
    """Raised when the application is loaded, with every file that failed.

    Args:
        problems: one sentence each, beginning with the file's name.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__(problems)
        self.problems = tuple(problems)

    def __str__(self) -> str:
        return _listing("the application cannot be loaded", self.problems)


class UnfitPackage(UsageError):
    """Raised when a process starts, or first needs Celery, with a version of a package with which
    queue-run cannot work.

    Args:
        package: its name, as pip knows it.
        installed: its version.
        lacks: what it does not have as queue-run needs it.
        tested: a version that has it.
    """

    def __init__(self, package: str, installed: str, lacks: str, tested: str) -> None:
        super().__init__(package, installed, lacks, tested)
        self.package, self.installed = package, installed
        self.lacks, self.tested = lacks, tested

    def __str__(self) -> str:
        return (
            f"{self.package} {self.installed} does not fit this version of queue-run, which needs "
            f"its {self.lacks}: pip install '{self.package}=={self.tested}'"
        )


class OutsideCall(UsageError):
    """Raised by `socket.send`, `close`, `join` and `leave` where no request or job of a user runs.

    Args:
        verb: what was called, without `socket.`.
    """

    def __init__(self, verb: str) -> None:
        super().__init__(verb)
        self.verb = verb

    def __str__(self) -> str:
        where = f"socket.{self.verb}(...) works only while a request or a job of a user runs"
        if self.verb in ("send", "close"):
            return f"{where}: here, name the users: socket.to(user_id).{self.verb}(...)"
        return where


class NotAwaited(UsageError, RuntimeError, TypeError):
    """Raised for the value of an answer that asynchronous code has not awaited."""

    # Both of Python's own kinds were raised before there was one answer for all calls.

    def __str__(self) -> str:
        return "in asynchronous code an answer has no value before it was awaited: await it"


class UnknownQueue(UsageError):
    """Raised by `push` for a queue that no worker offers.

    Args:
        name: the queue asked for.
        known: the queues that workers offer.
    """

    def __init__(self, name: str, known: Iterable[str]) -> None:
        super().__init__(name, known)
        self.name = name
        self.known = tuple(sorted(known))

    def __str__(self) -> str:
        offered = ", ".join(self.known) if self.known else "none"
        return f"no queue {self.name!r}: the workers offer {offered}"


class InvalidPush(UsageError):
    """Raised by `push` for a push that does not fit its queue; the text says what to do.

    The handler does not take the payload, or there is a group where there must be none, or none
    where there must be one. A job that arrives by another way is parked with this error.
    """


class InvalidName(UsageError, TypeError, ValueError):
    """Raised for an id or a name that cannot be used: of a user, a room, a queue, a group, a job.
    The text names it, and says why. Most come from clients, and are what they are wherever they
    were made: so it is a TypeError and a ValueError, too."""


class UnknownDeadLetter(UsageError):
    """Raised for a dead letter that does not exist: it never did, or was retried or dropped."""

    def __init__(self, job_id: str) -> None:
        super().__init__(job_id)
        self.job_id = job_id

    def __str__(self) -> str:
        return f"no dead letter {self.job_id!r}: list them with queue-run queue dead list"


class NotEncodable(UsageError):
    """Raised for a value that cannot become a message or a payload.

    Args:
        value: the value; the text names only its type.
        reason: says what is wrong with it.
    """

    def __init__(self, value: object, reason: str) -> None:
        super().__init__(value, reason)
        self.kind = type(value).__name__
        self.reason = reason

    def __str__(self) -> str:
        return f"a value of type {self.kind} cannot be sent: {self.reason}"


class MessageTooLarge(UsageError):
    """Raised by `send` for a message beyond the limit, before it reaches the channel.

    Args:
        size: the message's size in bytes.
        limit: the setting `max_message_bytes`.
    """

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(size, limit)
        self.size = size
        self.limit = limit

    def __str__(self) -> str:
        return (
            f"a message of {self.size:,} bytes exceeds the limit of {self.limit:,}: "
            "send less, send a link to it, or raise QUEUE_RUN_MAX_MESSAGE_BYTES"
        )


class ClientError(QueueRunError):
    """Raise it in a handler: the client gets its text as `{"error": text}`."""


class Refuse(QueueRunError):
    """Raise it in `on_authenticate`: the connection is answered with this HTTP status.

    Args:
        status: an HTTP status of 400 to 599.
        reason: sent as the body of the response.

    Raises:
        ValueError: for another status.
    """

    def __init__(self, status: int = 401, reason: str = "") -> None:
        if not 400 <= status <= 599:
            raise ValueError(f"a refusal needs an HTTP status of 400 to 599, not {status}")
        super().__init__(status, reason)
        self.status = status
        self.reason = reason

    def __str__(self) -> str:
        return self.reason or f"refused with status {self.status}"


class AskToken(QueueRunError):
    """Raise it in `on_authenticate` to ask for a token in the first message.

    The connection is accepted. The client must send its token in its first message, and
    `on_authenticate` is called again with that message.
    """


class HandlerTimeout(QueueRunError):
    """Raised for a handler or job that ran longer than its timeout, in seconds."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds

    def __str__(self) -> str:
        return f"no answer within {self.seconds:g} seconds"


class WorkerLost(QueueRunError):
    """The error of a job's attempt whose worker was killed, or whose machine died.

    Args:
        attempt: the attempt's number, from 1.
    """

    def __init__(self, attempt: int) -> None:
        super().__init__(attempt)
        self.attempt = attempt

    def __str__(self) -> str:
        return f"the worker was lost during attempt {self.attempt}"


class InfrastructureError(QueueRunError):
    """Base of the errors of Redis and the broker: no answer in time, or bytes that are not ours."""


class ChannelUnavailable(InfrastructureError):
    """Raised by `send` when Redis took no message within `publish_timeout` seconds, and by
    `is_online` and `online` when it gave no answer."""


class DispatchUnavailable(InfrastructureError):
    """Raised by `push` when the broker took no task within `publish_timeout` seconds."""


class JobStoreUnavailable(InfrastructureError):
    """Raised when Redis did not answer about a job in time, or took no change to the job."""


class InvalidEnvelope(InfrastructureError):
    """Raised for bytes that are not an envelope of this version.

    Args:
        data: the bytes.
        reason: says what is wrong with them.
    """

    def __init__(self, data: bytes, reason: str) -> None:
        super().__init__(data, reason)
        self.data = data
        self.reason = reason

    def __str__(self) -> str:
        return f"not an envelope: {self.reason} (begins with {self.data[:24]!r})"


def _listing(title: str, problems: Sequence[str]) -> str:
    return "\n".join([f"{title}:", *(f"  - {problem}" for problem in problems)])
