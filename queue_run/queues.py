"""Jobs: `from queue_run import queues`, then `queues.get("mail").push(payload)`.

One call for both worlds, which gives an `Answer`. In synchronous code the job is with the broker
when `push` returns, and the answer's `value` is its id. In asynchronous code, `await` the call;
without the await the job is still pushed, in order.
"""

import inspect
import logging
import sys
import time
import uuid
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, TypeVar, overload

import msgspec

from queue_run.application.config import Config
from queue_run.application.payloads import payload_validator
from queue_run.contracts.answers import Answer, answered, in_event_loop, warn_of_former
from queue_run.contracts.ids import job_id as checked_job_id
from queue_run.contracts.ids import queue_name, text_id
from queue_run.contracts.json_values import MAX_DEPTH, deeper_than
from queue_run.contracts.manifest import QueueFacts
from queue_run.contracts.messages import decode_json, encode_json
from queue_run.errors import ClientError, InvalidPush, NotEncodable, UsageError
from queue_run.jobs.pushing import check_group
from queue_run.jobs.stored import JobFacts, StoredJob
from queue_run.process import context, runtime
from queue_run.process.runtime import LocalQueue

__all__ = ["PushedJob", "Queue", "cancel", "get", "self"]

log = logging.getLogger(__name__)

#: The package that holds an application's queues.
PACKAGE = "queues"

P_contra = TypeVar("P_contra", contravariant=True)


class PushedJob(str, Answer[str]):
    """The result of `push`: an answer whose value is the id of the job.

    Until 1.0 it is that id itself as well, a text. In asynchronous code the id that the await gives
    may be another one: where the push repeated one that a FIFO queue has already.
    """

    def __bool__(self) -> bool:
        # As a text, which is there before it was awaited.
        return True

    def _unheard(self, error: BaseException) -> None:
        log.error("a job that nobody waited for was not pushed: %s", error)


@dataclass(frozen=True, init=False)
class Queue(Generic[P_contra]):
    """A file in `queues/`, as the code that pushes to it sees it.

    In that file, `queue = Queue[Order](__name__)` is the queue itself, for other modules to import;
    `get("shop.orders")` is any queue.

    Args:
        module: the name of the file's module: `queues.shop.orders` of `queues/shop/orders.py`.

    Raises:
        UsageError: for a module that is no file of a queue.
    """

    name: str
    group_id: str | None
    dedupe_id: str | None
    #: The module that has made it: it is asked what the queue takes also where no worker has loaded
    #: the application.
    _module: str | None = field(compare=False)

    def __init__(self, module: str) -> None:
        self._fill(_name_of(module, "Queue[…](__name__)"), module)

    def _fill(
        self, name: str, module: str | None, group: str | None = None, dedupe: str | None = None
    ) -> "Queue[P_contra]":
        # It is frozen.
        vars(self).update(name=name, group_id=group, dedupe_id=dedupe, _module=module)
        return self

    def __repr__(self) -> str:
        return f"queues.get({self.name!r})"

    def group(self, group_id: str | int) -> "Queue[P_contra]":
        """The queue for pushing to one group of a FIFO queue: its jobs run in order, one at a
        time.

        Raises:
            InvalidName: for an id that is neither a non-empty text nor an int, or cannot be used.
        """
        group = text_id("group id", group_id)
        return _new()._fill(self.name, self._module, group, self.dedupe_id)

    def dedupe(self, dedupe_id: str | int) -> "Queue[P_contra]":
        """The queue for a push to a FIFO queue that is made once: a second one with this id to the
        same group within five minutes is dropped. Without it, payloads are compared.

        Raises:
            InvalidName: for an id that is neither a non-empty text nor an int, or cannot be used.
        """
        dedupe = text_id("dedupe id", dedupe_id, limit=None)
        return _new()._fill(self.name, self._module, self.group_id, dedupe)

    def push(self, payload: P_contra, *, params: Mapping[str, str] | None = None) -> Answer[str]:
        """Queue a job.

        It belongs to the user of the request or job that runs here, if any: `socket.send` in it
        reaches that user. In asynchronous code, await the call: it then is with the broker.

        Args:
            payload: text, bytes, or anything with a JSON form.
            params: texts beside the payload, for the handler's `params`.

        Returns:
            An answer whose value is the job's id. Where it repeats a push to a FIFO queue: the id
            of the first one.

        Raises:
            UnknownQueue: when workers are known and none of them offers this queue.
            InvalidPush: when the queue's file is loaded here and its handler does not take the
                payload; for a FIFO queue without a group, and a group without a FIFO queue.
            NotEncodable: when the payload has no JSON form.
            DispatchUnavailable: when the broker does not take it in time.
            JobStoreUnavailable: the same of Redis, for a FIFO queue.
        """
        call = context.current()
        job = StoredJob(
            id=str(uuid.uuid4()),
            queue=self.name,
            payload=as_argument(payload),
            facts=JobFacts(
                user=call.user if call is not None else None,
                params=_checked_params(params),
                group=self.group_id,
            ),
        )
        local = self._local()
        if local is not None:
            _check(job, local, self.dedupe_id)
        publish = partial(_publish, job, local, self.dedupe_id, time.monotonic())
        if in_event_loop():
            pushed = PushedJob(job.id)
            pushed.follow(_pusher().submit(publish))
        else:
            published = publish()
            pushed = PushedJob(published)
            pushed.settle(published)
        return pushed

    def _local(self) -> LocalQueue | None:
        """The queue's file, if it is loaded here."""
        found = runtime.current().local_queues.get(self.name)
        if found is None and self._module in sys.modules:
            return _of_module(sys.modules[self._module])
        return found


