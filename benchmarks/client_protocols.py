"""The three ways to speak over a WebSocket: plainly, queue-run's envelopes, Socket.IO."""

import asyncio
import json
from typing import Protocol

import msgspec
from picows import WSFrame, WSListener, WSMsgType, WSTransport


class Listener(Protocol):
    """Who is told of what clients get."""

    def received(self, client: "Client", message: bytes) -> None: ...

    def lost(self, client: "Client") -> None: ...

    def fail(self, error: str) -> None: ...


class Client(WSListener):  # type: ignore[misc, unused-ignore]
    """One WebSocket that speaks plainly."""

    headers: dict[str, str] | None = None

    def __init__(self, listener: Listener, user: str) -> None:
        self.user = user
        self.greeted = asyncio.Event()
        self.resumed = asyncio.Event()
        self.gone = asyncio.Event()
        self.resumes_at_once = False
        #: Messages that a resume has brought.
        self.missed = 0
        #: For an exercise: how far this client is.
        self.count = 0
        self.sent_at = 0
        self._listener = listener
        self._transport: WSTransport | None = None

    def address(self, url: str) -> str:
        return f"{url}?user={self.user}" if self.user else url

    def send(self, data: bytes) -> None:
        """Send JSON."""
        self._write(data)

    def resume(self) -> None:
        self._listener.fail("only the envelope protocol can resume")

    async def ping(self) -> list[float]:
        """Seconds until the server's answer to a ping."""
        assert self._transport is not None
        times: list[float] = await self._transport.measure_roundtrip_time(1)
        return times

    def disconnect(self) -> None:
        if self._transport is not None:
            self._transport.disconnect(graceful=False)

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transport = transport
        self._connected()

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type in (WSMsgType.TEXT, WSMsgType.BINARY):
            self._take(frame.get_payload_as_bytes())

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self.gone.set()
        self._listener.lost(self)

    def _connected(self) -> None:
        self.greeted.set()

    def _take(self, data: bytes) -> None:
        self._listener.received(self, data)

    def _write(self, data: bytes) -> None:
        assert self._transport is not None
        self._transport.send(WSMsgType.TEXT, data)


class SocketIO(Client):
    """Engine.IO 4 and Socket.IO 5 over WebSocket alone."""

    def address(self, url: str) -> str:
        return f"{url}socket.io/?EIO=4&transport=websocket&user={self.user}"

    def send(self, data: bytes) -> None:
        self._write(b'42["msg",' + data + b"]")

    def _connected(self) -> None:
        """Greeted is who has joined the namespace, not who is connected."""

    def _take(self, data: bytes) -> None:
        if data.startswith(b'42["msg",'):
            self._listener.received(self, data[9:-1])
        elif data == b"2":
            self._write(b"3")
        elif data.startswith(b"0{"):
            self._write(b"40")
        elif data.startswith(b"40{"):
            self.greeted.set()
        else:
            self._listener.fail(f"an unexpected packet: {data[:100]!r}")


class Frame(msgspec.Struct):
    """What the benchmarks read of a frame of the envelope protocol."""

    type: str
    offset: str | int | None = None
    epoch: str | None = None
    session: str | None = None
    data: msgspec.Raw = msgspec.Raw()


decode_frame = msgspec.json.Decoder(Frame).decode
#: What the clients of each user must present to resume; a reconnect makes new clients.
sessions: dict[str, Frame] = {}


class Envelopes(Client):
    """queue-run.v1 (docs/protocol.md)."""

    headers = {"Sec-WebSocket-Protocol": "queue-run.v1"}  # noqa: RUF012

    def send(self, data: bytes) -> None:
        self.count += 1
        self._write(b'{"id":%d,"data":%s}' % (self.count, data))

    def resume(self) -> None:
        where = sessions[self.user]
        self._write(
            json.dumps(
                {
                    "type": "resume",
                    "session": where.session,
                    "offset": where.offset,
                    "epoch": where.epoch,
                }
            ).encode()
        )

    def _connected(self) -> None:
        """Greeted is who has the welcome."""

    def _take(self, data: bytes) -> None:
        frame = decode_frame(data)
        match frame.type:
            case "message":
                self.missed += 1
                self._listener.received(self, bytes(frame.data))
            case "reply":
                self._listener.received(self, bytes(frame.data))
            case "welcome":
                sessions.setdefault(self.user, frame)
                self.greeted.set()
                if self.resumes_at_once:
                    self.resume()
            case "resumed":
                sessions[self.user].offset = frame.offset
                sessions[self.user].session = frame.session
                self.resumed.set()
            case "ping":
                self._write(b'{"type":"pong"}')
            case _:
                self._listener.fail(f"an unexpected frame: {data[:100]!r}")


PROTOCOLS: dict[str, type[Client]] = {
    "plain": Client,
    "envelopes": Envelopes,
    "socketio": SocketIO,
}
