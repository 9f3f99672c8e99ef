"""Handing jobs to the broker, from any process: as a Celery task, or through a FIFO group."""

import hashlib
import json
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec
from kombu.utils.json import register_type

from queue_run.contracts.keys import DRAIN_TASK, JOB_TASK_PREFIX
from queue_run.contracts.manifest import QueueFacts
from queue_run.errors import DispatchUnavailable, InvalidPush, JobStoreUnavailable
from queue_run.jobs.attempt_records import Attempts
from queue_run.jobs.groups import Group, Groups
from queue_run.jobs.sending import TaskSender
from queue_run.jobs.stored import HEADER, StoredJob
from queue_run.storage.late_pushes import ALSO_WHEN_FULL
from queue_run.storage.patience import unconfirmed

if TYPE_CHECKING:
    from celery import Celery

log = logging.getLogger(__name__)


class JobPusher:
    """Pushes jobs; blocks while it does.

    Args:
        celery: gives the Celery application; asked when it is first needed.
        patience: seconds for which one push is tried.
    """

    def __init__(
        self,
        celery: "Callable[[], Celery]",
        groups: Groups,
        attempts: Attempts,
        *,
        patience: float,
    ) -> None:
        self._celery = celery
        self._groups = groups
        self._attempts = attempts
        self._sender = TaskSender(celery, patience)

    def push(self, job: StoredJob, facts: QueueFacts | None, dedupe: str | None = None) -> str:
        """Hand a job to its workers.

        Args:
            facts: of the job's queue; None where they are not known.
            dedupe: equal for what is the same push to a group; None compares payloads.

        Returns:
            The id of the job that will run: another one's, where this push repeats it.

        Raises:
            InvalidPush: for a group where there must be none, or none where there must be one.
            DispatchUnavailable: when the broker does not take it in time.
            JobStoreUnavailable: the same of Redis, for a FIFO queue.
        """
        check_group(job, facts, dedupe)
        if job.facts.group is None:
            self._push_plain(job, facts)
            return job.id
        pushed = self._groups.push(job, dedupe if dedupe is not None else _fingerprint(job))
        if pushed.needs_drain:
            try:
                self.send_drain(Group(job.queue, job.facts.group), facts)
            except DispatchUnavailable as error:
                # The job is safe in its group, and a worker that looks after groups sends another.
                log.warning("a drain is sent later: %s", error)
        return pushed.job_id

    def _push_plain(self, job: StoredJob, facts: QueueFacts | None) -> None:
        before = unconfirmed.count
        try:
            self.send(job, facts)
        except BaseException as error:
            # RabbitMQ may have the job, or get it when it reads on, and has not said so.
            if unconfirmed.count == before or not self._is_with_workers(job):
                raise
            if not isinstance(error, DispatchUnavailable):
                raise

    def _is_with_workers(self, job: StoredJob) -> bool:
        """True if a worker has begun a job that the broker has not confirmed.

        If no worker has begun it, the job is withdrawn, so that no worker begins it later.
        """
        try:
            return not self._attempts.withdraw(job.id)
        except JobStoreUnavailable as error:
            log.error("%s[%s] may still come, though its push failed: %s", job.queue, job.id, error)
            return False

    def send(
        self, job: StoredJob, facts: QueueFacts | None, *, also_when_full: bool = False
    ) -> None:
        """Hand a job to the broker as the Celery task of its queue.

        Args:
            also_when_full: Redis holds it in another place until it is there: a full one takes it.

        Raises:
            DispatchUnavailable: when the broker does not take it in time.
        """
        # As a text: kombu looks into the objects that it finds in headers, see `marked`.
        headers: dict[str, object] = {HEADER: msgspec.json.encode(job.facts).decode()}
        if also_when_full:
            headers[ALSO_WHEN_FULL] = 1
        self._send(JOB_TASK_PREFIX + job.queue, [marked(job.payload)], facts, job.id, headers)

    def send_drain(self, group: Group, facts: QueueFacts | None) -> None:
        """Have a group's jobs run.

        Raises:
            DispatchUnavailable: when the broker does not take it in time.
        """
        headers: dict[str, object] = {ALSO_WHEN_FULL: 1}
        self._send(DRAIN_TASK, [group.queue, group.id], facts, headers=headers)

    def _send(
        self,
        task: str,
        arguments: list[object],
        facts: QueueFacts | None,
        task_id: str | None = None,
        headers: dict[str, object] | None = None,
    ) -> None:
        from queue_run.broker.celery_app import jobs_queue

        self._sender.send(
            task,
            args=arguments,
            task_id=task_id,
            headers=headers,
            queue=jobs_queue(self._celery(), facts.celery_queue if facts else None),
            ignore_result=True,
            argsrepr="",
            kwargsrepr="",
        )


def check_group(job: StoredJob, facts: QueueFacts | None, dedupe: str | None) -> None:
    """
    Raises:
        InvalidPush: for a group or dedupe id where there must be none, or no group where there
            must be one.
    """
    group = job.facts.group
    if group is None and facts is not None and facts.fifo:
        raise InvalidPush(
            f"{job.queue} is a FIFO queue: say which group keeps its order, "
            f'queues.get("{job.queue}").group("…").push(…)'
        )
    if group is None and dedupe is not None:
        raise InvalidPush(f"{job.queue}: dedupe is for FIFO queues only, with a group")
    if group is not None and facts is not None and not facts.fifo:
        raise InvalidPush(
            f"{job.queue} is no FIFO queue, and has no groups: push without .group(…), "
            "or write config = Config(fifo=True) in its file"
        )


class _Literal:
    """An object that is no mark of kombu's, though it looks like one."""

    def __init__(self, fields: dict[str, object]) -> None:
        self.fields = fields


register_type(
    _Literal,
    "queue_run.object",
    lambda each: list(each.fields.items()),
    dict,  # type: ignore[arg-type]  # it comes back as the object that it stands for
)


def marked(value: object) -> object:
    """Convert a value into a form from which kombu's JSON gives it back as it was.

    kombu marks what JSON has no form for with objects of just these two fields. A payload that has
    such an object, from whatever client, would become something else, or could not be read by any
    worker and be lost.
    """
    if isinstance(value, dict):
        fields = {name: marked(each) for name, each in value.items()}
        return _Literal(fields) if fields.keys() == {"__type__", "__value__"} else fields
    if isinstance(value, list):
        return [marked(each) for each in value]
    return value


def _fingerprint(job: StoredJob) -> str:
    """A text that is equal for equal payloads."""
    payload = job.payload
    kind = type(payload).__name__ if isinstance(payload, str | bytes) else "json"
    # The order of an object's fields is no part of its value.
    data = payload if isinstance(payload, bytes) else _sorted(payload)
    return hashlib.blake2b(kind.encode() + b":" + data, digest_size=16).hexdigest()


def _sorted(payload: object) -> bytes:
    try:
        return _sorted_json.encode(payload)
    except UnicodeEncodeError:
        # Half characters, which JSON escapes.
        return json.dumps(payload, sort_keys=True).encode()


_sorted_json = msgspec.json.Encoder(order="deterministic")
