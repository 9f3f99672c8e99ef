"""`queues.get(name).push(payload)`: what reaches Celery."""

import asyncio
import json
import math
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from types import ModuleType
from typing import Any
from uuid import UUID

import msgspec
import pytest
from celery import Celery
from kombu.exceptions import OperationalError

from queue_run import (
    DispatchUnavailable,
    InvalidName,
    InvalidPush,
    JobStoreUnavailable,
    NotAwaited,
    NotEncodable,
    Queue,
    UnknownQueue,
    queues,
)
from queue_run.contracts.ids import UserId
from queue_run.contracts.manifest import QueueFacts
from queue_run.errors import ClientError, UsageError
from queue_run.jobs.known_queues import KnownQueues
from queue_run.process import context, runtime
from queue_run.process.context import Call
from queue_run.process.runtime import LocalQueue, Runtime
from queue_run.settings import Settings
from tests.waiting import DEADLINE, eventually_async


@dataclass
class Mail:
    to: str
    at: datetime


class RecordingCelery(Celery):
    """Keeps the tasks that are sent through it."""

    def __init__(self) -> None:
        super().__init__("test", broker="memory://", set_as_current=False)
        self.conf.update(task_default_exchange="test")
        self.sent: list[dict[str, Any]] = []
        self.threads: set[str] = set()
        self.failure: Exception | None = None

    def send_task(  # type: ignore[override]
        self, name: str, args: list[Any], **options: Any
    ) -> None:
        if self.failure is not None:
            raise self.failure
        self.threads.add(threading.current_thread().name)
        self.sent.append({"name": name, "args": args, **options})

    @property
    def payloads(self) -> list[Any]:
        return [task["args"][0] for task in self.sent]


def facts_of(task: dict[str, Any]) -> Any:
    """What travels beside the payload."""
    return json.loads(task["headers"]["queue_run"])


class Offered(KnownQueues):
    """What workers offer, said by the test."""

    def __init__(self, *names: str) -> None:
        super().__init__(Settings())
        self._facts = dict.fromkeys(names, QueueFacts())
        self._read_at = time.monotonic() + 3600


@pytest.fixture
def celery() -> RecordingCelery:
    return RecordingCelery()


@pytest.fixture(autouse=True)
def here(process: Runtime, celery: RecordingCelery) -> Runtime:
    # For those who wait in vain.
    settings = msgspec.structs.replace(process.settings, publish_timeout=0.5)
    here = runtime.configure(settings, celery=celery)
    here.__dict__["known_queues"] = Offered("mail", "a.b")
    return here


def test_a_push_sends_the_queues_task(celery: RecordingCelery) -> None:
    job = queues.get("mail").push({"to": "ann"}).value
    [task] = celery.sent
    assert task["name"] == "queues.mail"
    assert task["args"] == [{"to": "ann"}]
    assert task["task_id"] == job
    assert task["ignore_result"] is True


def test_a_queue_in_a_folder_has_a_dotted_name(celery: RecordingCelery) -> None:
    queues.get("a.b").push(1)
    assert celery.sent[0]["name"] == "queues.a.b"


def test_a_payload_is_not_repeated_in_the_tasks_headers(celery: RecordingCelery) -> None:
    queues.get("mail").push({"password": "hush"})
    [task] = celery.sent
    assert (task["argsrepr"], task["kwargsrepr"]) == ("", "")
    assert "hush" not in repr(task["headers"])


def test_the_jobs_id_is_a_plain_text_of_its_own() -> None:
    jobs = {queues.get("mail").push(number).value for number in range(10)}
    assert len(jobs) == 10
    for job in jobs:
        assert type(job) is str
        assert str(UUID(job)) == job


@pytest.mark.parametrize(
    ("payload", "carried"),
    [
        ("text", "text"),
        ('{"not": "decoded"}', '{"not": "decoded"}'),
        (b"\x00\xff", b"\x00\xff"),
        ({"a": [1, None, True]}, {"a": [1, None, True]}),
        ([], []),
        (0, 0),
        (None, None),
        ((1, 2), [1, 2]),
        (
            Mail("ann", datetime(2024, 1, 2, tzinfo=UTC)),
            {"to": "ann", "at": "2024-01-02T00:00:00Z"},
        ),
        ({"raw": b"x"}, {"raw": "eA=="}),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    ],
    ids=repr,
)
def test_a_payload_travels_as_text_bytes_or_json(
    celery: RecordingCelery, payload: object, carried: object
) -> None:
    queues.get("mail").push(payload)
    assert celery.payloads == [carried]
    assert type(celery.payloads[0]) is type(carried)


