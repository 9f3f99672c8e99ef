"""Taking requests from Celery: accepted ones are answered, and no more than can be are accepted."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from queue_run import Signal, socket
from queue_run.contracts.envelopes import Authenticated, Outcome, ToUsers
from queue_run.contracts.ids import ConnectionId, RequestId
from queue_run.contracts.messages import Form, Message
from queue_run.process import runtime
from queue_run.process.runtime import Runtime
from queue_run.settings import Settings
from queue_run.socket import SERVER_ENTRIES
from tests.unit.recorders import RecordingPublisher
from tests.unit.worker.building import DEFAULT_HOOKS, Gate, handshake, hook, inbound, route, turn
from tests.waiting import DEADLINE, eventually
from worker.application.routes import Routes
from worker.running.intake import Intake


class Worker:
    """An intake whose channel is a list."""

    def __init__(self, publisher: RecordingPublisher, here: Runtime, routes: Routes) -> None:
        self.publisher = publisher
        self.intake = Intake(routes, here)

    def outcomes(self, count: int) -> list[Outcome]:
        """Wait for so many outcomes; all that came, in order."""
        eventually(lambda: len(self._outcomes) >= count, what=f"{count} outcomes")
        return self._outcomes

    @property
    def _outcomes(self) -> list[Outcome]:
        return [each for each in self.publisher.envelopes if isinstance(each, Outcome)]

    def drain(self, timeout: float = DEADLINE) -> None:
        self.intake.wind_down(timeout)


NewWorker = Callable[..., Worker]


@pytest.fixture
def worker(process: Runtime, publisher: RecordingPublisher) -> Iterator[NewWorker]:
    made: list[Worker] = []

    def make(
        handler: Callable[..., Any] = lambda data: data,
        *,
        authenticate: Callable[..., Any] | None = None,
        **settings: Any,
    ) -> Worker:
        here = runtime.configure(
            Settings(redis_url="redis://127.0.0.1:1/0", namespace="test", **settings)
        )
        here.__dict__["publisher"] = publisher
        routes = Routes(
            sockets=(route(handler, timeout=DEADLINE),),
            authenticate=hook(authenticate) if authenticate is not None else None,
            hooks=DEFAULT_HOOKS,
        )
        made.append(Worker(publisher, here, routes))
        return made[-1]

    yield make
    for each in made:
        if not each.intake.background.loop.is_closed():
            each.drain()


@contextlib.contextmanager
def in_thread(function: Callable[..., Any], *arguments: Any) -> Iterator[threading.Thread]:
    """A call that may block; it must have returned when the block ends."""
    thread = threading.Thread(target=function, args=arguments, daemon=True)
    thread.start()
    yield thread
    thread.join(DEADLINE)
    assert not thread.is_alive()


# Answers


def test_an_outcome_goes_to_the_push_server_of_its_connection(worker: NewWorker) -> None:
    here = worker()
    here.intake.accept([turn(inbound("hi"), connection=ConnectionId("s7-3"))])
    [outcome] = here.outcomes(1)
    assert outcome.reply == Message(Form.TEXT, b"hi")
    [published] = here.publisher.published
    assert published.stream == "test:server:s7"
    assert (published.create, published.max_entries) == (False, SERVER_ENTRIES)


def test_requests_of_a_turn_run_one_after_another_in_their_order(worker: NewWorker) -> None:
    running: list[str] = []

    async def handler(data: str) -> str:
        assert running == []
        running.append(data)
        for _ in range(5):
            await asyncio.sleep(0)
        running.clear()
        return data

    here = worker(handler)
    here.intake.accept([turn(*(inbound(f"m{n}", RequestId(f"r{n}")) for n in range(20)))])
    outcomes = here.outcomes(20)
    assert [each.error for each in outcomes] == [None] * 20
    assert [each.request for each in outcomes] == [f"r{n}" for n in range(20)]


def test_a_request_that_fails_does_not_keep_the_next_one_back(worker: NewWorker) -> None:
    def handler(data: str) -> str:
        if data == "bad":
            raise LookupError
        return data

    here = worker(handler)
    here.intake.accept([turn(inbound("bad"), inbound("good"))])
    assert [each.error is None for each in here.outcomes(2)] == [False, True]


def test_turns_run_side_by_side(worker: NewWorker) -> None:
    gate = Gate()
    here = worker(gate.handler)
    here.intake.accept([turn(), turn(), turn()])
    eventually(lambda: gate.inside == 3, what="three handlers side by side")
    gate.open()
    assert len(here.outcomes(3)) == 3


def test_a_handshake_is_answered_to_the_push_server_that_asked(worker: NewWorker) -> None:
    here = worker(authenticate=lambda request: {"id": "ann"})
    here.intake.accept([handshake()])
    eventually(lambda: here.publisher.published, what="the answer")
    [published] = here.publisher.published
    assert isinstance(published.envelope, Authenticated)
    assert published.envelope.user == b'{"id":"ann"}'
    assert published.stream == "test:server:s1"
    assert not published.create


def test_what_a_handler_sends_is_on_the_channel_before_its_outcome(worker: NewWorker) -> None:
    async def handler(data: str) -> str:
        socket.to("bob").send("first")
        return "second"

    here = worker(handler)
    here.intake.accept([turn()])
    [outcome] = here.outcomes(1)
    assert [type(each) for each in here.publisher.envelopes] == [ToUsers, Outcome]
    assert outcome.after == "1-0"


def test_an_outcome_never_blocks_the_loop(worker: NewWorker) -> None:
    here = worker()
    here.intake.accept([turn()])
    here.outcomes(1)
    assert here.publisher.published[0].way == "submit"


# Work that comes too late


@pytest.mark.parametrize(
    ("work", "name"),
    [
        (lambda: turn(inbound(), inbound(), expires_in=-1), "2 requests of s1-1"),
        (lambda: handshake(path="/chat", expires_in=-1), "a connection to /chat"),
    ],
)
def test_expired_work_is_dropped_and_logged(
    worker: NewWorker, work: Callable[[], Any], name: str, caplog: pytest.LogCaptureFixture
) -> None:
    here = worker()
    here.intake.accept([work(), turn(inbound("in time"))])
    [outcome] = here.outcomes(1)
    assert outcome.reply == Message(Form.TEXT, b"in time")
    here.drain()
    assert len(here.publisher.published) == 1
    assert f"{name} came too late and is dropped" in caplog.text


def test_work_that_expires_while_it_waits_for_room_is_dropped(worker: NewWorker) -> None:
    gate = Gate()
    here = worker(gate.handler, max_in_flight=1)
    here.intake.accept([turn()])
    late = turn(expires_in=0.2)
    with in_thread(here.intake.accept, [late]):
        eventually(lambda: late.expires < time.time(), what="the end of its time")
        gate.open()
    here.drain()
    assert len(here.outcomes(1)) == 1


def test_expired_work_takes_no_room(worker: NewWorker) -> None:
    here = worker(max_in_flight=1)
    late = [turn(expires_in=-1) for _ in range(3)]
    with in_thread(here.intake.accept, [*late, turn(inbound("in time"))]):
        pass
    assert [each.reply for each in here.outcomes(1)] == [Message(Form.TEXT, b"in time")]


# Room


def test_no_more_is_accepted_than_may_run(worker: NewWorker) -> None:
    gate = Gate()
    here = worker(gate.handler, max_in_flight=2)
    with in_thread(here.intake.accept, [turn(), turn(), turn()]) as accepting:
        eventually(lambda: gate.inside == 2, what="two handlers")
        assert accepting.is_alive()
        gate.open()
    assert len(here.outcomes(3)) == 3
    assert gate.most == 2


def test_room_is_given_back_after_every_kind_of_end(worker: NewWorker) -> None:
    def handler(data: str) -> None:
        if data == "exit":
            raise SystemExit(3)
        raise LookupError

    here = worker(handler, max_in_flight=1)
    with in_thread(here.intake.accept, [turn(inbound(text)) for text in ("exit", "fail") * 3]):
        pass
    assert len(here.outcomes(6)) == 6


def test_a_request_that_cannot_be_run_is_logged_and_gives_its_room_back(
    worker: NewWorker, caplog: pytest.LogCaptureFixture
) -> None:
    here = worker(max_in_flight=1)
    with in_thread(here.intake.accept, [turn(user={"no": "id"}), turn(inbound("next"))]):
        pass
    [outcome] = here.outcomes(1)
    assert outcome.reply == Message(Form.TEXT, b"next")
    here.drain()
    [record] = caplog.records
    assert record.getMessage() == "a request could not be run"
    assert record.exc_info is not None
    assert record.exc_info[0] is TypeError


# Shutdown


def test_draining_waits_for_what_was_accepted(worker: NewWorker) -> None:
    gate = Gate()
    here = worker(gate.handler)
    here.intake.accept([turn(), turn()])
    with in_thread(here.drain) as draining:
        eventually(lambda: gate.inside == 2, what="two handlers")
        assert draining.is_alive()
        gate.open()
    assert len(here.outcomes(2)) == 2
    assert here.publisher.flushed == 1


def test_after_draining_nothing_of_it_is_left(worker: NewWorker) -> None:
    here = worker()
    here.intake.accept([turn()])
    here.drain()
    assert here.intake.background.loop.is_closed()

    def left() -> list[str]:
        names = [thread.name for thread in threading.enumerate()]
        return [name for name in names if name.startswith("queue-run-handler")]

    eventually(lambda: not left(), what="the end of its threads")


def test_a_plain_handler_that_does_not_end_is_told_by_its_signal(
    worker: NewWorker, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[bool] = []
    started = threading.Event()

    def handler(signal: Signal) -> None:
        started.set()
        told.append(signal.wait(DEADLINE))

    here = worker(handler)
    here.intake.accept([turn()])
    assert started.wait(DEADLINE)
    here.drain(0.01)
    eventually(lambda: told, what="the signal")
    assert told == [True]
    assert "1 requests did not end within 0.01 seconds" in caplog.text


def test_an_asynchronous_handler_that_does_not_end_is_cancelled(worker: NewWorker) -> None:
    events: list[str] = []

    async def handler() -> None:
        events.append("started")
        try:
            await asyncio.Event().wait()
        finally:
            events.append("cleaned up")

    here = worker(handler)
    here.intake.accept([turn()])
    eventually(lambda: events, what="the handler")
    here.drain(0.01)
    assert events == ["started", "cleaned up"]
    assert here.publisher.published == []


def test_a_handler_that_holds_up_the_others_is_noticed(worker: NewWorker) -> None:
    gate = threading.Event()

    async def hold(data: object) -> None:
        gate.wait(DEADLINE)

    here = worker(hold)
    eventually(lambda: here.intake.stalled == 0, what="a loop that comes round")
    here.intake.accept([turn(inbound("1"))])
    eventually(lambda: here.intake.stalled > 0.3, what="a loop that stands still")
    gate.set()
    here.outcomes(1)
    eventually(lambda: here.intake.stalled == 0, what="a loop that comes round")


def test_a_loop_may_come_round_while_it_is_looked_at(
    worker: NewWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nothing(data: object) -> None:
        """It is the loop that counts."""

    here = worker(nothing)
    with monkeypatch.context() as quick:
        # A loop that comes round before the one who asks goes on.
        quick.setattr(here.intake.background.loop, "call_soon_threadsafe", lambda call: call())
        assert here.intake.stalled == 0
