"""Running one request or one handshake."""

import asyncio
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from queue_run import AskToken, ClientError, Refuse, Request, SentMessage, Signal, socket
from queue_run.application.payloads import validator
from queue_run.application.requests import ConnectionRequest
from queue_run.contracts import envelopes
from queue_run.contracts.envelopes import Authenticated, Inbound, Outcome
from queue_run.contracts.ids import ConnectionId, RequestId, UserId
from queue_run.contracts.messages import Form, Message
from queue_run.process import context
from queue_run.process.runtime import Runtime
from queue_run.storage.clock import Clock
from tests.unit.recorders import RecordingPublisher
from tests.unit.worker.building import (
    CONNECTION,
    DEFAULT_HOOKS,
    REQUEST,
    handshake,
    hook,
    inbound,
    route,
    turn,
)
from tests.waiting import DEADLINE, eventually_async
from worker.application.middleware import Hooks, Middleware
from worker.application.routes import Route, Routes
from worker.calls.threads import HandlerThreads
from worker.running.runner import Runner, decode_data

#: A timeout that passes at once.
SOON = 0.02


class Application:
    """Handlers, and a runner for them."""

    def __init__(self, threads: HandlerThreads) -> None:
        self._threads = threads
        self.expose_errors = False
        self.clock = Clock()

    def runner(self, *routes: Route, authenticate: Callable[..., Any] | None = None) -> Runner:
        return Runner(
            Routes(
                sockets=routes,
                authenticate=hook(authenticate) if authenticate is not None else None,
                hooks=DEFAULT_HOOKS,
            ),
            threads=self._threads,
            middleware=Middleware(asyncio.get_running_loop(), self._threads),
            max_message_bytes=2048,
            expose_errors=self.expose_errors,
            clock=self.clock,
        )

    async def ask(
        self,
        handler: Callable[..., Any],
        data: str | bytes = "x",
        *,
        user: object = None,
        path: str = "/",
        query: str = "",
        **options: Any,
    ) -> Outcome:
        """Run a handler once."""
        pattern = options.pop("pattern", "/")
        runner = self.runner(route(handler, pattern, **options))
        asked = turn(inbound(data), user=user, path=path, query=query)
        async with asyncio.timeout(DEADLINE):
            return await runner.run_request(asked, asked.requests[0])

    async def authenticate(
        self, hook: Callable[..., Any] | None, *headers: tuple[str, str], **asked: Any
    ) -> Authenticated:
        """Run `on_authenticate` once; nothing that it does may come out of the runner."""
        runner = self.runner(authenticate=hook)
        try:
            async with asyncio.timeout(DEADLINE):
                return await runner.authenticate(handshake(*headers, **asked))
        except BaseException as failure:
            raise AssertionError(f"came out of the runner: {failure!r}") from None


@pytest.fixture
def app(threads: HandlerThreads) -> Application:
    return Application(threads)


def both(function: Callable[..., Any]) -> list[Any]:
    """A plain handler, and the asynchronous one that does the same."""

    async def asynchronous(data: Any) -> Any:
        return function(data)

    return [function, asynchronous]


# Replies


@dataclass
class Point:
    x: int


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("text", Message(Form.TEXT, b"text")),
        ("", Message(Form.TEXT, b"")),
        (b"\x00", Message(Form.BINARY, b"\x00")),
        ({"a": 1}, Message(Form.JSON, b'{"a":1}')),
        ([], Message(Form.JSON, b"[]")),
        (0, Message(Form.JSON, b"0")),
        (False, Message(Form.JSON, b"false")),
        (Point(1), Message(Form.JSON, b'{"x":1}')),
    ],
    ids=repr,
)
@pytest.mark.parametrize("kind", [0, 1], ids=["plain", "async"])
async def test_what_a_handler_returns_is_the_reply(
    app: Application, value: object, message: Message, kind: int
) -> None:
    outcome = await app.ask(both(lambda data: value)[kind])
    assert (outcome.connection, outcome.request) == (CONNECTION, REQUEST)
    assert (outcome.reply, outcome.error) == (message, None)


@pytest.mark.parametrize("handler", both(lambda data: None), ids=["plain", "async"])
async def test_a_handler_that_returns_nothing_has_an_outcome_without_a_reply(
    app: Application, handler: Callable[..., Any]
) -> None:
    outcome = await app.ask(handler)
    assert (outcome.reply, outcome.error, outcome.after) == (None, None, None)


