"""Jobs, from the broker's message to their end: attempts counted, retried, parked, told."""

import logging
import os
import random
import socket as sockets
import time
import traceback
import uuid
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, TypeVar

import msgspec

from queue_run.application.requests import Job, Signal
from queue_run.channel.memberships import also_when_full
from queue_run.contracts.envelopes import ToUsers, encode, repeatable
from queue_run.contracts.ids import id_of_user
from queue_run.contracts.messages import encode as encode_message
from queue_run.errors import ClientError, HandlerTimeout, InvalidPush, WorkerLost
from queue_run.jobs.attempts import Attempts, End
from queue_run.jobs.delays import Delays
from queue_run.jobs.envelopes import DeadLetter, JobEnvelope
from queue_run.jobs.lanes import Lane, Lanes, Next
from queue_run.jobs.pushing import check_group
from queue_run.process import runtime
from queue_run.settings import Settings
from queue_run.storage.scripts import Store
from worker.application.routes import JobHandler
from worker.calls.around import Around
from worker.jobs.leases import Lease, LeaseKeeper
from worker.running.intake import Intake
from worker.running.job_runner import run_async_job, run_plain_job, tell_failure
from worker.running.time_limits import TimeLimits

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Seconds for which a worker waits for Redis with a job's end, before it leaves the job to the
#: broker, to be handed out again.
PATIENCE = 60.0
#: Seconds between retries, at most.
LONGEST_BACKOFF = 3600.0
#: Seconds after which a drain gives its place to other jobs.
DRAIN_TIME = 5.0
#: The same where requests wait for it: mostly one job, or several that take no time.
SHARED_DRAIN_TIME = 0.01
#: Characters of an error's text that are kept and told, and of a traceback's end that are kept.
LONGEST_ERROR, LONGEST_TRACEBACK = 1000, 20_000


