"""The programs of a development session: their commands, names and order."""

import sys
from collections.abc import Mapping

from queue_run.cli.supervision.reporter import Program
from queue_run.cli.worker import worker_arguments
from queue_run.settings import Settings

#: Jobs run side by side in one process: nothing to fork, and quick to restart.
JOB_POOL = ("-P", "threads", "-c", "10")

#: Celery warns of root in eight lines. In a container for development everybody is root.
ROOT_IS_FINE = ("-W", "ignore:You're running the worker with superuser privileges")


def application_programs(settings: Settings, environ: Mapping[str, str]) -> list[Program]:
    """The push server and the two workers."""
    return [
        Program(
            name="web",
            command=(sys.executable, "-m", "push_server"),
            environ=environ,
            cwd=settings.app_path,
        ),
        _worker("sockets", settings, environ),
        _worker("jobs", settings, environ, pool=JOB_POOL),
    ]


def _worker(
    serve: str,
    settings: Settings,
    environ: Mapping[str, str],
    pool: tuple[str, ...] | None = None,
) -> Program:
    arguments = worker_arguments(serve, settings, pool)
    return Program(
        name=serve,
        # Without Celery's banner of thirty lines, which every change of a file would repeat.
        command=(sys.executable, *ROOT_IS_FINE, "-m", "celery", "--quiet", *arguments),
        environ=environ,
        cwd=settings.app_path,
        reloads=True,
    )