async def test_what_a_plain_handler_gives_to_await_is_awaited(app: Application) -> None:
    async def later() -> str:
        return "later"

    def handler(data: object) -> Any:
        return later()

    assert (await app.ask(handler)).reply == Message(Form.TEXT, b"later")


@pytest.mark.parametrize("value", [object(), {1j: 1}, "x" * 2049], ids=["kind", "key", "size"])
async def test_a_reply_that_cannot_be_sent_is_an_error(
    app: Application, value: object, caplog: pytest.LogCaptureFixture
) -> None:
    outcome = await app.ask(lambda data: value)
    assert (outcome.reply, outcome.error) == (None, f"internal error ({REQUEST})")
    assert f"{REQUEST} at / (user None, sockets/.py) failed" in caplog.text


# Parameters


async def test_a_handler_gets_what_it_asks_for_by_name(app: Application) -> None:
    got: dict[str, Any] = {}

    async def handler(
        connection: Any,
        data: Any,
        request_id: Any,
        user: Any,
        path: Any,
        params: Any,
        signal: Any,
        request: Any,
    ) -> None:
        got.update(
            connection=connection,
            data=data,
            request_id=request_id,
            user=user,
            path=path,
            params=params,
            signal=signal,
            request=request,
        )

    await app.ask(
        handler,
        '{"n": 1}',
        user={"id": "ann"},
        path="/rooms/a%20b",
        query="x=1&x=2",
        pattern="/rooms/{room}",
    )
    assert (got["connection"], got["data"], got["request_id"]) == (CONNECTION, {"n": 1}, REQUEST)
    assert (got["user"], got["path"], got["params"]) == (
        {"id": "ann"},
        "/rooms/a%20b",
        {"room": "a b"},
    )
    assert isinstance(got["signal"], Signal)
    assert isinstance(got["request"], Request)
    assert got["request"].query == {"x": "2"}
    assert got["request"].signal is got["signal"]


async def test_a_single_parameter_of_another_name_gets_the_whole_request(app: Application) -> None:
    def handler(message: Request) -> object:
        return [message.data, message.user]

    assert (await app.ask(handler, "hi")).reply == Message(Form.JSON, b'["hi",null]')


async def test_a_handler_may_ask_for_nothing(app: Application) -> None:
    assert (await app.ask(lambda: "hi")).reply == Message(Form.TEXT, b"hi")


async def test_a_plain_handler_runs_in_a_thread_and_an_asynchronous_one_does_not(
    app: Application,
) -> None:
    names: list[str] = []

    def plain() -> None:
        names.append(threading.current_thread().name)

    async def asynchronous() -> None:
        names.append(threading.current_thread().name)

    await app.ask(plain)
    await app.ask(asynchronous)
    assert names == ["queue-run-handler-1", threading.current_thread().name]


async def test_the_nearest_route_answers(app: Application) -> None:
    runner = app.runner(route(lambda: "chat", "/chat"), route(lambda: "index", "/"))
    asked = turn(path="/chat")
    outcome = await runner.run_request(asked, asked.requests[0])
    assert outcome.reply == Message(Form.TEXT, b"chat")


async def test_a_path_without_a_route_is_not_available(app: Application) -> None:
    outcome = await app.ask(lambda: "index", path="/else")
    assert (outcome.reply, outcome.error) == (None, "not available")


def framed(data: str | bytes, *, json: bool = False) -> Inbound:
    """A frame of a client."""
    request = RequestId("s1-1-1")
    if isinstance(data, bytes):
        return Inbound(id=request, binary=data)
    return Inbound(id=request, text=data, json=json)


@pytest.mark.parametrize(
    ("data", "wanted", "value"),
    [
        ('"5"', "auto", "5"),
        ('"{}"', "auto", "{}"),
        ('"hello"', "text", "hello"),
        ('"hello"', "json", "hello"),
        ("5", "auto", 5),
        ("null", "json", None),
    ],
)
def test_what_is_json_for_certain_is_taken_as_it_says(data: str, wanted: Any, value: Any) -> None:
    assert decode_data(framed(data, json=True), wanted) == value


@pytest.mark.parametrize(
    ("data", "wanted", "text"),
    [
        ("5", "text", "this path takes text, not other JSON"),
        ('"hello"', "binary", "this path takes binary messages, not text"),
        ("[" * 100_000, "auto", "this path takes JSON: "),
    ],
)
def test_what_is_json_for_certain_must_fit_too(data: str, wanted: Any, text: str) -> None:
    with pytest.raises(ClientError, match=text):
        decode_data(framed(data, json=True), wanted)


