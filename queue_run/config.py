"""`Config`: what a file in `sockets/` or `queues/` may say about its handler."""

from typing import Literal

import msgspec

#: Seconds that a request may take unless its file says otherwise.
REQUEST_TIMEOUT = 10.0
#: Seconds that a job may take unless its file says otherwise.
JOB_TIMEOUT = 300.0

DataType = Literal["auto", "json", "text", "binary"]


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """Options of one file, given as `config = Config(...)`. None takes the default.

    Args:
        timeout: seconds that the handler may take (request: 10, job: 300).
        type: sockets only: what a frame must be. "auto" takes JSON text as JSON, other text as
            text and binary frames as bytes; with any other type, a frame that does not fit is
            answered with an error.
        ordered: sockets only: False lets the requests of one connection run side by side.

    Raises:
        ValueError: for a value that cannot be used.
    """

    timeout: float | None = None
    type: DataType | None = None
    ordered: bool | None = None

    def __post_init__(self) -> None:
        if self.timeout is not None and not 0 < self.timeout < float("inf"):
            raise ValueError(f"timeout is a number of seconds above 0, not {self.timeout!r}")
        if self.type not in (None, "auto", "json", "text", "binary"):
            raise ValueError(f'type is "auto", "json", "text" or "binary", not {self.type!r}')


#: Options that only a file in `sockets/` may set.
SOCKET_ONLY = ("type", "ordered")