def test_a_payload_without_a_json_form_is_refused_at_once(celery: RecordingCelery) -> None:
    with pytest.raises(NotEncodable):
        queues.get("mail").push(object())
    assert celery.sent == []


async def test_a_payload_without_a_json_form_is_refused_before_any_await() -> None:
    with pytest.raises(NotEncodable):
        queues.get("mail").push(object())


def test_later_changes_of_a_payload_do_not_reach_the_job(celery: RecordingCelery) -> None:
    payload = {"list": [1]}
    queues.get("mail").push(payload)
    payload["list"].append(2)
    assert celery.payloads == [{"list": [1]}]


# What travels beside the payload


def test_a_job_belongs_to_the_user_whose_call_pushed_it(celery: RecordingCelery) -> None:
    user = {"id": "ann", "email": "ann@example.com"}
    with context.running(Call(user=user, user_id=UserId("ann"))):
        queues.get("mail").push(1)
    assert facts_of(celery.sent[0])["user"] == user


def test_outside_a_call_a_job_belongs_to_nobody(celery: RecordingCelery) -> None:
    queues.get("mail").push(1)
    assert facts_of(celery.sent[0]).get("user") is None


def test_a_job_knows_when_it_was_pushed(celery: RecordingCelery) -> None:
    before = time.time()
    queues.get("mail").push(1)
    assert before <= facts_of(celery.sent[0])["queued_at"] <= time.time()


async def test_the_user_is_that_of_the_push_and_not_of_its_end(celery: RecordingCelery) -> None:
    with context.running(Call(user={"id": "ann"}, user_id=UserId("ann"))):
        job = queues.get("mail").push(1)
    await job
    assert facts_of(celery.sent[0])["user"] == {"id": "ann"}


# Asynchronous code


async def test_awaiting_a_push_gives_the_id(celery: RecordingCelery) -> None:
    job = await queues.get("mail").push(1)
    assert [task["task_id"] for task in celery.sent] == [job]


async def test_the_id_is_no_value_before_the_push_was_awaited() -> None:
    job = queues.get("mail").push(1)
    with pytest.raises(NotAwaited, match="await it"):
        _ = job.value
    assert await job == job.value


async def test_a_failure_that_nobody_awaited_is_logged(
    here: Runtime, celery: RecordingCelery, caplog: pytest.LogCaptureFixture
) -> None:
    celery.failure = OperationalError("connection refused")
    queues.get("mail").push(1)
    await asyncio.to_thread(here.close)
    await eventually_async(lambda: caplog.text, what="a line in the log")
    assert "a job that nobody waited for was not pushed: the broker took no job" in caplog.text


async def test_a_push_that_nobody_waits_for_any_more_is_not_begun(
    here: Runtime, celery: RecordingCelery
) -> None:
    busy = threading.Event()
    here.pusher.submit(busy.wait, DEADLINE)
    waiting = asyncio.ensure_future(queues.get("mail").push(1))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    busy.set()
    await queues.get("mail").push(2)
    assert celery.payloads == [2]


async def test_a_push_never_runs_on_the_event_loop(celery: RecordingCelery) -> None:
    await queues.get("mail").push(1)
    assert threading.current_thread().name not in celery.threads


async def test_jobs_that_are_not_awaited_keep_their_order(celery: RecordingCelery) -> None:
    for number in range(100):
        job = queues.get("mail").push(number)
    await job
    assert celery.payloads == list(range(100))


async def test_closing_the_process_sends_jobs_that_were_not_awaited(
    here: Runtime, celery: RecordingCelery
) -> None:
    queues.get("mail").push(1)
    await asyncio.to_thread(here.close)
    assert celery.payloads == [1]


def test_in_synchronous_code_the_job_is_with_the_broker_when_push_returns(
    celery: RecordingCelery,
) -> None:
    queues.get("mail").push(1)
    assert celery.threads == {threading.current_thread().name}


async def test_the_id_of_a_job_pushed_elsewhere_may_be_awaited_too() -> None:
    job = await asyncio.to_thread(queues.get("mail").push, 1)
    assert await job == job.value


# Failures