@pytest.mark.parametrize(
    ("data", "wanted", "value"),
    [
        ('{"a": 1}', "auto", {"a": 1}),
        ("7", "auto", 7),
        ("null", "auto", None),
        ("hello", "auto", "hello"),
        ("", "auto", ""),
        ("[" * 100_000, "auto", "[" * 100_000),
        ("NaN", "auto", "NaN"),
        (r'{"text":"\ud83d"}', "auto", {"text": "\ud83d"}),
        (r'{"text":"\ud83d"}', "json", {"text": "\ud83d"}),
        (r'{"text":"\ud83d"}', "text", r'{"text":"\ud83d"}'),
        (r'{"text":"\ud83d"', "auto", r'{"text":"\ud83d"'),
        (b'{"a": 1}', "auto", b'{"a": 1}'),
        ('{"a": 1}', "json", {"a": 1}),
        ('{"a": 1}', "text", '{"a": 1}'),
        (b"\x00", "binary", b"\x00"),
    ],
)
def test_a_frame_becomes_what_the_route_wants(data: str | bytes, wanted: Any, value: Any) -> None:
    assert decode_data(framed(data), wanted) == value


@pytest.mark.parametrize("wanted", ["auto", "json"])
def test_json_that_is_nested_too_deeply_is_no_text(wanted: Any) -> None:
    with pytest.raises(ClientError, match="this path takes JSON: the JSON is nested too deeply"):
        decode_data(framed("[" * 20_000 + "]" * 20_000), wanted)


@pytest.mark.parametrize(
    ("data", "wanted", "text"),
    [
        ("hello", "json", "this path takes JSON: "),
        ("[" * 100_000, "json", "this path takes JSON: "),
        (b"{}", "json", "this path takes json, not binary messages"),
        (b"hello", "text", "this path takes text, not binary messages"),
        ("hello", "binary", "this path takes binary messages, not text"),
    ],
)
def test_a_frame_that_does_not_fit_is_the_clients_error(
    data: str | bytes, wanted: Any, text: str
) -> None:
    with pytest.raises(ClientError, match=text):
        decode_data(framed(data), wanted)


async def test_a_frame_that_does_not_fit_never_reaches_the_handler(app: Application) -> None:
    called: list[object] = []
    outcome = await app.ask(called.append, b"\x00", type="text")
    assert outcome.error == "this path takes text, not binary messages"
    assert called == []


@pytest.mark.parametrize("kind", [0, 1], ids=["plain", "async"])
async def test_a_handler_gets_data_as_the_type_that_it_asks_for(
    app: Application, kind: int
) -> None:
    handler = both(lambda data: data.x + 1)[kind]
    outcome = await app.ask(handler, '{"x": 1}', validate=validator(Point))
    assert outcome.reply == Message(Form.JSON, b"2")


async def test_data_of_another_type_never_reaches_the_handler(
    app: Application, caplog: pytest.LogCaptureFixture
) -> None:
    called: list[object] = []
    outcome = await app.ask(called.append, '{"x": "1"}', validate=validator(Point))
    assert outcome.error == "data.x: expected `int`, got `str`"
    assert called == []
    assert [(each.levelno, each.exc_info) for each in caplog.records] == [(logging.WARNING, None)]


# Middleware


async def test_on_message_received_comes_first_and_sees_what_came(app: Application) -> None:
    events: list[object] = []
    hooks = Hooks(received=hook(lambda request: events.append(request.data)))
    handler = both(lambda data: events.append("handler"))[0]
    await app.ask(handler, "one", hooks=hooks)
    await app.ask(handler, b"\x00", hooks=hooks, type="text")
    await app.ask(handler, '{"x": "1"}', hooks=hooks, validate=validator(Point))
    assert events == ["one", "handler", b"\x00", {"x": "1"}]


async def test_what_on_message_received_raises_is_the_outcome(app: Application) -> None:
    called: list[object] = []

    def refuse(request: Request) -> None:
        raise ClientError("not today")

    outcome = await app.ask(called.append, hooks=Hooks(received=hook(refuse)))
    assert (outcome.error, called) == ("not today", [])


