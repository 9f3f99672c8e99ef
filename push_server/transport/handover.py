"""The handover of sockets: the only place that takes one away from a Tornado stream."""

import asyncio
import socket
from typing import NamedTuple, cast

from tornado.iostream import IOStream


class Taken(NamedTuple):
    """A connected socket, which does not block, and nobody else knows any more."""

    socket: socket.socket
    #: What the client had sent by then, as far as it was read.
    early: bytes


def take_over(stream: IOStream) -> Taken | None:
    """Take the socket of a stream that no HTTP connection uses any more (see
    `RequestHandler.detach`); None when its client has gone.

    The stream is of no use then.
    """
    if stream.closed():
        return None
    stream.set_nodelay(True)
    # Is done at once if the stream has read more than the request, and is never waited for.
    reading = cast("asyncio.Future[bytes]", stream.read_bytes(stream.max_buffer_size, partial=True))
    if stream.closed():
        return None
    stream.io_loop.remove_handler(stream.socket)
    return Taken(stream.socket, reading.result() if reading.done() else b"")
