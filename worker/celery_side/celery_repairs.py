"""Repairs of Celery, made when a worker starts: without them, a worker could hang or end."""

import functools
import os
import threading
from typing import Any

from billiard import heap, util
from celery import signals
from celery.app import utils
from celery.concurrency.asynpool import AsynPool
from kombu.asynchronous.hub import Hub

from queue_run.settings.masking import masked


def repair_celery() -> None:
    """Repair the Celery of this process; may be called again."""
    _let_a_second_sigterm_interrupt_the_first()
    _pass_over_children_that_have_ended()
    _share_memory_without_files()
    _hide_passwords_of_settings()


def _let_a_second_sigterm_interrupt_the_first() -> None:
    # Celery sends it from its handler of SIGTERM, holding the signal's lock for a moment: a second
    # SIGTERM in that moment would wait for the first, in the same thread, and the worker for ever.
    signals.worker_shutting_down.lock = threading.RLock()  # type: ignore[attr-defined]


def _pass_over_children_that_have_ended() -> None:
    """Let a worker reconnect to its broker while its pool still lists a child that was killed.

    The end of a child is seen some time, up to 5 s, before the pool takes it off its list. Celery
    registers all that are listed again when it has reconnected, and ended as a whole where the
    descriptor of one was given up (celery/celery#9250).
    """
    pools: Any = AsynPool
    track = pools._track_child_process
    if getattr(track, "passes_over", False):
        return

    # As `queue_run.broker.fence` looks at it, in a process that makes another Celery application.
    @functools.wraps(track)
    def track_if_alive(pool: AsynPool, process: Any, hub: Hub) -> None:
        if getattr(process, "_sentinel_poll", process) is not None:
            track(pool, process, hub)

    track_if_alive.passes_over = True  # type: ignore[attr-defined]
    pools._track_child_process = track_if_alive


def _share_memory_without_files() -> None:
    """Let the processes of a prefork worker share memory where no folder can be written to.

    Celery makes a file for it in the folder for temporary files, and removes the name at once. A
    worker ended where there is no such folder, as in a container whose file system is read-only.
    """
    module: Any = heap
    arena = module.Arena
    make = arena.__init__
    if not hasattr(os, "memfd_create") or getattr(make, "without_files", False):
        return

    def make_without_file(self: Any, size: int, fd: int = -1) -> None:
        if fd == -1:
            fd = os.memfd_create("queue-run")
            util.Finalize(self, os.close, (fd,))
            os.ftruncate(fd, size)
        make(self, size, fd)

    make_without_file.without_files = True  # type: ignore[attr-defined]
    arena.__init__ = make_without_file


def _hide_passwords_of_settings() -> None:
    """Let no setting show the password of a URL: `celery inspect conf` shows them all.

    Celery hides that of the broker, and none of a URL that another setting names.
    """
    module: Any = utils
    hide = module.filter_hidden_settings
    if getattr(hide, "hides_urls", False):
        return

    def hide_all(conf: Any) -> Any:
        return {name: _without_password(value) for name, value in hide(conf).items()}

    hide_all.hides_urls = True  # type: ignore[attr-defined]
    module.filter_hidden_settings = hide_all


def _without_password(value: Any) -> Any:
    return masked(value) if isinstance(value, str) else value
