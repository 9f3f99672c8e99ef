"""A check for the semaphores that a worker needs to share work with processes of its own."""

from typing import Any

import billiard
from celery import concurrency
from celery.concurrency.prefork import TaskPool


def problem(worker: Any) -> str:
    """Say in one sentence what to change, if a worker could not start its processes; else empty.

    Without this check, Celery would end with a traceback.

    Args:
        worker: Celery's, of which options and pool are known, and nothing is started.
    """
    pool = concurrency.get_implementation(worker.pool_cls)
    if not (issubclass(pool, TaskPool) or worker.options.get("beat")):
        return ""
    try:
        billiard.Lock()
    except OSError as error:
        return (
            f"this system gives no semaphores ({error}), which workers with -P prefork or -B need: "
            "let the user write to /dev/shm, or use -P threads, and beat as a process of its own"
        )
    return ""