class Jobs:
    """The jobs of one process.

    Args:
        intake: gives the process's event loop, made when it is first needed.
        stopping: whether the worker is about to end.
        dying: whether this process has been told to end at once.
        send_drain: has a lane drained, by whichever worker is free.
        around: what is done around each call of the application's code.
        drain_time: seconds after which a drain gives its place to others; None for the usual time.
    """

    def __init__(
        self,
        settings: Settings,
        intake: Callable[[], Intake],
        *,
        stopping: Callable[[], bool],
        dying: Callable[[], bool],
        send_drain: Callable[[Lane], None],
        around: Around | None = None,
        drain_time: float | None = None,
    ) -> None:
        self._settings = settings
        self._intake = intake
        self._stopping = stopping
        self._dying = dying
        self._send_drain = send_drain
        self._around = around or Around()
        self._drain_time = drain_time
        self._store = store = Store(settings, patience=PATIENCE)
        lease = settings.lease
        self._attempts = Attempts(store, lease=lease, visibility=settings.visibility_timeout)
        self._lanes = Lanes(store, lease=lease)
        self._delays = Delays(store)
        self._keeper = LeaseKeeper(self._attempts, self._lanes, lease=lease, stopping=stopping)

    def run(self, queue: JobHandler, envelope: JobEnvelope) -> None:
        """Do with a job that the broker handed out what is to be done now.

        Raises:
            InfrastructureError: when Redis is away for long: the broker must hand it out again.
        """
        token = _new_token()
        beginning = self._attempts.begin(envelope.id, token, most=queue.attempts)
        match beginning.verdict:
            case "run":
                self._attempt(queue, envelope, token, beginning.attempt)
            case "ended":
                log.info("%s came again after its end", _name(envelope))
            case "withdrawn":
                log.warning("%s came after its push had failed, and is dropped", _name(envelope))
            case "busy":
                log.info("%s came again while it runs", _name(envelope))
                self._delays.add(envelope, beginning.after)
            case "cancelled":
                self._tell(queue, envelope, "cancelled")
                self._attempts.end(envelope.id, token, "cancelled")
            case "exhausted":
                self._park_lost(queue, envelope, token, beginning.attempt)

    def drain(self, queue: JobHandler, group: str) -> None:
        """Run the jobs of a FIFO group, one after another, for some seconds.

        Raises:
            InfrastructureError: when Redis is away for long: another drain goes on.
        """
        lane, token = Lane(queue.name, group), _new_token()
        until = time.monotonic() + (DRAIN_TIME if self._drain_time is None else self._drain_time)
        with TimeLimits() as limits:
            drain = self._lanes.drain(lane, token, most=queue.attempts)
            found = drain.advance()
            while found.job is not None:
                if not self._step(queue, lane, token, found, limits):
                    return
                stop = time.monotonic() > until or self._stopping()
                found = drain.advance(done=found.job.id, stop=stop)
        if found.step == "later":
            self._send_drain(lane)

    def close(self) -> None:
        """Close the links to Redis."""
        self._store.close()

    def _step(
        self, queue: JobHandler, lane: Lane, token: str, found: Next, limits: TimeLimits
    ) -> bool:
        """Deal with the first job of a lane; False when it stays the first, for a retry."""
        envelope = found.job
        assert envelope is not None
        if found.step == "cancelled":
            self._tell(queue, envelope, "cancelled")
        elif found.step == "exhausted":
            self._park_lost(queue, envelope, token, found.attempt, found.sequence)
        else:
            job = self._job(queue, envelope, found.attempt, found.sequence)
            lease = _lease(queue, job, token, lane)
            failure = self._run(queue, job, lease, limits)
            if lease.cancelled:
                self._tell(queue, envelope, "cancelled")
            elif failure is None:
                self._tell(queue, envelope, "finished")
            elif may_retry(queue, failure, found.attempt):
                after = self._backoff(queue, envelope, found.attempt)
                self._lanes.postpone(lane, token, envelope.id, after)
                return False
            else:
                self._park(queue, envelope, token, found.attempt, failure, found.sequence)
        return True

    def _attempt(self, queue: JobHandler, envelope: JobEnvelope, token: str, attempt: int) -> None:
        job = self._job(queue, envelope, attempt)
        lease = _lease(queue, job, token)
        check = partial(check_group, envelope, queue.facts, None)
        with TimeLimits() as limits:
            failure = self._run(queue, job, lease, limits, check)
        if lease.cancelled:
            self._tell(queue, envelope, "cancelled")
            self._attempts.end(envelope.id, token, "cancelled")
        elif failure is None:
            self._tell(queue, envelope, "finished")
            self._attempts.end(envelope.id, token, "finished")
        elif may_retry(queue, failure, attempt):
            after = self._backoff(queue, envelope, attempt)
            if not self._attempts.retry(envelope, token, after=after):
                log.warning("%s is run by another worker already", _name(envelope))
        else:
            self._park(queue, envelope, token, attempt, failure)

    def _run(
        self,
        queue: JobHandler,
        job: Job,
        lease: Lease,
        limits: TimeLimits,
        check: Callable[[], None] | None = None,
    ) -> BaseException | None:
        """Run the handler; what it has failed with."""
        try:
            with self._keeper.holding(lease), self._around.call():
                if check is not None:
                    check()
                self._run_handler(queue, job, limits)
        except KeyboardInterrupt:
            raise
        except BaseException as failure:
            if self._dying():
                # Not the handler's doing: the job goes back to the broker.
                raise
            # Also a handler that calls sys.exit: it ends the attempt, not the process.
            with self._around.call():
                tell_failure(queue, failure, job, self._on_loop)
            return failure
        return None

    def _run_handler(self, queue: JobHandler, job: Job, limits: TimeLimits) -> None:
        if queue.is_async:
            intake = self._intake()
            limited, middleware = intake.runner.limited, intake.middleware
            self._on_loop(run_async_job(queue, job, limited=limited, middleware=middleware))
        else:
            run_plain_job(
                queue,
                job,
                limited=self._limited,
                on_loop=self._on_loop,
                run_limited=limits.run,
            )

    # Plain jobs need no loop: it is made for the first that does.

    def _limited(
        self, run: Callable[[], Awaitable[Any]], seconds: float, signal: Signal
    ) -> Awaitable[Any]:
        return self._intake().runner.limited(run, seconds, signal)

    def _on_loop(self, work: Coroutine[Any, Any, T]) -> T:
        future = self._intake().background.submit(
            work if self._around.idle else self._as_task(work)
        )
        try:
            return future.result()
        except BaseException:
            # The wait was interrupted, at the end of the job's time: nobody waits for it any more.
            future.cancel()
            raise

    async def _as_task(self, work: Coroutine[Any, Any, T]) -> T:
        with self._around.task():
            return await work

    def _job(
        self, queue: JobHandler, envelope: JobEnvelope, attempt: int, sequence: int | None = None
    ) -> Job:
        facts = envelope.facts
        return Job(
            job_id=envelope.id,
            queue_name=queue.name,
            payload=envelope.payload,
            user=facts.user,
            queued_at=facts.queued_at,
            attempt=attempt,
            revived=facts.revived,
            group_id=facts.group,
            sequence_number=sequence,
            params=dict(facts.params),
            file=queue.file,
        )

    def _backoff(self, queue: JobHandler, envelope: JobEnvelope, attempt: int) -> float:
        """Seconds before the next attempt: twice as long each time, and never all at once."""
        after = min(queue.backoff * 2.0 ** (attempt - 1), LONGEST_BACKOFF)
        after *= random.uniform(0.8, 1.2)
        log.warning(
            "%s: attempt %d of %d failed, the next one is in %.1f s",
            *(_name(envelope), attempt, queue.attempts, after),
            extra={"action": "job_retried"},
        )
        return after

    def _park_lost(
        self,
        queue: JobHandler,
        envelope: JobEnvelope,
        token: str,
        attempt: int,
        sequence: int | None = None,
    ) -> None:
        """A job whose last attempt ended with its worker."""
        lost = WorkerLost(attempt)
        job = self._job(queue, envelope, attempt, sequence)
        with self._around.call():
            tell_failure(queue, lost, job, self._on_loop)
        self._park(queue, envelope, token, attempt, lost, sequence)

    def _park(
        self,
        queue: JobHandler,
        envelope: JobEnvelope,
        token: str,
        attempt: int,
        failure: BaseException,
        sequence: int | None = None,
    ) -> None:
        """Keep a job that has failed for good, and tell its user."""
        letter = DeadLetter(
            job=envelope,
            attempts=attempt,
            failed_at=runtime.current().clock.now(),
            error=_clean(f"{type(failure).__name__}: {_text(failure)}"[:LONGEST_ERROR]),
            traceback=_clean(_traceback(failure)[-LONGEST_TRACEBACK:]),
            sequence=sequence,
            fifo=sequence is not None,
        )
        self._tell(queue, envelope, "failed", self._error_text(envelope, failure))
        if self._attempts.park(letter, token):
            log.error(
                "%s has failed for good after %d attempts: queue-run queue dead show %s",
                *(_name(envelope), attempt, envelope.id),
                extra={"action": "job_parked"},
            )

    def _error_text(self, envelope: JobEnvelope, failure: BaseException) -> str:
        told = isinstance(failure, ClientError | HandlerTimeout | InvalidPush | WorkerLost)
        if told or self._settings.expose_errors:
            return _clean((_text(failure) or type(failure).__name__)[:LONGEST_ERROR])
        return f"internal error ({envelope.id})"

    def _tell(
        self, queue: JobHandler, envelope: JobEnvelope, end: End, error: str | None = None
    ) -> None:
        """Tell the job's user of its end, before the end is written down: a worker that dies in
        between tells it again under the same id, and push servers drop the second one."""
        user = id_of_user(envelope.facts.user) if queue.notify else None
        if user is None:
            return
        event = {"event": end, "job": envelope.id, "queue": queue.name}
        if error is not None:
            event["error"] = error
        here = runtime.current()
        message = encode_message(event, limit=here.settings.max_message_bytes)
        told = ToUsers(users=[user], message=message)
        life = f"{envelope.id} {envelope.facts.revived} {end}"
        told = msgspec.structs.replace(told, id=repeatable(told, life, 0))
        most = here.settings.broadcast_entries
        # Were it refused, the job would run again and again until there is room.
        here.publisher.publish(
            here.keys.broadcast, encode(told), max_entries=most, noted=also_when_full(most)
        )


def _text(failure: BaseException) -> str:
    try:
        return str(failure)
    except Exception as error:
        return f"(its text cannot be had: {type(error).__name__})"


def _traceback(failure: BaseException) -> str:
    return "".join(traceback.format_exception(failure)) if failure.__traceback__ else ""


def _clean(text: str) -> str:
    """The text without what UTF-8 has no form for: a job with a strange error ends all the same."""
    return text.encode(errors="replace").decode()


def token_prefix(pid: int) -> str:
    """What the tokens of all attempts of a process of this machine begin with."""
    return f"{sockets.gethostname()}:{pid}:"


def _new_token() -> str:
    return token_prefix(os.getpid()) + uuid.uuid4().hex


def _lease(queue: JobHandler, job: Job, token: str, lane: Lane | None = None) -> Lease:
    return Lease(
        job_id=job.job_id, token=token, lane=lane, timeout=queue.timeout, signal=job.signal
    )


def may_retry(queue: JobHandler, failure: BaseException, attempt: int) -> bool:
    # A payload that does not fit will not fit later either.
    return attempt < queue.attempts and not isinstance(failure, InvalidPush)


def _name(job: JobEnvelope) -> str:
    return f"{job.queue}[{job.id}]"
