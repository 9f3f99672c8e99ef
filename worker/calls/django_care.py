"""Django's database connections, cared for around each call of the application's code.

Django closes connections that are broken or too old before and after each HTTP request. Nobody did
it here, so that a restart of the database would fail every later call. A connection belongs to a
thread: plain code is cared for in the thread that runs it. Asynchronous code reaches the database
through `sync_to_async`; each task is lent a thread for that when it first needs one, as under
Django's own ASGI server, from a pool that keeps threads and their connections.

Nothing of Django is imported unless the application uses it.
"""

import importlib
import importlib.util
import logging
import os
import sys
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import AbstractContextManager
from contextvars import Token
from types import TracebackType
from typing import Any

from worker.calls.around import Around
from worker.calls.threads import HandlerThreads

log = logging.getLogger(__name__)

#: Names the settings of a Django project; Django's own variable.
SETTINGS_MODULE = "DJANGO_SETTINGS_MODULE"
#: Threads that are lent, where nobody has said how many.
THREADS = 16


def set_up() -> None:
    """Make Django ready when the environment names its settings, so that files may use models.

    Raises:
        Exception: whatever the project's settings and applications raise.
    """
    if os.environ.get(SETTINGS_MODULE) and importlib.util.find_spec("django") is not None:
        importlib.import_module("django").setup()


def variable() -> str:
    """Django's variable with its value, for messages."""
    return f"{SETTINGS_MODULE}={os.environ.get(SETTINGS_MODULE, '')}"


def care() -> Around:
    """Choose the care around each call, now that the application's files are loaded."""
    global _care
    # Not `django` itself: kombu imports a part of it wherever it is installed.
    if "django.apps" not in sys.modules:
        return Around()
    if _care is None:
        _care = DjangoCare()
        os.register_at_fork(after_in_child=_care.forget_inherited)
    # What was opened while files were imported is no connection that forked processes may share.
    _care.close_all()
    return _care


_care: "DjangoCare | None" = None


class DjangoCare(Around):
    """Closes connections that are broken or too old, before and after each call."""

    idle = False

    def __init__(self) -> None:
        self._here = _Here(self)
        self._threads = LentThreads(self)
        #: Of a parent process: kept, since their ends would end the parent's connections.
        self._inherited: list[Any] = []

    def call(self) -> AbstractContextManager[object]:
        return self._here

    def task(self) -> AbstractContextManager[object]:
        return _Task(self, self._threads)

    def leave(self) -> None:
        self.close_all()

    def limit_threads(self, most: int) -> None:
        self._threads.limit = most

    def end(self) -> None:
        self._threads.end()

    # Called in the thread whose connections are meant. A failure here never fails the call.

    def before(self) -> None:
        self._safely("reset_queries", "close_old_connections")

    def after(self) -> None:
        self._safely("close_old_connections")

    def close_broken(self) -> None:
        """Close what has failed, and nothing that others in this thread may be using."""
        for connection in self._connections():
            if connection.errors_occurred:
                connection.close_if_unusable_or_obsolete()

    def close_all(self) -> None:
        """Close every connection of this thread."""
        if not _is_ready():
            return
        try:
            importlib.import_module("django.db").connections.close_all()
            importlib.import_module("django.core.cache").caches.close_all()
        except Exception:
            log.exception("Django's connections could not be closed")

    def forget_inherited(self) -> None:
        """Use no connection of the parent, and close none: both would break the parent's."""
        self._threads = LentThreads(self, self._threads.limit)
        if not _is_ready():
            return
        try:
            connections = importlib.import_module("django.db").connections
            for alias in connections:
                inherited = connections[alias]
                pools = getattr(type(inherited), "_connection_pools", None)
                self._inherited += [inherited, dict(pools or {})]
                if pools:
                    pools.clear()
                del connections[alias]
        except Exception:
            log.exception("Django's connections of the parent process could not be let go")

    def _connections(self) -> list[Any]:
        if not _is_ready():
            return []
        connections = importlib.import_module("django.db").connections
        return list(connections.all(initialized_only=True))

    def _safely(self, *functions: str) -> None:
        if not _is_ready():
            return
        database = sys.modules.get("django.db")
        for name in functions:
            try:
                getattr(database, name)()
            except Exception:
                log.exception("%s of Django failed", name)


