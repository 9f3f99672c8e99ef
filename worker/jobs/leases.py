"""Keeping the leases of the attempts that run in this process, and telling them to stop."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from redis.exceptions import RedisError

from queue_run.application.requests import Signal
from queue_run.jobs.attempt_records import Attempts
from queue_run.jobs.groups import Group, Groups
from queue_run.threads.vital import VitalThread
from worker.ending import end_worker

log = logging.getLogger(__name__)

#: Seconds between two renewals, at most: so soon a job knows that it was cancelled.
LONGEST_INTERVAL = 1.0
#: Seconds after a job's timeout for which its lease is still renewed. Code that nothing stopped by
#: then is left to itself, and the job is run elsewhere.
OVERTIME = 10.0


@dataclass(slots=True, eq=False, kw_only=True)
class Lease:
    """An attempt that runs here."""

    job_id: str
    token: str
    #: The group that it holds, for a job of a FIFO group.
    group: Group | None = None
    #: Seconds that it may take.
    timeout: float
    signal: Signal
    #: Whether somebody has cancelled the job.
    cancelled: bool = False
    began: float = field(default_factory=time.monotonic)

    @property
    def lapsed(self) -> bool:
        return time.monotonic() > self.began + self.timeout + OVERTIME


class LeaseKeeper:
    """Renews leases from a thread of its own, which runs while any is held.

    Args:
        lease: seconds for which one lasts.
        stopping: whether this worker is about to end, and jobs should come to an end.
    """

    def __init__(
        self, attempts: Attempts, groups: Groups, *, lease: float, stopping: Callable[[], bool]
    ) -> None:
        self._attempts = attempts
        self._groups = groups
        self._interval = min(LONGEST_INTERVAL, lease / 3)
        self._stopping = stopping
        self._held: set[Lease] = set()
        self._changed = threading.Condition(threading.Lock())
        self._thread: threading.Thread | None = None
        #: Whether the thread waits for a lease. Most of the time it sleeps, so that jobs which end
        #: at once do not wake it.
        self._idle = True

    def holding(self, lease: Lease) -> "_Holding":
        """Keep a lease that was just taken, inside the block."""
        return _Holding(self, lease)

    def hold(self, lease: Lease) -> None:
        with self._changed:
            self._held.add(lease)
            if self._idle:
                self._wake()

    def let_go(self, lease: Lease) -> None:
        with self._changed:
            self._held.discard(lease)

    def _wake(self) -> None:
        if self._thread is None:
            thread = VitalThread(self._run, name="queue-run-leases", on_loss=end_worker)
            thread.start()
            self._thread = thread
        self._idle = False
        self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._idle = not self._held
                while self._idle:
                    self._changed.wait()
            # Most jobs have ended by then, and cost nothing here.
            time.sleep(self._interval)
            with self._changed:
                held = [lease for lease in self._held if not lease.lapsed]
            if self._stopping():
                for lease in held:
                    lease.signal.set()
            try:
                self._renew(held)
            except (RedisError, OSError) as error:
                log.warning("%d leases could not be renewed: %s", len(held), error)
            except Exception:
                # The thread serves every job of the process.
                log.exception("renewing leases failed unexpectedly")

    def _renew(self, held: list[Lease]) -> None:
        jobs = [lease for lease in held if lease.group is None]
        in_groups = [(lease, lease.group) for lease in held if lease.group is not None]
        cancelled: list[bool] = []
        if jobs:
            cancelled += self._attempts.renew([(each.job_id, each.token) for each in jobs])
        if in_groups:
            cancelled += self._groups.renew(
                [(group, each.token, each.job_id) for each, group in in_groups]
            )
        for lease, is_cancelled in zip(
            [*jobs, *(each for each, _ in in_groups)], cancelled, strict=True
        ):
            if is_cancelled:
                lease.cancelled = True
                lease.signal.set()


class _Holding:
    """The block in which a lease is kept."""

    __slots__ = ("_keeper", "_lease")

    def __init__(self, keeper: LeaseKeeper, lease: Lease) -> None:
        self._keeper = keeper
        self._lease = lease

    def __enter__(self) -> None:
        self._keeper.hold(self._lease)

    def __exit__(self, *exc: object) -> None:
        self._keeper.let_go(self._lease)
