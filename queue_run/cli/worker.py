"""`queue-run worker`."""

import os
import sys
from pathlib import Path

import click

from queue_run.cli.command_line.environment import with_options
from queue_run.cli.command_line.errors import check_not_hidden
from queue_run.cli.command_line.worker_arguments import POOLS, worker_arguments
from queue_run.settings import Settings


@click.command("worker")
@click.option(
    "--serve",
    type=click.Choice(list(POOLS)),
    default="all",
    show_default=True,
    help="Messages of WebSockets, jobs, or both.",
)
@click.option(
    "--app",
    "app_dir",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Folder that holds sockets/ and queues/ [QUEUE_RUN_APP_DIR, this one].",
)
@click.argument("celery_args", metavar="[-- CELERY OPTIONS]", nargs=-1, type=click.UNPROCESSED)
def command(serve: str, app_dir: Path | None, celery_args: tuple[str, ...]) -> None:
    """Run a worker: it runs the application's handlers and jobs.

    A worker is a Celery worker; what follows '--' goes to Celery unchanged and wins over what this
    command chooses: the queues (-Q, -X), the pool (-P: solo for sockets, prefork for jobs, threads
    for all), the name (-n) and the log level (-l).

    \b
    Examples:
      queue-run worker                                  both, in one process
      queue-run worker --serve sockets
      queue-run worker --serve jobs -- -c 4             four job processes
      queue-run worker --serve jobs -- -P threads -c 100
      queue-run worker --serve sockets -- -n sockets2@%h   a second one on this host

    \b
    A file in queues/ may name a Celery queue of its own, config = Config(celery_queue="heavy").
    Every worker of jobs serves it. A worker that serves nothing else, and one that leaves it out
    (with the one of sockets, which '--serve jobs' leaves out too):
      queue-run worker --serve jobs -- -Q queue-run.heavy -n heavy@%h
      queue-run worker --serve jobs -- -X queue-run.heavy,queue-run.sockets

    \b
    The same without this command, for --serve sockets:
      celery -A worker worker -P solo -Q queue-run.sockets \\
        --without-gossip --without-mingle --without-heartbeat
    """
    environ = with_options(os.environ, app_dir=app_dir)
    settings = Settings.from_env(environ)
    check_not_hidden(Path.cwd(), settings.app_path)
    arguments = worker_arguments(serve, settings)
    os.execve(sys.executable, [sys.executable, "-m", "celery", *arguments, *celery_args], environ)
