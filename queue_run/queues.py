"""Jobs: `from queue_run import queues`, then `queues.get("mail").push(payload)`."""

import asyncio
import time
import uuid
from collections.abc import Awaitable, Generator
from functools import partial
from typing import Any

import msgspec
from kombu.exceptions import OperationalError

from queue_run import context, runtime
from queue_run.errors import DispatchUnavailable
from queue_run.messages import encode_json

__all__ = ["PushedJob", "Queue", "get"]

#: Header of the Celery message that carries what a job knows beside its payload.
JOB_HEADER = "queue_run"


class JobFacts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What travels with a job beside its payload."""

    #: Unix time.
    queued_at: float
    #: The user whose request or job pushed it.
    user: Any = None


class PushedJob(str, Awaitable[str]):
    """The id of a job that was pushed: a text, which asynchronous code can await."""

    __slots__ = ("_published",)

    _published: "asyncio.Future[Any] | None"

    def __await__(self) -> Generator[Any, None, str]:
        if self._published is not None:
            try:
                yield from self._published.__await__()
            except OperationalError as error:
                raise DispatchUnavailable(f"the broker took no job: {error}") from error
        return str(self)


class Queue:
    """A file in `queues/`, as seen by whoever pushes to it."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"queues.get({self.name!r})"

    def push(self, payload: object) -> PushedJob:
        """Queue a job.

        It belongs to the user of the request or job that runs here, if any: `socket.send` in it
        reaches that user. In asynchronous code, await the call: it then is with the broker.

        Args:
            payload: text, bytes, or anything with a JSON form.

        Returns:
            The job's id.

        Raises:
            UnknownQueue: when workers are known and none of them offers this queue.
            NotEncodable: when the payload has no JSON form.
            DispatchUnavailable: when the broker does not take it in time.
        """
        job_id = PushedJob(uuid.uuid4())
        publish = partial(self._publish, job_id, as_argument(payload), _facts())
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            job_id._published = None
            try:
                publish()
            except OperationalError as error:
                raise DispatchUnavailable(f"the broker took no job: {error}") from error
        else:
            job_id._published = loop.run_in_executor(runtime.current().pusher, publish)
        return job_id

    def _publish(self, job_id: str, argument: Any, facts: JobFacts) -> None:
        headers = {JOB_HEADER: msgspec.to_builtins(facts)}
        runtime.current().push(self.name, str(job_id), argument, headers)


def get(name: str) -> Queue:
    """The queue of this name: `queues/<name>.py`, or `a.b` for `queues/a/b.py`."""
    return Queue(name)


def _facts() -> JobFacts:
    call = context.current()
    return JobFacts(queued_at=time.time(), user=call.user if call is not None else None)


def as_argument(payload: object) -> Any:
    """The payload as Celery's JSON carries it: kombu has a form for bytes of its own."""
    if isinstance(payload, str | bytes):
        return payload
    return msgspec.json.decode(encode_json(payload))