def test_without_a_broker_a_push_fails(celery: RecordingCelery) -> None:
    celery.failure = OperationalError("connection refused")
    with pytest.raises(DispatchUnavailable, match="the broker took no job: connection refused"):
        queues.get("mail").push(1)


async def test_without_a_broker_awaiting_a_push_fails(celery: RecordingCelery) -> None:
    celery.failure = OperationalError("connection refused")
    job = queues.get("mail").push(1)
    with pytest.raises(DispatchUnavailable, match="the broker took no job: connection refused"):
        await job


def test_a_push_to_a_queue_that_nobody_offers_is_refused(celery: RecordingCelery) -> None:
    with pytest.raises(UnknownQueue, match=r"no queue 'mial': the workers offer a\.b, mail"):
        queues.get("mial").push(1)
    assert celery.sent == []


async def test_awaiting_a_push_to_a_queue_that_nobody_offers_is_refused() -> None:
    job = queues.get("mial").push(1)
    with pytest.raises(UnknownQueue):
        await job


def test_getting_a_queue_asks_nobody() -> None:
    assert repr(queues.get("anything")) == "queues.get('anything')"


def test_the_id_of_a_job_may_be_the_payload_of_another(celery: RecordingCelery) -> None:
    first = queues.get("mail").push(1)
    queues.get("mail").push(first)
    queues.get("mail").push({"after": first})
    assert celery.payloads == [1, first, {"after": first}]
    assert type(celery.payloads[1]) is str


@pytest.mark.parametrize("name", ["\ud800", "a\ud800b", ""])
@pytest.mark.parametrize(
    "take",
    [
        lambda name: queues.get("mail").group(name),
        lambda name: queues.get("mail").dedupe(name),
        queues.cancel,
        queues.get,
    ],
)
def test_what_can_be_no_name_is_refused_at_once(
    celery: RecordingCelery, take: Callable[[str], object], name: str
) -> None:
    with pytest.raises(InvalidName):
        take(name)


@pytest.mark.parametrize("name", ["a b", "a/b", "a\nb", "a..b", ".a", 7, None, ["mail"]])
def test_what_no_file_of_a_queue_is_named_is_no_queue(name: Any) -> None:
    with pytest.raises(InvalidName, match="a queue is named after its file"):
        queues.get(name)


@pytest.mark.parametrize(
    "push",
    [
        lambda: queues.get("mail").push("\ud800"),
        lambda: queues.get("mail").push(1, params={"a": "\ud800"}),
        lambda: queues.get("mail").push(1, params={"\ud800": "a"}),
    ],
)
def test_what_is_no_unicode_is_refused_at_once(
    celery: RecordingCelery, push: Callable[[], object]
) -> None:
    with pytest.raises(NotEncodable):
        push()
    assert celery.sent == []


def test_half_characters_in_a_payload_are_pushed_as_json_has_them(celery: RecordingCelery) -> None:
    queues.get("mail").push({"text": "\ud83d"})
    assert celery.payloads == [{"text": "\ud83d"}]


@pytest.mark.parametrize("levels", [101, 500, 5000])
def test_a_payload_that_is_nested_too_deeply_is_refused_at_once(
    celery: RecordingCelery, levels: int
) -> None:
    payload: Any = 1
    for _ in range(levels):
        payload = {"a": payload} if levels == 101 else [payload]
    with pytest.raises(NotEncodable, match="nested"):
        queues.get("mail").push(payload)
    assert celery.sent == []


def test_a_payload_is_pushed_up_to_the_deepest_level(celery: RecordingCelery) -> None:
    payload: Any = 1
    for _ in range(100):
        payload = [payload]
    queues.get("mail").push(payload)
    assert celery.payloads == [payload]


@pytest.mark.parametrize("payload", [math.nan, {"a": [1, math.inf]}])
def test_a_payload_with_what_is_no_number_is_refused(
    celery: RecordingCelery, payload: object
) -> None:
    with pytest.raises(NotEncodable, match="is no number of JSON"):
        queues.get("mail").push(payload)
    assert celery.sent == []


# Params


def test_params_travel_beside_the_payload(celery: RecordingCelery) -> None:
    queues.get("mail").push(1, params={"lang": "de"})
    assert facts_of(celery.sent[0])["params"] == {"lang": "de"}
    assert celery.payloads == [1]


@pytest.mark.parametrize("params", [{"n": 1}, {1: "n"}, {"n": None}, {"n": b"x"}])
def test_params_are_texts(celery: RecordingCelery, params: Any) -> None:
    with pytest.raises(TypeError, match="params are texts by name, not "):
        queues.get("mail").push(1, params=params)
    assert celery.sent == []


