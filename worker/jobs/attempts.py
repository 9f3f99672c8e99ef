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
from queue_run.jobs.attempt_records import Attempts, End
from queue_run.jobs.delays import Delays
from queue_run.jobs.groups import Group, Groups, Next
from queue_run.jobs.stored import StoredJob
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
        send_drain: has a group drained, by whichever worker is free.
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
        send_drain: Callable[[Group], None],
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
        self._groups = Groups(store, lease=lease)
        self._delays = Delays(store)
        self._keeper = LeaseKeeper(self._attempts, self._groups, lease=lease, stopping=stopping)

    def run(self, handler: JobHandler, stored: StoredJob) -> None:
        """Run a job that the broker handed out, or do what its record in Redis asks for instead.

        Raises:
            InfrastructureError: when Redis is away for long: the broker must hand it out again.
        """
        token = _new_token()
        found = self._attempts.begin(stored.id, token, most=handler.attempts)
        match found.verdict:
            case "run" | "cancelled" | "exhausted":
                taken = FromBroker(self._attempts, stored, token, found.verdict, found.attempt)
                with TimeLimits() as limits:
                    self._deal_with(handler, taken, limits)
            case "ended":
                log.info("%s came again after its end", name_of(stored))
            case "withdrawn":
                log.warning("%s came after its push had failed, and is dropped", name_of(stored))
            case "busy":
                log.info("%s came again while it runs", name_of(stored))
                self._delays.add(stored, found.after)
            case _:
                assert_never(found.verdict)

    def drain(self, handler: JobHandler, group_id: str) -> None:
        """Run the jobs of a FIFO group, one after another, for some seconds.

        Raises:
            InfrastructureError: when Redis is away for long: another drain goes on.
        """
        group, token = Group(handler.name, group_id), _new_token()
        until = time.monotonic() + (DRAIN_TIME if self._drain_time is None else self._drain_time)
        with TimeLimits() as limits:
            drain = self._groups.drain(group, token, most=handler.attempts)
            found = drain.advance()
            while found.job is not None:
                taken = self._taken(group, token, found)
                if not self._deal_with(handler, taken, limits):
                    return
                stop = time.monotonic() > until or self._stopping()
                found = drain.advance(done=found.job.id, stop=stop)
        if found.step == "later":
            self._send_drain(group)

    def close(self) -> None:
        """Close the links to Redis."""
        self._store.close()

    def _taken(self, group: Group, token: str, found: Next) -> FromGroup:
        match found.step:
            case "run" | "cancelled" | "exhausted":
                assert found.job is not None
                return FromGroup(
                    *(self._groups, found.job, token, found.step, found.attempt),
                    *(group, found.sequence),
                )
            case "empty" | "refused" | "later":
                raise AssertionError(f"a job comes with the step {found.step!r}")
            case _:
                assert_never(found.step)

    def _deal_with(self, handler: JobHandler, taken: Taken, limits: TimeLimits) -> bool:
        """Do with a job what is due; whether it has ended, and is not to be run once more."""
        match taken.due:
            case "run":
                return self._attempt(handler, taken, limits)
            case "cancelled":
                self._end(handler, taken, "cancelled")
            case "exhausted":
                self._park_lost(handler, taken)
            case _:
                assert_never(taken.due)
        return True

    def _attempt(self, handler: JobHandler, taken: Taken, limits: TimeLimits) -> bool:
        """Run an attempt of a job; whether it was the last one."""
        job = _job(handler, taken)
        lease = lease_of(taken, handler, job.signal)
        failure = self._run(handler, job, lease, limits, taken.check(handler))
        if lease.cancelled:
            self._end(handler, taken, "cancelled")
        elif failure is None:
            self._end(handler, taken, "finished")
        elif may_retry(handler, failure, taken.attempt):
            taken.retry(self._backoff(handler, taken.job, taken.attempt))
            return False
        else:
            self._park(handler, taken, failure)
        return True

    def _end(self, handler: JobHandler, taken: Taken, end: End) -> None:
        self._ends.tell(handler, taken.job, end)
        taken.end(end)

    def _park(self, handler: JobHandler, taken: Taken, failure: BaseException) -> None:
        self._ends.park(
            *(handler, taken.job, taken.token, failure),
            attempt=taken.attempt,
            sequence=taken.sequence,
        )

    def _run(
        self,
        job_handler: JobHandler,
        job: Job,
        lease: Lease,
        limits: TimeLimits,
        check: Callable[[], None] | None,
    ) -> BaseException | None:
        """Run the handler; return the error with which it failed, or None."""
        try:
            with self._keeper.holding(lease), self._around.call():
                if check is not None:
                    check()
                self._run_handler(job_handler, job, limits)
        except KeyboardInterrupt:
            raise
        except BaseException as failure:
            if self._dying():
                # Not the handler's doing: the job goes back to the broker.
                raise
            # Also a handler that calls sys.exit: it ends the attempt, not the process.
            with self._around.call():
                tell_failure(job_handler, failure, job, self._on_loop)
            return failure
        return None

    def _run_handler(self, handler: JobHandler, job: Job, limits: TimeLimits) -> None:
        if handler.is_async:
            intake = self._intake()
            limited, middleware = intake.runner.limited, intake.middleware
            self._on_loop(run_async_job(handler, job, limited=limited, middleware=middleware))
        else:
            run_plain_job(
                handler,
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

    def _backoff(self, handler: JobHandler, stored: StoredJob, attempt: int) -> float:
        """Choose the seconds before the next attempt: about twice as many each time, and by chance
        a little more or less, so that failed jobs do not come again all at once."""
        after = min(handler.backoff * 2.0 ** (attempt - 1), LONGEST_BACKOFF)
        after *= random.uniform(0.8, 1.2)
        log.warning(
            "%s: attempt %d of %d failed, the next one is in %.1f s",
            *(name_of(stored), attempt, handler.attempts, after),
            extra={"action": "job_retried"},
        )
        return after

    def _park_lost(self, handler: JobHandler, taken: Taken) -> None:
        """Park a job whose last attempt ended with its worker."""
        lost = WorkerLost(taken.attempt)
        with self._around.call():
            tell_failure(handler, lost, _job(handler, taken), self._on_loop)
        self._park(handler, taken, lost)


def token_prefix(pid: int) -> str:
    """The text with which the tokens of all attempts of a process of this machine begin."""
    return f"{sockets.gethostname()}:{pid}:"


def _new_token() -> str:
    return token_prefix(os.getpid()) + uuid.uuid4().hex


def _job(handler: JobHandler, taken: Taken) -> Job:
    stored, facts = taken.job, taken.job.facts
    return Job(
        job_id=stored.id,
        queue_name=handler.name,
        payload=stored.payload,
        user=facts.user,
        queued_at=facts.queued_at,
        attempt=taken.attempt,
        revived=facts.revived,
        group_id=facts.group,
        sequence_number=taken.sequence,
        params=dict(facts.params),
        file=handler.file,
    )


def may_retry(handler: JobHandler, failure: BaseException, attempt: int) -> bool:
    # A payload that does not fit will not fit later either.
    return attempt < handler.attempts and not isinstance(failure, InvalidPush)