def get(name: str) -> Queue[Any]:
    """The queue of this name: `queues/<name>.py`, or `a.b` for `queues/a/b.py`.

    Raises:
        InvalidName: for what no file of a queue can be named. Whether workers offer the queue is
            seen when something is pushed.
    """
    return _new()._fill(queue_name(name), None)


@overload
def self() -> Queue[Any]: ...
@overload
def self(payload_type: type[P_contra]) -> Queue[P_contra]: ...
def self(payload_type: type[Any] | None = None) -> Queue[Any]:
    """The former spelling of `Queue[Order](__name__)`, until 1.0: the queue of this very file.

    Args:
        payload_type: of the payload; only type checkers look at it.

    Raises:
        UsageError: anywhere but in a file of `queues/`.
    """
    warn_of_former("queues.self(…)", "Queue[…](__name__), from queue_run")
    frame = inspect.currentframe()
    caller = frame.f_back if frame is not None else None
    module = str(caller.f_globals.get("__name__")) if caller is not None else ""
    return _new()._fill(_name_of(module, "queues.self()"), module)


def cancel(job_id: str) -> Answer[bool]:
    """Cancel a job: one that waits does not run, one that runs is told by its `signal`.

    With `Config(notify=True)` its user is told. In synchronous code it is done on return, in
    asynchronous code await the call, for its answer too.

    Returns:
        An answer whose value is False for a job that is known to have ended. Ends are remembered
        for some minutes, those of FIFO queues not at all.

    Raises:
        InvalidName: for what is no id of a job.
        JobStoreUnavailable: when Redis does not answer in time.
    """
    return answered(_pusher, partial(_cancel, checked_job_id(job_id)))


def as_argument(payload: object) -> Any:
    """Convert a payload into values that Celery's JSON carries; kombu has a form for bytes."""
    if isinstance(payload, str):
        # Of other classes too: what `push` gave for another job.
        return _valid(payload)
    if isinstance(payload, bytes | bytearray | memoryview):
        return bytes(payload)
    value = decode_json(encode_json(payload))
    if deeper_than(value, MAX_DEPTH):
        raise NotEncodable(payload, f"it is nested more than {MAX_DEPTH} levels deep")
    return value


def _new() -> Queue[Any]:
    return object.__new__(Queue)


def _name_of(module: str, spelling: str) -> str:
    """The name of the queue whose file is this module. The package of the queues may stand in
    others: an application's folder is not always where its processes look for modules.

    Raises:
        UsageError: for a module that is no file of a queue.
    """
    _, _, name = f".{module}".partition(f".{PACKAGE}.")
    if not name or name.rpartition(".")[2].startswith("_"):
        raise UsageError(
            f"{spelling} names the queue of a file in {PACKAGE}/, and {module} is not one: "
            'name the queue, queues.get("…")'
        )
    return name


def _publish(job: StoredJob, local: LocalQueue | None, dedupe: str | None, pushed_at: float) -> str:
    here = runtime.current()
    here.measure_clock()
    facts = msgspec.structs.replace(job.facts, queued_at=here.clock.at(pushed_at))
    job = msgspec.structs.replace(job, facts=facts)
    if local is None:
        local = here.queue(job.queue)
        if local is not None:
            _check(job, local, dedupe)
    return here.push(job, local.facts if local is not None else None, dedupe)


def _check(job: StoredJob, local: LocalQueue, dedupe: str | None) -> None:
    """Check a push as far as that is possible before anything is sent."""
    check_group(job, local.facts, dedupe)
    if local.validate is not None:
        try:
            local.validate(job.payload)
        except ClientError as error:
            raise InvalidPush(f"{job.queue} does not take this payload: {error}") from None


def _pusher() -> Executor:
    return runtime.current().pusher


def _cancel(job_id: str) -> bool:
    return runtime.current().attempts.cancel(job_id)


def _of_module(module: Any) -> LocalQueue | None:
    """Describe a queue from its imported file, in a process where no worker has loaded it."""
    if not hasattr(module, "handler"):
        # It is being imported.
        return None
    config = getattr(module, "config", None) or Config()
    return LocalQueue(
        QueueFacts(fifo=bool(config.fifo), celery_queue=config.celery_queue, http=config.http),
        payload_validator(module.handler),
    )


def _checked_params(params: Mapping[str, str] | None) -> dict[str, str]:
    found: dict[Any, Any] = dict(params or {})
    for name, value in found.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise TypeError(f"params are texts by name, not {name!r}: {value!r}")
    return {
        _valid(name, "the name of a param"): _valid(value, f"the param {name!r}")
        for name, value in found.items()
    }


def _valid(text: str, what: str = "it") -> str:
    """Check that a text is Unicode, and return it as a plain `str`.

    Raises:
        NotEncodable: when the text is not Unicode.
    """
    try:
        return text.encode().decode()
    except UnicodeEncodeError:
        raise NotEncodable(text, f"{what} has half a character (a lone surrogate)") from None
