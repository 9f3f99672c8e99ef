"""Celery beat's scheduler. It keeps a file only for schedules, and goes on when the file fails.

Beat keeps in a file when each queue had its last job. Without schedules there is nothing to keep,
so beat writes no file. Where the file cannot be read or written, beat says what that means and goes
on with what it has in memory: jobs come at their times all the same.

Beat goes by the clock of its machine. Where that was ahead, and is set right, last jobs lie in the
future: they count as of now, or nothing would be pushed until that time has come.
"""

import contextlib
import errno
import importlib
import logging
import shelve
import sys
import time
from collections.abc import Callable
from typing import Any

from celery.apps import beat
from celery.beat import PersistentScheduler, SchedulingError
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from queue_run.broker import fence
from queue_run.errors import UnfitPackage
from queue_run.logs.reminders import Reminder
from queue_run.storage.fullness import Fullness, is_full
from queue_run.storage.patience import watched_client

log = logging.getLogger(__name__)

#: Errors of a place, not of what is in the file: the file stays as it is, since its last runs are
#: good again when the place is.
PLACES = frozenset(
    {
        errno.EACCES,
        errno.EPERM,
        errno.EROFS,
        errno.ENOENT,
        errno.ENOTDIR,
        errno.EISDIR,
        errno.ENAMETOOLONG,
        errno.ELOOP,
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EFBIG,
        errno.EIO,
        errno.EMFILE,
        errno.ENFILE,
        errno.EAGAIN,
    }
)

#: The longest pause between two tries to reach Redis, in seconds.
LONGEST_PAUSE = 2.0


class Beat(beat.Beat):
    """Celery's beat, which waits also where RedBeat asks a Redis that is away or not ready."""

    # Celery's, and not in its stubs.
    scheduler_cls: Any

    def start_scheduler(self) -> Any:
        if "redbeat" in str(self.scheduler_cls):
            _check_redbeat()
        app: Any = self.app
        url, options = str(app.conf.redbeat_redis_url), app.conf.redbeat_redis_options
        if url.startswith(("redis:", "rediss:", "unix:")):
            # RedBeat takes the client that is there, in place of one that fails at once.
            app.redbeat_redis = watched_client(
                url,
                timeout=options["socket_timeout"],
                connect_timeout=options["socket_connect_timeout"],
                decode_responses=True,
                retry=_Patience(),
            )
        return super().start_scheduler()


def _check_redbeat() -> None:
    # Else it would be loaded a moment later, and looked at by nobody.
    importlib.import_module("redbeat.schedulers")
    try:
        fence.check()
    except UnfitPackage as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(2)


class _Patience(Retry):
    """Tries for ever, and says why once a minute."""

    def __init__(self) -> None:
        super().__init__(ExponentialBackoff(cap=LONGEST_PAUSE, base=0.1), -1)
        self._away = Reminder(log, "Beat waits for Redis: %s")

    def __deepcopy__(self, memo: dict[int, Any]) -> "_Patience":
        # redis-py copies it for each connection: all of them together say why once a minute.
        return self

    def call_with_retry(self, do: Any, fail: Any, *arguments: Any, **options: Any) -> Any:
        def told(error: Exception, *more: Any) -> Any:
            self._away.tell(error)
            return fail(error, *more)

        return super().call_with_retry(do, told, *arguments, **options)


#: Seconds by which a clock that is only made to go faster or slower is off between two looks.
STEP = 2.0


class _Memory(dict[str, Any]):
    """A dict in place of the file in which Celery's scheduler keeps its entries."""

    def sync(self) -> None:
        pass

    def close(self) -> None:
        pass


class Scheduler(PersistentScheduler):
    """Celery's own scheduler, which can do without its file."""

    schedule_filename: str
    _store: Any
    _remove_db: Callable[[], None]
    _fullness = Fullness(log, "jobs whose time has come are not pushed")
    #: The entries by their next times, as the clock was when they were put there.
    _heap: list[Any] | None
    #: By how much the clock was ahead of one that nobody sets, at the last look.
    _ahead: float | None = None

    def tick(self, *arguments: Any, **named: Any) -> float:
        self._follow_clock()
        seconds: float = super().tick(*arguments, **named)
        return seconds

    def _follow_clock(self) -> None:
        """Look whether the clock was set."""
        before, self._ahead = self._ahead, time.time() - time.monotonic()
        if before is not None and abs(self._ahead - before) < STEP:
            return
        late = []
        for name, entry in self.schedule.items():
            now = entry.default_now()
            if entry.last_run_at is not None and entry.last_run_at > now:
                entry.last_run_at = now
                late.append(name)
        # Made anew, by the clock as it is.
        self._heap = None
        if late:
            log.warning(
                "The clock of this machine was set back: the last jobs of %s lay in the future, "
                "and count as of now",
                ", ".join(sorted(late)),
            )

    def setup_schedule(self) -> None:
        try:
            super().setup_schedule()
        except Exception as error:
            self._go_on_in_memory(error)
            super().setup_schedule()

    def apply_async(self, *arguments: Any, **options: Any) -> Any:
        try:
            found = super().apply_async(*arguments, **options)
        except SchedulingError as error:
            if not is_full(error):
                raise
            self._fullness.refused()
            return None
        self._fullness.taken()
        return found

    def sync(self) -> None:
        # Kept first: a file that failed cannot be read for certain.
        entries = dict(self.schedule) if self._store is not None else {}
        try:
            super().sync()
        except Exception as error:
            self._go_on_in_memory(error)
            self._store.update(entries=entries)

    def close(self) -> None:
        try:
            super().close()
        except Exception as error:
            self._go_on_in_memory(error)

    @property
    def info(self) -> str:
        return super().info if self.app.conf.beat_schedule else "    . db -> none"

    def _open_schedule(self) -> Any:
        if isinstance(self._store, _Memory):
            return self._store
        if not self.app.conf.beat_schedule:
            return _Memory()
        return shelve.open(self.schedule_filename, writeback=True)

    def _create_schedule(self) -> None:
        create: Callable[[], None] = super()._create_schedule  # type: ignore[misc]
        try:
            create()
        except Exception as error:
            # What is kept may be of a class that this release does not have any more.
            self._store = self._destroy_open_corrupted_schedule(error)
            create()

    def _destroy_open_corrupted_schedule(self, exc: Exception) -> Any:
        if isinstance(exc, OSError) and exc.errno in PLACES:
            raise exc
        log.warning(
            "Beat's file %s is damaged (%s) and is made anew: what was missed while beat was down "
            "is not made up for, and intervals begin now",
            self.schedule_filename,
            exc,
        )
        self._leave_file()
        self._remove_db()
        return self._open_schedule()

    def _go_on_in_memory(self, error: Exception) -> None:
        log.warning(
            "Beat cannot use its file %s (%s) and goes on without it until it is started again: "
            "jobs are pushed at their times, but at the next start what was missed is not made up "
            "for, and intervals begin anew. Name a file in a folder that beat may write to: -s "
            "FILE, or BEAT_SCHEDULE with the Procfile of queue-run",
            self.schedule_filename,
            error,
        )
        self._leave_file()
        self._store = _Memory()

    def _leave_file(self) -> None:
        # Else it is closed when it is collected, and Python prints what fails then.
        database: Any = getattr(self._store, "dict", None)
        for each in (self._store, database):
            with contextlib.suppress(Exception):
                each.close()
