"""Celery beat's scheduler: its file is there where something is scheduled, and may fail.

Beat keeps in a file when each queue had its last job. Without schedules there is nothing to keep,
so beat writes no file. Where the file cannot be read or written, beat says what that means and goes
on with what it has in memory: jobs come at their times all the same.
"""

import contextlib
import errno
import logging
import shelve
from collections.abc import Callable
from typing import Any

from celery.beat import PersistentScheduler, SchedulingError

from queue_run.fullness import Fullness, is_full

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


class _Memory(dict[str, Any]):
    """What Celery keeps in its file, without a file."""

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
