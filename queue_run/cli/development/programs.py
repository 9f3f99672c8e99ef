"""The programs of a development session: their commands, names and order."""

import sys
from collections.abc import Mapping
from pathlib import Path

from queue_run.cli.supervision.reporter import Program, StopStage
from queue_run.cli.worker import worker_arguments
from queue_run.settings import Settings

#: Jobs run side by side in one process: nothing to fork, and quick to restart.
JOB_POOL = ("-P", "threads", "-c", "10")

#: Celery warns of root in eight lines. In a container for development everybody is root.
ROOT_IS_FINE = ("-W", "ignore:You're running the worker with superuser privileges")


def application_programs(
    settings: Settings, environ: Mapping[str, str], *, folder: Path, own_broker: bool
) -> list[Program]:
    """The push server and the two workers, of which the one of jobs has beat as its child.

    Args:
        folder: for files of the session.
        own_broker: the broker is this session's, and nobody else works with it.
    """
    # So beat starts anew with the files; what it has in its own file keeps their last runs.
    beat = ("-B", "-s", str(folder / "beat-schedule"))
    return [
        Program(
            name="web",
            command=(sys.executable, "-m", "push_server"),
            environ=environ,
            cwd=settings.app_path,
            # It drains: the workers have to answer what it has read.
            stops=StopStage.FIRST,
        ),
        _worker("sockets", settings, environ),
        _worker(
            "jobs",
            settings,
            environ,
            *beat,
            pool=JOB_POOL,
            module="queue_run.cli.development.jobs_worker" if own_broker else "celery",
        ),
    ]


def _worker(
    serve: str,
    settings: Settings,
    environ: Mapping[str, str],
    *options: str,
    pool: tuple[str, ...] | None = None,
    module: str = "celery",
) -> Program:
    arguments = worker_arguments(serve, settings, pool)
    return Program(
        name=serve,
        # Without Celery's banner of thirty lines, which every change of a file would repeat.
        command=(sys.executable, *ROOT_IS_FINE, "-m", module, "--quiet", *arguments, *options),
        environ=environ,
        cwd=settings.app_path,
        reloads=True,
    )