async def test_on_message_sent_is_told_of_replies_and_of_nothing_else(app: Application) -> None:
    told: list[object] = []
    hooks = Hooks(sent=hook(told.append))
    await app.ask(lambda: {"a": 1}, hooks=hooks)
    await app.ask(lambda: None, hooks=hooks)
    await app.ask(lambda: object(), hooks=hooks)
    await eventually_async(lambda: told, what="the message")
    await asyncio.sleep(SOON)
    assert told == [SentMessage(data={"a": 1}, connection=CONNECTION)]


async def test_on_error_is_told_of_a_failure_with_its_request(app: Application) -> None:
    told: list[Any] = []
    hooks = Hooks(error=hook(lambda error, request: told.append((error, request.request_id))))
    failure = LookupError("secret")
    outcome = await app.ask(raising(failure)[1], hooks=hooks)
    assert outcome.error == f"internal error ({REQUEST})"
    assert told == [(failure, REQUEST)]


# Failures


def raising(failure: BaseException) -> list[Any]:
    def function(data: object) -> None:
        raise failure

    return both(function)


@pytest.mark.parametrize("kind", [0, 1], ids=["plain", "async"])
@pytest.mark.parametrize(
    "failure",
    [
        ValueError("secret"),
        SystemExit("secret"),
        asyncio.CancelledError("secret"),
        TimeoutError("secret"),
    ],
    ids=lambda failure: type(failure).__name__,
)
async def test_a_failure_is_an_error_that_tells_nothing(
    app: Application, failure: BaseException, kind: int, caplog: pytest.LogCaptureFixture
) -> None:
    outcome = await app.ask(raising(failure)[kind])
    assert (outcome.reply, outcome.error) == (None, f"internal error ({REQUEST})")
    [record] = caplog.records
    assert record.levelno == logging.ERROR
    assert record.exc_info is not None
    assert "secret" in caplog.text


@pytest.mark.parametrize("kind", [0, 1], ids=["plain", "async"])
async def test_a_client_error_is_told_and_logged_without_a_traceback(
    app: Application, kind: int, caplog: pytest.LogCaptureFixture
) -> None:
    outcome = await app.ask(raising(ClientError("send a number"))[kind])
    assert outcome.error == "send a number"
    [record] = caplog.records
    assert (record.levelno, record.exc_info) == (logging.WARNING, None)


async def test_a_client_error_without_a_text_has_its_name(app: Application) -> None:
    assert (await app.ask(raising(ClientError())[1])).error == "ClientError"


@pytest.mark.parametrize("exposed", [False, True])
async def test_an_error_that_names_half_a_character_is_told(
    app: Application, exposed: bool
) -> None:
    """As a client may have sent it, and an error repeats it: it must not cost the answer."""
    app.expose_errors = exposed
    outcome = await app.ask(raising(ClientError("no room \ud83d"))[1])
    assert outcome.error == "no room ?"
    assert envelopes.decode(envelopes.encode(outcome)) == outcome


async def test_errors_are_told_when_the_setting_says_so(app: Application) -> None:
    app.expose_errors = True
    assert (await app.ask(raising(ValueError("secret"))[1])).error == "secret"
    assert (await app.ask(raising(ValueError())[1])).error == "ValueError"
    assert "None is" not in str((await app.ask(lambda data: object())).error)
    assert "no JSON form" in str((await app.ask(lambda data: object())).error)


async def test_a_handler_that_awaits_what_was_cancelled_has_failed(app: Application) -> None:
    async def handler(data: object) -> None:
        inner = asyncio.create_task(asyncio.Event().wait())
        inner.cancel()
        await inner

    assert (await app.ask(handler)).error == f"internal error ({REQUEST})"


async def test_a_keyboard_interrupt_is_the_processs_own(app: Application) -> None:
    with pytest.raises(KeyboardInterrupt):
        await app.ask(raising(KeyboardInterrupt())[1])


async def test_the_end_of_the_process_is_no_outcome(app: Application) -> None:
    """A task that is cancelled from outside ends: its client has had its answer from elsewhere."""
    started = asyncio.Event()

    async def handler(data: object) -> None:
        started.set()
        await asyncio.Event().wait()

    running = asyncio.create_task(app.ask(handler))
    async with asyncio.timeout(DEADLINE):
        await started.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


# Time limits