# What the queue's file says, where it is loaded


def take_numbers(payload: Any) -> Any:
    if not isinstance(payload, int):
        raise ClientError("payload: expected `int`")
    return payload


@pytest.fixture
def loaded(here: Runtime) -> None:
    """A process that has loaded the application."""
    here.local_queues = {
        "number": LocalQueue(QueueFacts(), take_numbers),
        "fifo": LocalQueue(QueueFacts(fifo=True)),
        "own": LocalQueue(QueueFacts(celery_queue="reports")),
    }


@pytest.mark.usefixtures("loaded")
class TestLoaded:
    def test_a_payload_that_the_handler_does_not_take_is_refused_at_once(
        self, celery: RecordingCelery
    ) -> None:
        text = "number does not take this payload: payload: expected `int`"
        with pytest.raises(InvalidPush, match=text):
            queues.get("number").push("seven")
        queues.get("number").push(7)
        assert celery.payloads == [7]

    async def test_it_is_refused_before_any_await(self) -> None:
        with pytest.raises(InvalidPush):
            queues.get("number").push("seven")

    def test_a_queue_that_is_loaded_here_needs_no_worker(self, celery: RecordingCelery) -> None:
        queues.get("number").push(7)
        assert celery.sent[0]["name"] == "queues.number"

    def test_a_queue_with_a_celery_queue_of_its_own_uses_it(self, celery: RecordingCelery) -> None:
        queues.get("own").push(1)
        queues.get("number").push(1)
        assert [task["queue"].name for task in celery.sent] == ["test.reports", "test.jobs"]

    @pytest.mark.parametrize(
        ("queue", "text"),
        [
            (queues.get("fifo"), r'fifo is a FIFO queue: .*queues.get\("fifo"\).group\("…"\)'),
            (queues.get("fifo").dedupe("a"), "fifo is a FIFO queue"),
            (queues.get("number").group("a"), r"number is no FIFO queue.*Config\(fifo=True\)"),
            (queues.get("number").dedupe("a"), "number: dedupe is for FIFO queues only"),
        ],
    )
    def test_groups_are_for_fifo_queues_and_fifo_queues_for_groups(
        self, celery: RecordingCelery, queue: Queue[Any], text: str
    ) -> None:
        with pytest.raises(InvalidPush, match=text):
            queue.push(1)
        assert celery.sent == []

    def test_without_redis_a_push_to_a_group_fails(
        self, here: Runtime, celery: RecordingCelery
    ) -> None:
        with pytest.raises(JobStoreUnavailable, match="Redis did not answer"):
            queues.get("fifo").group("a").push(1)
        assert celery.sent == []


@pytest.mark.parametrize("value", ["", None, 1.5, True, b"a"])
def test_groups_and_dedupe_ids_are_texts_or_integers(value: Any) -> None:
    with pytest.raises(TypeError, match="a group id is a non-empty text or an int, not "):
        queues.get("mail").group(value)
    with pytest.raises(TypeError, match="a dedupe id is a non-empty text or an int, not "):
        queues.get("mail").dedupe(value)


def test_naming_a_group_changes_no_other_handle() -> None:
    queue = queues.get("mail")
    assert (queue.group(7).group_id, queue.dedupe(8).dedupe_id) == ("7", "8")
    assert (queue.group_id, queue.dedupe_id) == (None, None)
    last = queue.group("a").dedupe("b").group("c")
    assert (last.name, last.group_id, last.dedupe_id) == ("mail", "c", "b")
    assert last == queue.dedupe("b").group("c") != queue.group("c")


# `Queue[Order](__name__)`


def file_of_a_queue(
    monkeypatch: pytest.MonkeyPatch, name: str, queue: str = "Queue[int](__name__)"
) -> Any:
    """The module of a queue's file in a process that only imports it."""
    module = ModuleType(name)
    code = (
        "from queue_run import Config, Queue, queues\n"
        f"queue = {queue}\n"
        "config = Config(fifo=True)\n"
        "def handler(order: int): ...\n"
    )
    monkeypatch.setitem(sys.modules, name, module)
    exec(code, vars(module))
    return module


