"""The client: it stays connected, and hands out messages and replies."""

import asyncio
import inspect
import logging
import ssl as tls
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, assert_never

from queue_run.client import backoff
from queue_run.client.backoff import Backoff
from queue_run.client.connection import (
    FAILURES,
    TOO_LARGE,
    UNAUTHORIZED,
    Connection,
    Lost,
    OtherProtocol,
    open_socket,
)
from queue_run.client.errors import (
    ClientClosed,
    ConnectionFailed,
    OutcomeUnknown,
    Rejected,
)
from queue_run.client.inbox import GAP, Inbox, InboxEnded
from queue_run.client.options import GRACE, INBOX, Options
from queue_run.client.protocol import (
    Answered,
    Event,
    Failed,
    Missed,
    Moving,
    NoWelcome,
    Protocol,
    Ready,
    Received,
)
from queue_run.client.tokens import NoToken, Token, ask_for_token
from queue_run.logs import safe_line
from queue_run.settings.masking import without_password

log = logging.getLogger(__name__)


def connect(
    url: str | Sequence[str],
    *,
    token: Token | None = None,
    headers: Mapping[str, str] | None = None,
    ssl: tls.SSLContext | None = None,
    on_gap: Callable[[], object] | None = None,
    on_connected: Callable[[], object] | None = None,
    on_disconnected: Callable[[], object] | None = None,
    connect_timeout: float | None = 10.0,
    grace: float = GRACE,
    inbox: int = INBOX,
) -> "Client":
    """Make a client, to be used as `async with connect(...) as client`.

    Args:
        url: `ws://` or `wss://`; several for several push servers: they are tried in this order,
            and the next one after each failure.
        token: sent as `Authorization: Bearer`. A function, plain or async, is called for the token
            at each attempt, for tokens that expire. A function that raises, or takes longer than 30
            seconds, counts as an attempt that failed. A plain function must not block.
        headers: headers of the handshake.
        ssl: the context for `wss://`, instead of Python's default.
        on_gap: a function, plain or async, called without arguments where messages may have been
            missed. The task that takes the messages calls it, in their order: the messages from
            before the gap were handed out before. An error that it raises is raised in that task.
        on_connected: a plain function, called when requests can be sent, also after a reconnect.
        on_disconnected: a plain function, called when requests can be sent no more.
        connect_timeout: seconds for the first connection, in which failed attempts are repeated.
            None: without a limit. Later connections are always attempted without a limit.
        grace: seconds beyond its heartbeat after which a silent server counts as gone.
        inbox: the number of messages that may wait to be taken. Beyond it the client does not read
            the socket. But where a request waits for its reply, or no task ever takes messages, the
            client reads on: it drops the oldest messages and reports a gap in their place.

    Raises:
        ValueError: for arguments with which every attempt would fail: an address that is not one of
            a WebSocket, a header or a token that cannot be sent.
    """
    return Client(
        Options(
            urls=(url,) if isinstance(url, str) else tuple(url),
            token=token,
            headers=dict(headers or {}),
            ssl=ssl,
            on_gap=on_gap,
            on_connected=on_connected,
            on_disconnected=on_disconnected,
            connect_timeout=connect_timeout,
            grace=grace,
            inbox=inbox,
        )
    )