async def test_an_asynchronous_handler_past_its_timeout_is_cancelled(app: Application) -> None:
    cleaned_up: list[bool] = []

    async def handler(signal: Signal) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cleaned_up.append(signal.is_set())

    outcome = await app.ask(handler, timeout=SOON)
    assert outcome.error == "no answer within 0.02 seconds"
    assert cleaned_up == [False]


async def test_a_plain_handler_past_its_timeout_is_told_by_its_signal(app: Application) -> None:
    told: list[bool] = []
    ended = threading.Event()

    def handler(signal: Signal) -> str:
        told.append(signal.wait(DEADLINE))
        ended.set()
        return "too late"

    outcome = await app.ask(handler, timeout=SOON)
    assert (outcome.reply, outcome.error) == (None, "no answer within 0.02 seconds")
    assert await asyncio.to_thread(ended.wait, DEADLINE)
    assert told == [True]


async def test_a_timeout_is_logged_without_a_traceback(
    app: Application, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler() -> None:
        await asyncio.Event().wait()

    await app.ask(handler, timeout=SOON)
    assert [(each.levelno, each.exc_info) for each in caplog.records] == [(logging.WARNING, None)]


async def test_a_handler_in_time_has_a_signal_that_is_not_set(app: Application) -> None:
    assert (await app.ask(lambda signal: signal.is_set())).reply == Message(Form.JSON, b"false")


async def test_at_the_end_everything_that_runs_can_be_told(app: Application) -> None:
    signals: list[Signal] = []

    def handler(signal: Signal) -> bool:
        signals.append(signal)
        return signal.wait(DEADLINE)

    runner = app.runner(route(handler))
    asked = turn()
    running = [asyncio.create_task(runner.run_request(asked, inbound())) for _ in range(2)]
    await eventually_async(lambda: len(signals) == 2, what="two handlers")
    runner.signal_all()
    async with asyncio.timeout(DEADLINE):
        outcomes = await asyncio.gather(*running)
    assert [each.reply for each in outcomes] == [Message(Form.JSON, b"true")] * 2
    assert runner._running == set()


async def test_handlers_run_side_by_side(app: Application) -> None:
    together = asyncio.Barrier(2)

    async def handler() -> None:
        await together.wait()

    runner = app.runner(route(handler, timeout=DEADLINE))
    outcomes = await asyncio.gather(*(runner.run_request(turn(), inbound()) for _ in range(2)))
    assert [each.error for each in outcomes] == [None, None]


# The current call, and what it sends


async def test_a_handler_runs_in_its_call(app: Application) -> None:
    calls: list[context.Call | None] = []
    look = both(lambda data: calls.append(context.current()))
    for handler in look:
        await app.ask(handler, user={"id": "ann"})
        await app.ask(handler)
    assert [(each.user_id, each.connection) for each in calls if each] == [
        (UserId("ann"), CONNECTION),
        (None, CONNECTION),
    ] * 2
    assert context.current() is None


async def test_an_outcome_names_the_offset_of_the_last_message_sent(
    app: Application, process: Runtime
) -> None:
    async def asynchronous() -> str:
        await socket.to("bob").send("one")
        await socket.send("two")
        return "reply"

    def plain() -> str:
        socket.to("bob").send("three")
        socket.send("four")
        return "reply"

    assert (await app.ask(asynchronous, user={"id": "ann"})).after == "2-0"
    assert (await app.ask(plain, user={"id": "ann"})).after == "4-0"


async def test_an_outcome_waits_for_messages_that_the_handler_did_not_await(
    app: Application, process: Runtime, publisher: RecordingPublisher
) -> None:
    publisher.confirms = False

    async def handler() -> str:
        socket.to("bob").send("forgotten")
        return "reply"

    running = asyncio.create_task(app.ask(handler))
    await eventually_async(lambda: publisher.published, what="the message")
    await asyncio.sleep(0)
    assert not running.done()
    publisher.confirm()
    assert (await running).after == "1-0"


@pytest.mark.parametrize("kind", [0, 1], ids=["plain", "async"])
async def test_a_failing_handlers_messages_come_before_its_error(
    app: Application, process: Runtime, kind: int
) -> None:
    def function(data: object) -> None:
        socket.to("bob").send("before")
        raise LookupError

    outcome = await app.ask(both(function)[kind])
    assert outcome.error is not None
    assert outcome.after == "1-0"


async def test_a_message_that_failed_does_not_fail_the_request(
    app: Application, process: Runtime, publisher: RecordingPublisher
) -> None:
    publisher.confirms = False

    async def handler() -> str:
        socket.to("bob").send("lost")
        return "reply"

    running = asyncio.create_task(app.ask(handler))
    await eventually_async(lambda: publisher.receipts, what="the message")
    receipt = publisher.receipts[0]
    receipt.complete(None, LookupError("gone"))
    outcome = await running
    assert (outcome.error, outcome.after) == (None, None)
    with pytest.raises(LookupError):
        receipt.now()


async def test_a_message_to_the_own_connection_needs_no_offset(
    app: Application, process: Runtime
) -> None:
    async def handler() -> None:
        await socket.send("same stream as the reply")

    assert (await app.ask(handler)).after is None


@pytest.mark.parametrize("kind", [0, 1], ids=["plain", "async"])
async def test_a_handler_that_returns_what_send_gave_it_replies_nothing(
    app: Application, process: Runtime, kind: int
) -> None:
    async def asynchronous() -> object:
        return await socket.to("bob").send("hi")

    def plain() -> object:
        return socket.to("bob").send("hi")

    outcome = await app.ask([plain, asynchronous][kind])
    assert (outcome.reply, outcome.error) == (None, None)


# Authentication


def user_of(answer: Authenticated) -> Any:
    assert answer.user is not None
    return msgspec.json.decode(answer.user)


@pytest.mark.parametrize("kind", [0, 1], ids=["plain", "async"])
async def test_the_user_is_what_on_authenticate_returns(app: Application, kind: int) -> None:
    answer = await app.authenticate(both(lambda request: {"id": "ann", "n": 1})[kind])
    assert (answer.request, answer.status, answer.reason) == (RequestId("s1-1-0"), 200, "")
    assert user_of(answer) == {"id": "ann", "n": 1}


async def test_an_id_that_is_a_number_becomes_text(app: Application) -> None:
    assert user_of(await app.authenticate(lambda request: {"id": 7})) == {"id": "7"}


@pytest.mark.parametrize("kind", [0, 1], ids=["plain", "async"])
@pytest.mark.parametrize("raised", [True, False], ids=["raised", "returned"])
async def test_a_token_may_be_asked_for_once(app: Application, kind: int, raised: bool) -> None:
    def ask(request: object) -> object:
        if raised:
            raise AskToken
        return AskToken()

    authenticate = both(ask)[kind]
    answer = await app.authenticate(authenticate)
    assert (answer.status, answer.user) == (100, None)
    answer = await app.authenticate(authenticate, message=inbound('{"no": "token"}'))
    assert (answer.status, answer.reason, answer.user) == (401, "no token", None)


async def test_the_first_message_is_there_when_it_was_asked_for(app: Application) -> None:
    seen: list[ConnectionRequest] = []
    await app.authenticate(seen.append, message=inbound('{"token": "abc"}'))
    assert (seen[0].message, seen[0].bearer_token) == ({"token": "abc"}, "abc")


@pytest.mark.parametrize("kind", [0, 1], ids=["plain", "async"])
async def test_a_connection_ends_at_the_earliest_time_that_it_was_given(
    app: Application, kind: int
) -> None:
    def expiring(request: object) -> dict[str, str]:
        context.expire_connection(17.5)
        context.expire_connection(18.5)
        return {"id": "ann"}

    assert (await app.authenticate(both(expiring)[kind])).expires == 17.5
    assert (await app.authenticate(lambda request: {"id": "ann"})).expires is None


async def test_a_user_may_be_any_object_with_an_id(app: Application) -> None:
    @dataclass
    class User:
        id: int
        email: str

    answer = await app.authenticate(lambda request: User(7, "ann@example.com"))
    assert user_of(answer) == {"id": "7", "email": "ann@example.com"}


@pytest.mark.parametrize("hook", [None, lambda request: None])
async def test_without_a_user_the_connection_is_anonymous(
    app: Application, hook: Callable[..., Any] | None
) -> None:
    answer = await app.authenticate(hook)
    assert (answer.status, answer.user) == (200, None)


@pytest.mark.parametrize("kind", [0, 1], ids=["plain", "async"])
@pytest.mark.parametrize("raised", [True, False], ids=["raised", "returned"])
async def test_a_refusal_is_its_status_and_reason(
    app: Application, kind: int, raised: bool
) -> None:
    def hook(request: object) -> object:
        refusal = Refuse(403, "members only")
        if raised:
            raise refusal
        return refusal

    answer = await app.authenticate(both(hook)[kind])
    assert (answer.status, answer.reason, answer.user) == (403, "members only", None)


@pytest.mark.parametrize(
    ("reason", "text"),
    [("who is \ud83d?", "who is ??"), (None, ""), (KeyError("token"), "'token'"), (7, "7")],
)
async def test_a_refusal_for_any_reason_reaches_its_client(
    app: Application, reason: Any, text: str
) -> None:
    answer = await app.authenticate(raising(Refuse(403, reason))[1])
    assert (answer.status, answer.reason) == (403, text)
    assert envelopes.decode(envelopes.encode(answer)) == answer


@pytest.mark.parametrize("kind", [0, 1], ids=["plain", "async"])
async def test_a_failure_refuses_without_its_text(
    app: Application, kind: int, caplog: pytest.LogCaptureFixture
) -> None:
    answer = await app.authenticate(raising(LookupError("secret"))[kind])
    assert (answer.status, answer.reason, answer.user) == (500, "internal error", None)
    assert "on_authenticate for / from 192.0.2.1 failed" in caplog.text
    assert "secret" in caplog.text


@pytest.mark.parametrize("kind", [0, 1], ids=["plain", "async"])
@pytest.mark.parametrize("failure", [SystemExit(3), asyncio.CancelledError()], ids=repr)
async def test_an_exit_refuses_like_any_other_failure(
    app: Application, kind: int, failure: BaseException
) -> None:
    answer = await app.authenticate(raising(failure)[kind])
    assert (answer.status, answer.reason) == (500, "internal error")


@pytest.mark.parametrize("user", [{"name": "ann"}, "ann", 7, [], {"id": None}, {"id": 1.5}])
async def test_a_user_without_an_id_is_refused_and_told_to_the_author(
    app: Application, user: object, caplog: pytest.LogCaptureFixture
) -> None:
    answer = await app.authenticate(lambda request: user)
    assert (answer.status, answer.reason) == (500, "internal error")
    assert "on_authenticate must return an object with an id" in caplog.text


@pytest.mark.parametrize("name", ["", "a\ud83d", "x" * 1_025], ids=ascii)
async def test_an_id_that_cannot_be_used_is_refused_as_the_clients(
    app: Application, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    answer = await app.authenticate(lambda request: {"id": name})
    assert answer.status == 401
    assert "user id" in answer.reason
    assert "refused with 401" in caplog.text
    assert "failed" not in caplog.text


async def test_a_user_without_a_json_form_is_refused(app: Application) -> None:
    answer = await app.authenticate(lambda request: {"id": "ann", "x": object()})
    assert answer.status == 500


async def test_the_end_of_the_process_is_no_answer(app: Application) -> None:
    started = asyncio.Event()

    async def hook(request: object) -> None:
        started.set()
        await asyncio.Event().wait()

    running = asyncio.create_task(app.runner(authenticate=hook).authenticate(handshake()))
    async with asyncio.timeout(DEADLINE):
        await started.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_an_on_authenticate_that_hangs_ends_with_its_handshake(app: Application) -> None:
    async def hang(request: object) -> None:
        await asyncio.sleep(10 * DEADLINE)

    answer = await app.authenticate(hang, expires_in=0.05)
    assert (answer.status, answer.reason) == (500, "internal error")


async def test_on_authenticate_sees_the_handshake(app: Application) -> None:
    seen: list[ConnectionRequest] = []
    await app.authenticate(
        seen.append,
        ("Cookie", "a=1"),
        ("COOKIE", "b=2"),
        ("X-Forwarded-For", "192.0.2.7"),
        ("x-forwarded-for", "192.0.2.8"),
        ("Authorization", "Bearer token"),
        path="/chat",
        query="room=1",
    )
    [request] = seen
    assert (request.path, request.query, request.remote_ip) == (
        "/chat",
        {"room": "1"},
        "192.0.2.1",
    )
    assert request.cookies == {"a": "1", "b": "2"}
    assert request.headers["x-forwarded-for"] == "192.0.2.7, 192.0.2.8"
    assert request.bearer_token == "token"


async def test_a_connection_id_is_what_the_handler_sees(app: Application) -> None:
    asked = turn(connection=ConnectionId("s9-3"))
    runner = app.runner(route(lambda connection: connection))
    outcome = await runner.run_request(asked, asked.requests[0])
    assert outcome.reply == Message(Form.TEXT, b"s9-3")