@pytest.fixture
def orders(monkeypatch: pytest.MonkeyPatch) -> Queue[Any]:
    """The handle of `queues/shop/orders.py`."""
    handle: Queue[Any] = file_of_a_queue(monkeypatch, "queues.shop.orders").queue
    return handle


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("queues.orders", "orders"),
        ("queues.shop.orders", "shop.orders"),
        ("queues.my-orders", "my-orders"),
        # The application's folder is a package of the project.
        ("site.queues.orders", "orders"),
        ("site.shop.queues.late.orders", "late.orders"),
        ("queues.queues.orders", "queues.orders"),
    ],
)
def test_a_queue_is_named_after_the_module_of_its_file(module: str, name: str) -> None:
    assert Queue[int](module).name == name
    assert Queue[int](module) == queues.get(name)


@pytest.mark.parametrize(
    "module",
    ["sockets.index", "queues", "queuesque.a", "a.queuesque.b", "__main__", "queues._shared", ""],
)
def test_other_modules_have_no_queue_of_their_own(module: str) -> None:
    with pytest.raises(UsageError, match=r"names the queue of a file in queues/, .* is not one"):
        Queue[int](module)


@pytest.mark.parametrize("module", ["queues.shop.orders", "site.queues.shop.orders"])
def test_its_file_says_what_may_be_pushed_where_no_worker_has_loaded_it(
    celery: RecordingCelery, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    orders = file_of_a_queue(monkeypatch, module).queue
    with pytest.raises(InvalidPush, match=r"shop\.orders is a FIFO queue"):
        orders.push(1)
    with pytest.raises(InvalidPush, match=r"shop\.orders does not take this payload: payload: "):
        orders.group("a").push("one")
    with pytest.raises(InvalidPush, match="does not take this payload"):
        orders.group("a").dedupe("b").push("one")
    assert celery.sent == []


def test_a_handle_whose_file_was_unloaded_asks_the_workers(
    orders: Queue[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "queues.shop.orders")
    with pytest.raises(UnknownQueue):
        orders.push(1)


def test_a_file_that_is_still_being_imported_says_nothing(
    orders: Queue[Any], here: Runtime, celery: RecordingCelery
) -> None:
    here.__dict__["known_queues"] = Offered("shop.orders")
    del sys.modules["queues.shop.orders"].handler
    orders.push("one")
    assert celery.payloads == ["one"]


def test_a_handle_does_not_change() -> None:
    with pytest.raises(AttributeError):
        Queue[int]("queues.orders").name = "others"  # type: ignore[misc]


# Former spellings


def test_queues_self_is_a_former_spelling(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.warns(DeprecationWarning, match=r"queues\.self\(…\) .* use Queue\[…\]\(__name__\)"):
        module = file_of_a_queue(monkeypatch, "queues.shop.orders", "queues.self(int)")
    assert module.queue == Queue[int]("queues.shop.orders")
    with pytest.raises(InvalidPush, match=r"shop\.orders is a FIFO queue"):
        module.queue.push(1)


@pytest.mark.parametrize("name", ["sockets.index", "__main__"])
def test_queues_self_names_no_queue_in_other_files(name: str) -> None:
    code = "from queue_run import queues; queues.self()"
    with (
        pytest.warns(DeprecationWarning, match="former spelling"),
        pytest.raises(UsageError, match=r"queues\.self\(\) names the queue of a file in queues/"),
    ):
        exec(code, {"__name__": name})


def test_a_push_gives_a_text_which_is_the_jobs_id() -> None:
    job = queues.get("mail").push(1)
    assert isinstance(job, str)
    assert json.loads(json.dumps({job: job})) == {job.value: job.value}
    assert repr(job) == repr(job.value)
    assert type(job.value) is str


async def test_a_push_that_was_not_awaited_is_a_text_as_well() -> None:
    job = queues.get("mail").push(1)
    assert isinstance(job, str)
    assert job
    assert await job == str(job)


# Cancelling


def test_without_redis_nothing_is_cancelled() -> None:
    with pytest.raises(JobStoreUnavailable):
        queues.cancel("a-job")


async def test_without_redis_awaiting_a_cancellation_fails() -> None:
    with pytest.raises(JobStoreUnavailable):
        await queues.cancel("a-job")


async def test_the_answer_to_a_cancellation_cannot_be_had_without_the_await() -> None:
    asked = queues.cancel("a-job")
    with pytest.raises(NotAwaited, match="await it"):
        bool(asked)
    with pytest.raises(JobStoreUnavailable):
        await asked