class Client:
    """A client with a connection that is made anew whenever it is lost; `connect` makes the client.

    `async for message in client` gives the messages in their order, to one task at a time. The
    iteration ends when the client is closed, and raises `Rejected` when the server refuses the
    client for good.
    """

    def __init__(self, options: Options) -> None:
        self._options = options
        self._protocol = Protocol()
        self._inbox = Inbox(options.inbox)
        self._backoff = Backoff()
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._task: asyncio.Task[None] | None = None
        self._connection: Connection | None = None
        self._first: asyncio.Future[None] | None = None
        #: Index of the address in use.
        self._url = 0
        self._times_connected = 0
        #: The error of the last connection or attempt.
        self._failure: BaseException | None = None
        #: The error with which the client has ended for good; None while it has not.
        self._end: Exception | None = None

    # State.

    @property
    def connected(self) -> bool:
        """True while requests are sent at once; else they wait for a connection."""
        return self._protocol.up

    @property
    def reconnects(self) -> int:
        """The number of times that the client has connected again."""
        return max(0, self._times_connected - 1)

    @property
    def user(self) -> str | None:
        """The user's id; None for an anonymous user, and before the first connection."""
        return self._protocol.user

    @property
    def session(self) -> str | None:
        """The secret of the session; None when there is no session."""
        return self._protocol.session

    @property
    def offset(self) -> str | None:
        """The offset up to which messages were received; opaque. None before there is one."""
        return self._protocol.offset

    @property
    def epoch(self) -> str | None:
        """The epoch that the offset belongs to; opaque. None before there is one."""
        return self._protocol.epoch

    # Opening and closing.

    async def open(self) -> None:
        """Connect for the first time; `async with` calls this.

        Raises:
            Rejected: when the server refuses the client for good.
            ConnectionFailed: when there was no connection within `connect_timeout` seconds.
            RuntimeError: when the client was opened before.
        """
        if self._task is not None:
            raise RuntimeError("a client is opened once: connect again for another one")
        loop = asyncio.get_running_loop()
        self._first = loop.create_future()
        self._task = loop.create_task(self._run(), name="queue_run.client")
        try:
            async with asyncio.timeout(self._options.connect_timeout):
                await asyncio.shield(self._first)
        except TimeoutError:
            await self.close()
            failure = self._failure
            said = f": {failure}" if failure is not None else ""
            raise ConnectionFailed(
                f"no connection to {' or '.join(map(without_password, self._options.urls))} "
                f"within {self._options.connect_timeout:g} seconds{said}"
            ) from failure
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Close the client for good. Waiting requests raise `ClientClosed`, the iteration ends."""
        self._inbox.clear()
        self._finish(ClientClosed("the client is closed"))
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task])

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    # Requests and messages.

    async def request(
        self,
        data: object,
        *,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> Any:
        """Send a request, and wait for the reply of its handler.

        A request may be made while there is no connection: the client sends it when there is one.
        When the connection is lost before the reply has come, the client sends the request again,
        and workers do not run it again.

        Args:
            data: bytes, or anything that has a JSON form.
            timeout: seconds to wait for the outcome; None for no limit.

        Returns:
            A JSON value, text or bytes; None when the handler returned nothing.

        Raises:
            RequestFailed: with the text of the error.
            OutcomeUnknown: when the session ended before the outcome came: the request may have
                run, or not.
            TimeoutError: when no outcome came in time; the request may still run.
            ClientClosed: when the client is closed, or was not opened yet.
            Rejected: when the server refuses this client for good.
            NotEncodable: for data that has no JSON form.
        """
        if self._end is not None:
            raise self._end
        if self._task is None:
            raise ClientClosed("the client is not open: async with connect(...) as client")
        number = self._protocol.request(data)
        outcome = self._waiting[number] = asyncio.get_running_loop().create_future()
        self._flush()
        self._inbox.release()
        try:
            async with asyncio.timeout(timeout):
                return await outcome
        except TimeoutError:
            raise TimeoutError(f"no outcome within {timeout:g} seconds") from None
        finally:
            del self._waiting[number]
            self._protocol.forget(number)
            if outcome.done() and not outcome.cancelled():
                # Known to asyncio as seen, also where the caller was cancelled meanwhile.
                outcome.exception()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        while True:
            try:
                message = await self._inbox.get()
            except InboxEnded:
                if self._end is None or isinstance(self._end, ClientClosed):
                    raise StopAsyncIteration from None
                raise self._end from None
            if message is not GAP:
                return message
            await self._tell_gap()

    async def _tell_gap(self) -> None:
        if self._options.on_gap is None:
            log.warning("messages may have been missed, and there is no on_gap to act on it")
            return
        result = self._options.on_gap()
        if inspect.isawaitable(result):
            await result

    # The task.

    async def _run(self) -> None:
        try:
            while True:
                await self._attempt()
        except Rejected as error:
            log.warning("%s", error)
            self._finish(error)
        except Exception as error:
            log.exception("the client has failed")
            self._finish(error)
        except BaseException as error:
            # The program ends: no request is to wait in vain until then.
            self._finish(ClientClosed(f"the client has ended with {type(error).__name__}"))
            if not isinstance(error, GeneratorExit):
                raise

    async def _attempt(self) -> None:
        """Make one connection, stay until it ends, and wait before the next one."""
        self._handle(self._protocol.expire(_now()))
        try:
            moved = await self._connect()
        except Rejected:
            raise
        except (Lost, OtherProtocol, NoWelcome, NoToken, *FAILURES) as error:
            self._failure = error
            moved = False
        except Exception as error:
            # The client has promised later attempts, whatever the error.
            log.exception("the connection failed unexpectedly")
            self._failure = error
            moved = False
        self._url = (self._url + 1) % len(self._options.urls)
        if not moved:
            delay = self._backoff.delay()
            level = logging.WARNING if isinstance(self._failure, NoToken) else logging.INFO
            log.log(level, "not connected (%s): again in %.2f seconds", self._why(), delay)
            await asyncio.sleep(delay)

    def _why(self) -> str:
        """The reason why there is no connection, on one line: it may be a text of the server."""
        try:
            return safe_line(str(self._failure))
        except Exception:
            return type(self._failure).__name__

    async def _connect(self) -> bool:
        """Connect, and stay connected; True if the server has asked to end the connection."""
        options = self._options
        headers = {**options.headers, **await self._authorization()}
        socket = await open_socket(options.urls[self._url], headers, options.ssl)
        connection = self._connection = Connection(socket, self._protocol, options.grace)
        self._protocol.opened()
        try:
            while True:
                self._handle(self._protocol.receive(await connection.receive(), _now()))
                self._flush()
                if self._inbox.full:
                    await self._make_room(connection)
        except Lost as error:
            if error.code == UNAUTHORIZED and not (self.connected and callable(options.token)):
                raise Rejected(error.code, error.reason) from error
            if error.code == TOO_LARGE:
                self._handle(self._protocol.too_large())
            # A server that sends everybody away at once must not be asked without a pause.
            if connection.moved and connection.age >= backoff.FIRST:
                return True
            raise
        except asyncio.CancelledError:
            await connection.close()
            raise
        finally:
            self._disconnected(connection)

    async def _authorization(self) -> dict[str, str]:
        token = self._options.token
        if token is None:
            return {}
        if callable(token):
            token = await ask_for_token(token)
        return {"Authorization": f"Bearer {token}"}

    async def _make_room(self, connection: Connection) -> None:
        if self._waiting or not self._inbox.taken:
            # Not to read would keep replies from their requests: for ever, where the one that takes
            # the messages waits for a reply.
            self._inbox.drop_oldest()
            return
        connection.pause()
        await self._inbox.room()
        connection.go_on()

    def _flush(self) -> None:
        if self._connection is not None:
            self._connection.flush()

    def _handle(self, events: Iterable[Event]) -> None:
        for event in events:
            match event:
                case Received():
                    self._inbox.put(event.value)
                case Missed():
                    self._inbox.put_gap()
                case Answered():
                    self._settle(event.id, event.value)
                case Failed():
                    self._settle(event.id, event.error)
                case Ready():
                    self._connected()
                case Moving():
                    assert self._connection is not None
                    self._connection.move(event.after)
                case _:
                    assert_never(event)

    def _settle(self, number: int, answer: Any) -> None:
        waiting = self._waiting.get(number)
        if waiting is None or waiting.done():
            return
        if isinstance(answer, Exception):
            waiting.set_exception(answer)
        else:
            waiting.set_result(answer)

    def _connected(self) -> None:
        self._times_connected += 1
        if self._first is not None and not self._first.done():
            self._first.set_result(None)
        _call(self._options.on_connected)

    def _disconnected(self, connection: Connection) -> None:
        connection.discard()
        self._connection = None
        was_connected = self.connected
        self._protocol.lost()
        if was_connected:
            self._backoff.lasted(connection.age)
            _call(self._options.on_disconnected)

    def _finish(self, error: Exception) -> None:
        """End the client: requests that wait fail with the error, and no message comes any more."""
        if self._end is not None:
            return
        self._end = error
        self._inbox.end()
        for number in self._waiting:
            if self._protocol.was_written(number) and not isinstance(error, ClientClosed):
                unknown = OutcomeUnknown(f"the request may have run, or not: {error}")
                self._settle(number, unknown)
            else:
                self._settle(number, error)
        if self._first is not None and not self._first.done():
            self._first.set_exception(error)
            # Nobody may wait for it any more.
            self._first.exception()


def _now() -> float:
    return asyncio.get_running_loop().time()


def _call(hook: Callable[[], object] | None) -> None:
    """Call a function of the application; the client goes on without it."""
    if hook is None:
        return
    try:
        hook()
    except Exception:
        log.exception("%r failed", hook)
