"""The programs of a development session: their commands, names and order."""

import sys
from collections.abc import Mapping
from pathlib import Path

from queue_run.cli.command_line.worker_arguments import worker_arguments
from queue_run.cli.supervision.reporter import Program, StopStage
from queue_run.settings import Settings

#: Jobs run side by side in one process: nothing to fork, and quick to restart.
JOB_POOL = ("-P", "threads", "-c", "10")

#: Celery warns of root in eight lines. In a container for development everybody is root.
ROOT_IS_FINE = ("-W", "ignore:You're running the worker with superuser privileges")


def push_server(settings: Settings, environ: Mapping[str, str]) -> Program:
    return Program(
        name="web",
        command=(sys.executable, "-m", "push_server"),
        environ=environ,
        cwd=settings.app_path,
        # It drains: the workers have to answer what it has read.
        stops=StopStage.FIRST,
    )


def sockets_worker(
    settings: Settings, environ: Mapping[str, str], ready: Path, beside: bool
) -> Program:
    """The worker of messages.

    Args:
        ready: a file that it makes when it is ready.
        beside: another one runs, which has the usual name.
    """
    name = ("-n", "sockets2@%h") if beside else ()
    return _worker(
        "sockets", settings, environ, *name, module=(_module("sockets_worker"), str(ready))
    )


def jobs_worker(
    settings: Settings, environ: Mapping[str, str], *, folder: Path, own_broker: bool
) -> Program:
    """The worker of jobs, which has beat as its child.

    Args:
        folder: for files of the session.
        own_broker: the broker is this session's, and nobody else works with it.
    """
    # So beat starts anew with the files; what it has in its own file keeps their last runs.
    beat = ("-B", "-s", str(folder / "beat-schedule"))
    module = _module("jobs_worker") if own_broker else "celery"
    return _worker("jobs", settings, environ, *beat, pool=JOB_POOL, module=(module,))


def _module(name: str) -> str:
    return f"queue_run.cli.development.processes.{name}"


def _worker(
    serve: str,
    settings: Settings,
    environ: Mapping[str, str],
    *options: str,
    pool: tuple[str, ...] | None = None,
    module: tuple[str, ...],
) -> Program:
    arguments = worker_arguments(serve, settings, pool)
    return Program(
        name=serve,
        # Without Celery's banner of thirty lines, which every change of a file would repeat.
        command=(sys.executable, *ROOT_IS_FINE, "-m", *module, "--quiet", *arguments, *options),
        environ=environ,
        cwd=settings.app_path,
        reloads=True,
    )
