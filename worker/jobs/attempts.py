"""Jobs, from the broker's message to their end: attempts counted, retried, parked, told."""

import logging
import os
import random
import socket as sockets
import time
import uuid
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar, assert_never

from queue_run.application.requests import Job, Signal
from queue_run.errors import InvalidPush, WorkerLost
from queue_run.jobs.attempts import Attempts, End
from queue_run.jobs.delays import Delays
from queue_run.jobs.envelopes import JobEnvelope
from queue_run.jobs.lanes import Lane, Lanes, Next
from queue_run.settings import Settings
from queue_run.storage.scripts import Store
from worker.application.routes import JobHandler
from worker.calls.around import Around
from worker.jobs.ends import Ends
from worker.jobs.leases import Lease, LeaseKeeper
from worker.jobs.taken import FromBroker, FromGroup, Taken, lease_of, name_of
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
        self._ends = Ends(settings, self._attempts)
        self._lanes = Lanes(store, lease=lease)
        self._delays = Delays(store)
        self._keeper = LeaseKeeper(self._attempts, self._lanes, lease=lease, stopping=stopping)

    def run(self, queue: JobHandler, envelope: JobEnvelope) -> None:
        """Do with a job that the broker handed out what is to be done now.

        Raises:
            InfrastructureError: when Redis is away for long: the broker must hand it out again.
        """
        token = _new_token()
        found = self._attempts.begin(envelope.id, token, most=queue.attempts)
        match found.verdict:
            case "run" | "cancelled" | "exhausted":
                taken = FromBroker(self._attempts, envelope, token, found.verdict, found.attempt)
                with TimeLimits() as limits:
                    self._deal_with(queue, taken, limits)
            case "ended":
                log.info("%s came again after its end", name_of(envelope))
            case "withdrawn":
                log.warning("%s came after its push had failed, and is dropped", name_of(envelope))
            case "busy":
                log.info("%s came again while it runs", name_of(envelope))
                self._delays.add(envelope, found.after)
            case _:
                assert_never(found.verdict)

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
                taken = self._taken(lane, token, found)
                if not self._deal_with(queue, taken, limits):
                    return
                stop = time.monotonic() > until or self._stopping()
                found = drain.advance(done=found.job.id, stop=stop)
        if found.step == "later":
            self._send_drain(lane)

    def close(self) -> None:
        """Close the links to Redis."""
        self._store.close()

    def _taken(self, lane: Lane, token: str, found: Next) -> FromGroup:
        match found.step:
            case "run" | "cancelled" | "exhausted":
                assert found.job is not None
                return FromGroup(
                    *(self._lanes, found.job, token, found.step, found.attempt),
                    *(lane, found.sequence),
                )
            case "empty" | "refused" | "later":
                raise AssertionError(f"a job comes with the step {found.step!r}")
            case _:
                assert_never(found.step)

    def _deal_with(self, queue: JobHandler, taken: Taken, limits: TimeLimits) -> bool:
        """Do with a job what is due; whether it has ended, and is not to be run once more."""
        match taken.due:
            case "run":
                return self._attempt(queue, taken, limits)
            case "cancelled":
                self._end(queue, taken, "cancelled")
            case "exhausted":
                self._park_lost(queue, taken)
            case _:
                assert_never(taken.due)
        return True

    def _attempt(self, queue: JobHandler, taken: Taken, limits: TimeLimits) -> bool:
        """Run an attempt of a job; whether it was the last one."""
        job = _job(queue, taken)
        lease = lease_of(taken, queue, job.signal)
        failure = self._run(queue, job, lease, limits, taken.check(queue))
        if lease.cancelled:
            self._end(queue, taken, "cancelled")
        elif failure is None:
            self._end(queue, taken, "finished")
        elif may_retry(queue, failure, taken.attempt):
            taken.retry(self._backoff(queue, taken.job, taken.attempt))
            return False
        else:
            self._park(queue, taken, failure)
        return True

    def _end(self, queue: JobHandler, taken: Taken, end: End) -> None:
        self._ends.tell(queue, taken.job, end)
        taken.end(end)

    def _park(self, queue: JobHandler, taken: Taken, failure: BaseException) -> None:
        self._ends.park(
            *(queue, taken.job, taken.token, failure),
            attempt=taken.attempt,
            sequence=taken.sequence,
        )

    def _run(
        self,
        queue: JobHandler,
        job: Job,
        lease: Lease,
        limits: TimeLimits,
        check: Callable[[], None] | None,
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

    def _backoff(self, queue: JobHandler, envelope: JobEnvelope, attempt: int) -> float:
        """Seconds before the next attempt: twice as long each time, and never all at once."""
        after = min(queue.backoff * 2.0 ** (attempt - 1), LONGEST_BACKOFF)
        after *= random.uniform(0.8, 1.2)
        log.warning(
            "%s: attempt %d of %d failed, the next one is in %.1f s",
            *(name_of(envelope), attempt, queue.attempts, after),
            extra={"action": "job_retried"},
        )
        return after

    def _park_lost(self, queue: JobHandler, taken: Taken) -> None:
        """A job whose last attempt ended with its worker."""
        lost = WorkerLost(taken.attempt)
        with self._around.call():
            tell_failure(queue, lost, _job(queue, taken), self._on_loop)
        self._park(queue, taken, lost)


def token_prefix(pid: int) -> str:
    """What the tokens of all attempts of a process of this machine begin with."""
    return f"{sockets.gethostname()}:{pid}:"


def _new_token() -> str:
    return token_prefix(os.getpid()) + uuid.uuid4().hex


def _job(queue: JobHandler, taken: Taken) -> Job:
    envelope, facts = taken.job, taken.job.facts
    return Job(
        job_id=envelope.id,
        queue_name=queue.name,
        payload=envelope.payload,
        user=facts.user,
        queued_at=facts.queued_at,
        attempt=taken.attempt,
        revived=facts.revived,
        group_id=facts.group,
        sequence_number=taken.sequence,
        params=dict(facts.params),
        file=queue.file,
    )


def may_retry(queue: JobHandler, failure: BaseException, attempt: int) -> bool:
    # A payload that does not fit will not fit later either.
    return attempt < queue.attempts and not isinstance(failure, InvalidPush)