def _is_ready() -> bool:
    """Tell whether Django was set up, by us or by the application."""
    apps = sys.modules.get("django.apps")
    return apps is not None and apps.apps.ready and "django.db" in sys.modules


class _Here:
    """The block around plain code; one object for all threads."""

    def __init__(self, care: DjangoCare) -> None:
        self._care = care

    def __enter__(self) -> None:
        self._care.before()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._care.after()


class _Task:
    """The block around asynchronous code: what that hands to `sync_to_async` runs in one lent
    thread."""

    def __init__(self, care: DjangoCare, threads: "LentThreads") -> None:
        self._care = care
        self._threads = threads
        self._lent: Borrowed | None = None
        self._token: Token[Any] | None = None

    def __enter__(self) -> None:
        asgiref = sys.modules.get("asgiref.sync")
        if asgiref is None:
            return
        self._lent = Borrowed(self._threads)
        context = asgiref.ThreadSensitiveContext()
        asgiref.SyncToAsync.context_to_thread_executor[context] = self._lent
        self._token = asgiref.SyncToAsync.thread_sensitive_context.set(context)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._lent is not None and self._token is not None:
            self._token.var.reset(self._token)
            self._lent.give_back()
        # Of code that uses the database on the event loop itself (DJANGO_ALLOW_ASYNC_UNSAFE).
        self._care.after()


class _Leaving(Around):
    """The care for lent threads: tasks that borrow them care for their calls themselves."""

    def __init__(self, care: DjangoCare) -> None:
        self._care = care

    def leave(self) -> None:
        self._care.close_all()


class LentThreads:
    """Threads that tasks borrow, each with its connections.

    Args:
        limit: threads at most. Beyond it tasks share: none waits for another one's end.
    """

    def __init__(self, care: DjangoCare, limit: int = THREADS) -> None:
        self.limit = limit
        self._care = care
        self._leaving = _Leaving(care)
        self._users: Counter[HandlerThreads] = Counter()
        #: Those that nobody uses; the one that was used last is lent first.
        self._idle: list[HandlerThreads] = []
        self._lock = threading.Lock()

    def borrow(self) -> HandlerThreads:
        with self._lock:
            thread = self._pick()
            self._users[thread] += 1
            first = self._users[thread] == 1
            thread.submit(self._care.before if first else self._care.close_broken)
            return thread

    def give_back(self, thread: HandlerThreads) -> None:
        with self._lock:
            self._users[thread] -= 1
            if self._users[thread] == 0:
                # Behind what still runs there, also what was cancelled.
                thread.submit(self._care.after)
                self._idle.append(thread)

    def end(self) -> None:
        with self._lock:
            for thread in self._users:
                thread.shutdown()
            self._users.clear()
            self._idle.clear()

    def _pick(self) -> HandlerThreads:
        if self._idle:
            return self._idle.pop()
        if len(self._users) < self.limit:
            return HandlerThreads(1, around=self._leaving, name="queue-run-django")
        return min(self._users, key=lambda each: self._users[each])


class Borrowed(Executor):
    """The thread of one task, borrowed when something is first run in it."""

    def __init__(self, threads: LentThreads) -> None:
        self._threads = threads
        self._thread: HandlerThreads | None = None
        self._given_back = False
        self._lock = threading.Lock()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        with self._lock:
            if not self._given_back:
                self._thread = self._thread or self._threads.borrow()
                return self._thread.submit(fn, *args, **kwargs)
        # A task that the handler has left behind.
        thread = self._threads.borrow()
        try:
            return thread.submit(fn, *args, **kwargs)
        finally:
            self._threads.give_back(thread)

    def give_back(self) -> None:
        with self._lock:
            self._given_back = True
            if self._thread is not None:
                self._threads.give_back(self._thread)
